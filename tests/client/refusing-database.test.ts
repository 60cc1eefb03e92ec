/** A state database that takes no more of what the client would write: it costs what would have been remembered, never the client. */

import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import t from 'tap';
import { fetchNar, get, Lab, statusOf, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

/** From now on the database fails at this, as on a disk with an error. */
function refuse(path: string, what: string): void {
  const db = new DatabaseSync(path);
  db.exec(`CREATE TRIGGER refused BEFORE ${what} BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END`);
  db.close();
}

t.test('the store directory of an upstream need not be written down', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream();
  const dataDir = join(lab.dir, 'data');
  await (await lab.client([], [], { dataDir, noUpstream: true })).close();
  refuse(join(dataDir, 'client.sqlite'), 'INSERT ON facts');
  const client = await lab.client([upstream], [], { dataDir });
  for (let times = 0; times < 2; times++) {
    const answer = await get(client.url, 'nix-cache-info');
    t.equal(answer.status, 200);
    t.match(answer.body.toString(), 'StoreDir: /nix/store\n');
  }
});

t.test('files that cannot be forgotten stay, and Nix gets the next', async (t) => {
  const lab = await Lab.open(t);
  const nars = ['a', 'b', 'c'].map((name) => madeNar({ name, sizeBytes: 500_000 }));
  const upstream = await lab.upstream(nars);
  const dataDir = join(lab.dir, 'data');
  await (await lab.client([upstream], [], { dataDir })).close();
  refuse(join(dataDir, 'client.sqlite'), 'DELETE ON held');
  const client = await lab.client([upstream], [], { dataDir, cacheSizeBytes: 600_000 });
  for (const times of [1, 2]) {
    for (const nar of nars) {
      t.ok((await fetchNar(client, nar)).body.equals(nar.bytes), `${times}`);
      await until(() => statusOf(client).transfers.running.length === 0);
    }
  }
});
