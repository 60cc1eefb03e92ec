/** A clock that is put forward or back by a year: what was remembered until some time is not remembered for a year. */

import t from 'tap';
import { fetchNar, Lab, statusOf, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

const yearMs = 365 * 24 * 3_600_000;
const nars = ['a', 'b', 'c', 'd'].map((name) => madeNar({ name, sizeBytes: 400_000 }));
const [first, second, third, fourth] = nars as [
  (typeof nars)[0],
  (typeof nars)[0],
  (typeof nars)[0],
  (typeof nars)[0],
];

for (const [name, jumpMs] of [
  ['forward', yearMs],
  ['back', -yearMs],
] as const) {
  t.test(
    `put ${name} by a year, the clock changes nothing about what Nix gets, nor where from`,
    async (t) => {
      const lab = await Lab.open(t);
      const catalog = await lab.catalog(nars);
      let offMs = 0;
      const config = { clock: () => Date.now() + offMs, noUpstream: true };
      const client = await lab.client([], [catalog], config);
      t.ok((await fetchNar(client, first)).body.equals(first.bytes));
      offMs = jumpMs;
      for (const nar of [second, first]) t.ok((await fetchNar(client, nar)).body.equals(nar.bytes));
      await until(() => statusOf(client).cache.files === 2);
      t.match(statusOf(client).nars, { swarm: 2, http: 0, held: 1 });
      await client.close();
      // A clock that a machine without a battery begins with, and that is set later.
      const restarted = await lab.client([], [catalog], { ...config, clock: Date.now });
      t.ok((await fetchNar(restarted, third)).body.equals(third.bytes));
      t.ok((await fetchNar(restarted, first)).body.equals(first.bytes));
      t.match(statusOf(restarted).nars, { swarm: 1, held: 1 });
    },
  );
}

t.test('a catalog that rests when the clock is put back is asked again all the same', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog(nars);
  const upstream = await lab.upstream(nars);
  let offMs = 0;
  const client = await lab.client([upstream], [catalog], { clock: () => Date.now() + offMs });
  catalog.intercept = (_request, response) => {
    response.writeHead(500).end();
    return true;
  };
  await fetchNar(client, first);
  await until(() => statusOf(client).catalogs[0]?.state === 'resting');
  catalog.intercept = undefined;
  offMs = -yearMs;
  await fetchNar(client, second);
  await until(() => catalog.resolves > 0);
});

t.test('peers that were looked up before the clock was put back are looked up again', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog(nars);
  let offMs = 0;
  // Nothing is kept, so that the same file is fetched twice.
  const config = { clock: () => Date.now() + offMs, noUpstream: true, cacheSizeBytes: 0 };
  const client = await lab.client([], [catalog], config);
  await fetchNar(client, fourth);
  const before = catalog.resolves;
  offMs = -yearMs;
  t.ok((await fetchNar(client, fourth)).body.equals(fourth.bytes));
  await until(() => catalog.resolves > before);
});

t.test('who gave wrong bytes before the clock was put back may give others again', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream(nars);
  upstream.put(first.narInfo.url, Buffer.alloc(first.bytes.length, 7));
  let offMs = 0;
  const client = await lab.client([upstream], [], { clock: () => Date.now() + offMs });
  t.notOk((await fetchNar(client, first)).complete);
  await until(() => statusOf(client).transfers.running.length === 0);
  upstream.put(first.narInfo.url, first.bytes);
  t.equal((await fetchNar(client, first)).status, 404, 'it is not asked again at once');
  offMs = -yearMs;
  t.ok((await fetchNar(client, first)).body.equals(first.bytes));
});
