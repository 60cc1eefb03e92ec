import t from 'tap';
import { Bitmap } from '../../nar/bitmap.ts';
import { type CoverageAnswer, type OrdinalBase, printCoverage } from '../../parts/coverage.ts';
import { CoverageBook, type CoverageBookOptions, type CoverageRefusal } from '../../parts/coverage-book.ts';
import { tryMirror } from '../../parts/coverage-trial.ts';
import { CoveringPeers } from '../../parts/covering-peers.ts';
import type { PeerAddress } from '../../swarm/address/peer-address.ts';
import { silentLogger } from '../../web/log.ts';
import { sha256 } from '../helpers/cache-builder.ts';
import { seeding } from '../swarm/seed-fixture.ts';

const ordinals = 16;
const base: OrdinalBase = {
  ordinals,
  byOrdinal: (ordinal) => (ordinal < ordinals ? sha256(Buffer.from(`${ordinal}`)) : undefined),
};

interface Lab {
  book: CoverageBook;
  clock: { ms: number };
  /** Resolves when the trial that this started is over. */
  tell(held: number[], from?: { host?: string; port?: number }): Promise<CoverageAnswer | CoverageRefusal>;
}

function open(
  t: { teardown(fn: () => Promise<void>): void },
  options: Partial<CoverageBookOptions> = {},
): Lab {
  const clock = { ms: 1_000_000 };
  const trials: Promise<void>[] = [];
  const { trial = async () => {} } = options;
  const book = new CoverageBook({
    catalog: base,
    holds: () => true,
    logger: silentLogger,
    clock: () => clock.ms,
    ...options,
    trial: (...of) => {
      const tried = trial(...of);
      trials.push(tried);
      return tried;
    },
  });
  t.teardown(() => book.close());
  return {
    book,
    clock,
    async tell(held, { host = '192.0.2.1', port = 6881 } = {}) {
      const bitmap = new Bitmap(ordinals);
      for (const ordinal of held) bitmap.add(ordinal);
      const answer = await book.take(JSON.parse(await printCoverage({ port, held: bitmap }, base)), host);
      await Promise.allSettled(trials.splice(0));
      // The book's own turn after the trial's.
      await new Promise(setImmediate);
      return answer;
    },
  };
}

const all = Array.from({ length: ordinals }, (_, ordinal) => ordinal);
const seedsIn = (answer: CoverageAnswer | CoverageRefusal): number[] =>
  'seeds' in answer ? [...answer.seeds] : [];

t.test(
  'a mirror is named for what it holds, at the address from which it came, until it does not come again',
  async (t) => {
    const { book, clock, tell } = open(t);
    t.ok(book.isEmpty);
    await tell([1, 3], { host: '::ffff:192.0.2.1' });
    t.same(book.peersOf(1), [{ host: '192.0.2.1', port: 6881 }]);
    t.same(book.peersOf(2), []);
    t.equal(book.seedsOf(3), 1);
    await tell([2, 3]);
    t.same(book.peersOf(1), [], 'what it no longer holds is forgotten');
    t.same(book.peersOf(2), [{ host: '192.0.2.1', port: 6881 }]);
    t.match(book.status().mirrors, [{ peers: '192.0.2.1:6881', nars: 2, knownSeconds: 0 }]);
    clock.ms += 59 * 60_000;
    t.equal(book.seedsOf(3), 1);
    clock.ms += 2 * 60_000;
    t.equal(book.seedsOf(3), 0);
    t.same(book.status().mirrors, []);
  },
);

t.test('a mirror is told how many others hold each, itself left out', async (t) => {
  const { tell } = open(t, {
    holds: (ordinal) => ordinal < 8,
    demand: () => [
      [5, 4],
      [999, 1],
    ],
  });
  t.same(seedsIn(await tell([1, 9])).slice(7, 10), [1, 0, 0]);
  await tell(all, { port: 2 });
  const answer = await tell([1, 9]);
  t.same(seedsIn(answer).slice(7, 10), [2, 1, 1]);
  t.same('demand' in answer ? [...answer.demand].slice(4, 7) : [], [0, 4, 0]);
  t.same(seedsIn(await tell(all, { port: 2 })).slice(7, 11), [1, 0, 1, 0], 'that with everything as well');
});

t.test('with an empty bitmap a mirror takes its leave', async (t) => {
  const { book, tell } = open(t);
  await tell([1]);
  await tell([]);
  t.ok(book.isEmpty);
});

t.test('who gives nothing when tried is not named, and loses what it had', async (t) => {
  let gives = true;
  const trial = async (): Promise<void> => {
    if (!gives) throw new Error('nothing');
  };
  const { book, clock, tell } = open(t, { trial });
  await tell([1]);
  gives = false;
  await tell([1, 2]);
  t.ok(book.isEmpty);
  t.equal(book.status().failedTrials, 1);
  t.match(await tell([1]), { status: 403, retrySeconds: 60 }, 'it is not tried again at once');
  gives = true;
  clock.ms += 61_000;
  await tell([1]);
  t.equal(book.seedsOf(1), 1);
});

t.test('there are bounds on mirrors, on those of an address, on memory and on requests', async (t) => {
  const { book, tell } = open(t, { limits: { mirrors: 3, mirrorsPerAddress: 2 } });
  await tell([1], { port: 1 });
  await tell([1], { port: 2 });
  t.match(await tell([1], { port: 3 }), { status: 403 });
  await tell([1], { host: '192.0.2.2' });
  t.match(await tell([1], { host: '192.0.2.3' }), { status: 503 });
  t.ok('seeds' in (await tell([1, 2], { port: 2 })), 'who is known may come again');
  t.equal(book.status().refused, 2);

  const small = open(t, { limits: { bitmapBytes: 3 } });
  await small.tell([1]);
  t.match(await small.tell([1], { port: 2 }), { status: 503 });
  t.ok('seeds' in (await small.tell(all, { port: 2 })), 'one that holds everything takes no memory');

  const often = open(t, { limits: { requestsPerAddressAndMinute: 2 } });
  await often.tell([1]);
  await often.tell([1]);
  t.match(await often.tell([1]), { status: 429 });
  t.match(await often.book.take({}, ''), { status: 400 });
});

t.test('who lets every trial wait keeps nobody at another address from theirs', async (t) => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const { book } = open(t, { trial: () => promise });
  t.teardown(() => resolve());
  const tell = async (host: string, port: number) =>
    book.take(
      JSON.parse(await printCoverage({ port, held: new Bitmap(ordinals, new Uint8Array([1, 0])) }, base)),
      host,
    );
  for (const port of [1, 2]) t.ok('seeds' in (await tell('192.0.2.1', port)));
  for (const port of [3, 4]) t.match(await tell('192.0.2.1', port), { status: 429 });
  t.ok('seeds' in (await tell('192.0.2.2', 1)));
});

t.test('of many mirrors some are named, not the same ones each time', async (t) => {
  const { book, tell } = open(t, { limits: { namedPerTorrent: 2, mirrorsPerAddress: 9 } });
  for (let port = 1; port <= 5; port++) await tell([1], { port });
  const named = new Set(
    Array.from({ length: 5 }, () => book.peersOf(1)).flatMap((peers) => peers.map(({ port }) => port)),
  );
  t.equal(book.peersOf(1).length, 2);
  t.equal(named.size, 5);
});

t.test('the tracker gets the same list for the same peers', async (t) => {
  const { book, tell } = open(t);
  const own: PeerAddress[] = [{ host: '192.0.2.9', port: 1 }];
  const infoHash = 'a'.repeat(40) as Parameters<CoveringPeers['after']>[1];
  const peers = new CoveringPeers(book, () => 1);
  t.equal(peers.after(own, infoHash), own, 'nothing is looked up while there are no mirrors');
  await tell([1]);
  const list = peers.after(own, infoHash);
  t.same(list, [...own, { host: '192.0.2.1', port: 6881 }]);
  t.equal(peers.after(own, infoHash), list);
  t.equal(peers.seedsOf(infoHash), 1);
  t.same(new CoveringPeers(book, () => 2).after(own, infoHash), own);
});

t.test('the trial: a piece is fetched from who says that it has it', async (t) => {
  const { server, held } = await seeding(t, [300_000, 70_000, 100]);
  const torrents = held.map(({ torrent }) => torrent);
  const { host, port } = server;
  const bitmap = new Bitmap(3, Uint8Array.from([7]));
  const signal = new AbortController().signal;
  let draws = 0;
  const random = (): number => (draws++ * 0.37) % 1;
  const torrentOf = (ordinal: number) => torrents[ordinal];
  await tryMirror({ torrentOf, random }, { host, port }, bitmap, signal);
  t.ok(server.status().uploadedBytes > 0);
  // It has none of these.
  const { held: others } = await seeding(t, [5_000]);
  await t.rejects(
    tryMirror({ torrentOf: () => others[0]?.torrent, random }, { host, port }, bitmap, signal),
    { code: 'swarm-exhausted' },
  );
  await t.rejects(tryMirror({ torrentOf: () => undefined, random }, { host, port }, bitmap, signal), {
    code: 'not-held',
  });
});

t.test('for how safe a NAR file is, mirrors in one network count once', async (t) => {
  const { book, tell } = open(t);
  await tell([0, 1], { host: '192.0.2.1' });
  await tell([1, 2], { host: '192.0.2.77' });
  await tell(all, { host: '198.51.100.9' });
  await tell([1], { host: '2001:db8:1:2::3' });
  await tell([1], { host: '2001:db8:1:9::4' });
  const seeds = book.independentSeeds();
  t.same([0, 1, 2, 3].map(seeds), [2, 3, 2, 1]);
  t.equal(book.seedsOf(1), 5);
});
