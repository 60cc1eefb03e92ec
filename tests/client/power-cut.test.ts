/** Small NAR files are not forced to the disk: what a power cut left of them is looked at before it is given to Nix. */
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import t from 'tap';
import { spoilt } from '../helpers/test-peer.ts';
import { fetchNar, Lab, statusOf, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

const nars = ['spoilt', 'good'].map((name) => madeNar({ name, sizeBytes: 50_000 }));

t.test('after a start of the machine a small NAR file is compared with its FileHash, once', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream(nars);
  const before = await lab.client([upstream]);
  for (const nar of nars) await fetchNar(before, nar);
  await until(() => statusOf(before).cache.files === 2);
  await before.close();

  const [first, second] = nars;
  if (first === undefined || second === undefined) throw new Error('there are two');
  const store = join(lab.dir, 'data', 'nar-files');
  const names = (await readdir(store, { recursive: true })).filter((name) => name.endsWith('.nar.xz'));
  const name = names.find((each) => each.includes(String(first.narInfo.url).slice(4, 40))) ?? '';
  await writeFile(join(store, name), spoilt(first.bytes));
  const start = (of: string): void => {
    const database = new DatabaseSync(join(lab.dir, 'data', 'client.sqlite'));
    database.prepare("UPDATE facts SET value = ? WHERE name = 'held-start'").run(of);
    database.close();
  };

  start('another one');
  const after = await lab.client([upstream]);
  const asked = upstream.requests.length;
  for (const nar of nars) t.ok((await fetchNar(after, nar)).body.equals(nar.bytes));
  const again = upstream.requests.slice(asked).filter(({ url }) => url.startsWith('/nar/'));
  t.equal(again.length, 1, 'what was spoilt is fetched again, the other is not');
  t.equal(statusOf(after).nars.held, 1);
  await until(() => statusOf(after).cache.files === 2);
  await after.close();
});
