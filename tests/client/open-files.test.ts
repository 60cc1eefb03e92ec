/** A client that the system lets open only few files, among those who want all of them. */

import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { printPublicKey } from '../../nar/signature.ts';
import { type Program, startProgram } from '../helpers/program.ts';
import { Lab, until } from './lab.ts';
import { cacheKey, catalogKey, madeNar } from './made-nar.ts';

const skip = existsSync('/proc/self/limits') ? false : 'needs /proc';

const nars = Array.from({ length: 9 }, (_, number) =>
  madeNar({ name: `nar-${number}`, sizeBytes: number % 3 === 0 ? 1_500_000 : 30_000, compression: 'none' }),
);

/** Of a connection that is kept, as Nix keeps its own. */
class Reader {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #url: URL;

  constructor(t: Test, url: string) {
    this.#url = new URL(url);
    t.teardown(() => this.#agent.destroy());
  }

  async nar({ storeHash }: (typeof nars)[number]): Promise<Buffer> {
    const narInfo = await this.#get(`${storeHash}.narinfo`);
    return this.#get(/^URL: (.*)$/m.exec(narInfo.toString())?.[1] ?? '');
  }

  async #get(path: string): Promise<Buffer> {
    const { hostname, port } = this.#url;
    return new Promise((resolve, reject) => {
      const sent = request({ hostname, port, path: `/${path}`, agent: this.#agent }, (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('error', reject);
        answer.on('end', () => {
          if (answer.statusCode === 200) resolve(Buffer.concat(chunks));
          else reject(new Error(`${path}: status ${answer.statusCode}`));
        });
      });
      sent.on('error', reject);
      sent.end();
    });
  }
}

async function start(t: Test, files: number): Promise<{ client: Program; open(): Promise<number> }> {
  const lab = await Lab.open(t);
  const [upstream, catalog] = await Promise.all([lab.upstream(nars), lab.catalog(nars)]);
  const client = await startProgram(
    [
      ...['client', '--data', join(lab.dir, 'data'), '--http', '127.0.0.1:0', '--upstream', upstream.url],
      ...['--catalog', catalog.url, '--catalog-key', printPublicKey(catalogKey.publicKey)],
      ...['--trusted-key', printPublicKey(cacheKey.publicKey), '--share', 'on', '--peers', '127.0.0.1:0'],
    ],
    ['sh', '-c', `ulimit -n ${files}; exec "$0" "$@"`],
  );
  t.teardown(() => client.kill());
  return { client, open: async () => (await readdir(`/proc/${client.process.pid}/fd`)).length };
}

function crowd(t: Test, address: string, count: number): { leave(): void; turnedAway(): number } {
  const at = address.lastIndexOf(':');
  const sockets = Array.from({ length: count }, () =>
    connect({ host: address.slice(0, at), port: Number(address.slice(at + 1)) }),
  );
  const leave = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  for (const socket of sockets) socket.on('error', () => {}).resume();
  t.teardown(leave);
  return { leave, turnedAway: () => sockets.filter(({ destroyed }) => destroyed).length };
}

t.test('peers that take all they can get leave Nix its connections', { skip }, async (t) => {
  const { client } = await start(t, 128);
  const { turnedAway } = crowd(t, client.peers ?? '', 200);
  await until(() => turnedAway() > 100);
  // Each over a connection of its own, at once.
  const got = await Promise.all(nars.map((nar) => new Reader(t, client.url).nar(nar)));
  t.ok(got.every((bytes, index) => bytes.equals(nars[index]?.bytes ?? Buffer.of())));
  t.equal(client.log().match(/few-open-files/g)?.length, 1, 'that there are few is told once');
  t.notMatch(client.log(), /too many open files/);
  t.equal(await client.stop(), 0);
});

t.test(
  'without a descriptor to spare NAR files come all the same, and are kept again later',
  { skip },
  async (t) => {
    const { client, open } = await start(t, 64);
    const reader = new Reader(t, client.url);
    const [first, ...others] = nars as [(typeof nars)[number], ...typeof nars];
    t.ok((await reader.nar(first)).equals(first.bytes));
    const idle = await open();
    const { leave } = crowd(t, new URL(client.url).host, 60);
    await until(async () => (await open()) >= 64);
    for (const nar of others.slice(0, 4)) t.ok((await reader.nar(nar)).equals(nar.bytes), 'right');
    leave();
    await until(async () => (await open()) <= idle);
    for (const nar of nars) t.ok((await reader.nar(nar)).equals(nar.bytes), 'right afterwards');
    await until(async () => ((await client.status()) as { cache: { files: number } }).cache.files >= 4);
    t.equal(await client.stop(), 0);
  },
);
