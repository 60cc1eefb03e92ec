/** What is remembered about peers, in memory and over restarts. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { KeptPeerBook } from '../../client/fetch/peer-book.ts';
import type { PeerAddress } from '../../swarm/address/peer-address.ts';
import { TorrentFetch } from '../../swarm/fetch/fetcher.ts';
import { silentLogger } from '../../web/log.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';
import { spoilt, TestPeer } from '../helpers/test-peer.ts';
import { collect, fileOf, pieceBytes } from '../swarm/fetch-fixture.ts';

t.beforeEach((t) => provesNothingStaysOpen(t));

const day = 24 * 60 * 60_000;

interface Books {
  path: string;
  clock: { nowMs: number };
  open(): KeptPeerBook;
}

async function books(t: Test): Promise<Books> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-book-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const path = join(dir, 'peers.sqlite');
  const clock = { nowMs: Date.parse('2026-01-01') };
  return {
    path,
    clock,
    open: () => {
      const book = new KeptPeerBook({ path, logger: silentLogger, clock: () => clock.nowMs });
      t.teardown(() => book.close());
      return book;
    },
  };
}

function peer(number: number, port = 6881): PeerAddress {
  return { host: `198.51.100.${number}`, port };
}

function ports(addresses: readonly PeerAddress[]): string[] {
  return addresses.map(({ host, port }) => `${host.split('.').at(-1)}:${port}`);
}

t.test('a ban is kept over a restart, for one port, and ends', async (t) => {
  const { open, clock } = await books(t);
  const before = open();
  before.ban(peer(1), 'wrong-bytes');
  t.ok(before.isBanned(peer(1)));
  before.close();
  before.close();
  const after = open();
  t.ok(after.isBanned(peer(1)));
  t.notOk(after.isBanned(peer(1, 6882)), 'another one behind the same address');
  t.same(ports(after.rank([peer(1), peer(2)])), ['2:6881'], 'who is banned has no rank');
  clock.nowMs += 7 * day + 1;
  t.notOk(after.isBanned(peer(1)), 'addresses change hands');
  after.close();
  t.equal(open().status().banned, 0);
});

t.test(
  'who said what nobody says is left alone for minutes, its host with several of its ports',
  async (t) => {
    const { open, clock } = await books(t);
    const before = open();
    before.gave(peer(1), { bytesPerSecond: 1e9, roundTripMs: 1 });
    for (const port of [6881, 6882, 6883]) before.ban(peer(1, port), 'wire-violation');
    before.ban(peer(2), 'wire-violation');
    t.equal(before.paceOf(peer(1)), undefined);
    before.close();
    const book = open();
    t.ok(book.isBanned(peer(2)), 'also after a restart');
    t.ok(book.isBanned(peer(1, 9)));
    book.ban(peer(2), 'wrong-bytes');
    clock.nowMs += 10 * 60_000 + 1;
    t.notOk(book.isBanned(peer(1, 9)), 'nobody asked about the ports that were banned');
    t.notOk(book.isBanned(peer(1)));
    t.ok(book.isBanned(peer(2)), 'it lied as well, which is remembered for longer');
    book.ban(peer(2), 'wire-violation');
    clock.nowMs += 10 * 60_000 + 1;
    t.ok(book.isBanned(peer(2)), 'and is no less a liar for what it said later');
    book.close();
  },
);

t.test('what was noted while the clock was ahead by years does not hold for years', async (t) => {
  const { open, clock } = await books(t);
  const before = open();
  clock.nowMs += 3_000 * day;
  for (const each of [peer(1), peer(2)]) {
    before.ban(each, 'wrong-bytes');
    before.gave(peer(3), { bytesPerSecond: 1e9, roundTripMs: 1 });
  }
  clock.nowMs -= 3_000 * day;
  t.notOk(before.isBanned(peer(1)));
  t.equal(before.paceOf(peer(3)), undefined);
  before.close();
  const after = open();
  t.match(after.status(), { known: 0, banned: 0 });
  after.ban(peer(1), 'wrong-bytes');
  clock.nowMs -= 60_000;
  t.ok(after.isBanned(peer(1)), 'a clock that is put right by a minute forgives nobody');
});

t.test('a host of which several ports lied is left alone, unless it is this machine', async (t) => {
  const { open } = await books(t);
  const book = open();
  for (const port of [1, 2]) book.ban(peer(1, port), 'wrong-bytes');
  t.notOk(book.isBanned(peer(1, 9)));
  book.ban(peer(1, 3), 'wrong-bytes');
  t.ok(book.isBanned(peer(1, 9)));
  t.notOk(book.isBanned(peer(2, 9)));
  for (const host of ['127.0.0.1', '::1', '::ffff:127.0.0.1']) {
    for (const port of [1, 2, 3, 4]) book.ban({ host, port }, 'wrong-bytes');
    t.ok(book.isBanned({ host, port: 1 }));
    t.notOk(book.isBanned({ host, port: 9 }), host);
  }
  book.close();
  t.ok(open().isBanned(peer(1, 9)), 'also after a restart');
});

t.test(
  'the local network comes first, then known fast ones, the rest, known slow ones, and last who was not there',
  async (t) => {
    const { open, clock } = await books(t);
    const book = open();
    book.gave(peer(3), { bytesPerSecond: 5e6, roundTripMs: 20 });
    book.gave(peer(4), { bytesPerSecond: 9e6, roundTripMs: 20 });
    book.gave(peer(5), { bytesPerSecond: 1e4, roundTripMs: 20 });
    book.missed(peer(6), true);
    const here = { host: '127.0.0.1', port: 1 };
    const all = [peer(6), peer(5), peer(1), peer(3), peer(2), peer(4), here];
    t.same(ports(book.rank(all)), ['1:1', '4:6881', '3:6881', '1:6881', '2:6881', '5:6881', '6:6881']);
    book.close();
    const after = open();
    t.same(after.paceOf(peer(4)), { bytesPerSecond: 9e6, roundTripMs: 20, atMs: clock.nowMs });
    clock.nowMs += 7 * day + 1;
    t.equal(after.paceOf(peer(4)), undefined);
  },
);

t.test('a slow day is not all that is known, and a fast one counts at once', async (t) => {
  const book = (await books(t)).open();
  book.gave(peer(1), { bytesPerSecond: 8e6, roundTripMs: 10 });
  book.gave(peer(1), { bytesPerSecond: 4e6, roundTripMs: 50 });
  t.match(book.paceOf(peer(1)), { bytesPerSecond: 7e6, roundTripMs: 20 });
  book.gave(peer(1), { bytesPerSecond: 9e6, roundTripMs: 5 });
  t.match(book.paceOf(peer(1)), { bytesPerSecond: 9e6, roundTripMs: 5 });
});

t.test('it is bounded: who was heard of last stays', async (t) => {
  const { open } = await books(t);
  const book = open();
  for (let port = 1; port <= 6_000; port++) book.gave(peer(1, port), { bytesPerSecond: 1, roundTripMs: 1 });
  for (let port = 1; port <= 2_500; port++) book.ban(peer(2, port), 'wrong-bytes');
  t.match(book.status(), { known: 5_000, banned: 2_000 });
  t.equal(book.paceOf(peer(1, 1)), undefined);
  t.ok(book.paceOf(peer(1, 6_000)));
  book.close();
  t.match(open().status(), { known: 5_000, banned: 2_000 });
});

t.test(
  'a database that is damaged is made anew, and one that cannot be written is done without',
  async (t) => {
    const { open, path } = await books(t);
    await writeFile(
      path,
      'this is no database, but it is long enough to look like one that was damaged'.repeat(100),
    );
    const book = open();
    book.ban(peer(1), 'wrong-bytes');
    book.close();
    t.ok(open().isBanned(peer(1)));
    const nowhere = new KeptPeerBook({ path: join(path, 'below'), logger: silentLogger, clock: Date.now });
    nowhere.ban(peer(1), 'wrong-bytes');
    t.ok(nowhere.isBanned(peer(1)));
    nowhere.close();
  },
);

t.test('a fetch tells it who lied and who gave, and asks no liar again, also after a restart', async (t) => {
  const { open } = await books(t);
  const file = fileOf(8 * pieceBytes);
  const liar = await TestPeer.open(t, { ...file, answer: (_block, right) => spoilt(right) });
  const good = await TestPeer.open(t, file);
  const first = open();
  for (const book of [first, undefined]) {
    const fetch = new TorrentFetch({ torrent: file.torrent, book: book ?? open() });
    t.teardown(() => fetch.close());
    fetch.addPeers([liar, good]);
    fetch.noMorePeers();
    t.ok((await collect(fetch)).bytes.equals(file.bytes));
    if (book === undefined) break;
    t.ok(book.isBanned(liar));
    t.notOk(book.isBanned(good));
    t.ok((book.paceOf(good)?.bytesPerSecond ?? 0) > 0);
    t.equal(book.paceOf(liar), undefined);
    book.close();
  }
  t.equal(liar.connections, 1);
  t.equal(good.connections, 2);
});

t.test(
  'peers that are told of faster than they are written are bounded as well, in memory and on the disk',
  async (t) => {
    const { open } = await books(t);
    const book = open();
    for (let index = 0; index < 30_000; index++)
      book.gave(
        { host: `10.0.${index >> 8}.${index & 255}`, port: 6881 },
        { bytesPerSecond: 1e6, roundTripMs: 20 },
      );
    const { known, unwritten } = book.status();
    t.equal(known, 5_000);
    t.ok(unwritten <= 10_000, `${unwritten} wait`);
    book.close();
    t.match(open().status(), { known: 5_000, unwritten: 0 });
  },
);

t.test('who cannot be reached rests, longer each time, and not after it was reached', async (t) => {
  const { open, clock } = await books(t);
  const book = open();
  t.notOk(book.rests(peer(1)));
  for (const seconds of [1, 2, 4, 8, 16, 32, 60, 60]) {
    // Several fetches that try at once count once.
    for (let fetches = 0; fetches < 3; fetches++) book.missed(peer(1), false);
    clock.nowMs += seconds * 1_000 - 1;
    t.ok(book.rests(peer(1)), `${seconds} s`);
    clock.nowMs += 1;
    t.notOk(book.rests(peer(1)), `${seconds} s`);
  }
  t.notOk(book.rests(peer(2)));
  book.missed(peer(1), false);
  book.reached(peer(1));
  t.notOk(book.rests(peer(1)));
  book.missed(peer(1), false);
  clock.nowMs += 1_000;
  t.notOk(book.rests(peer(1)), 'as if for the first time');
  // A clock that was put back.
  book.missed(peer(3), false);
  clock.nowMs -= day;
  t.notOk(book.rests(peer(3)));
});

t.test('who is there and lacks a torrent does not rest', async (t) => {
  const book = (await books(t)).open();
  book.missed(peer(1), true);
  t.notOk(book.rests(peer(1)));
  t.same(ports(book.rank([peer(1), peer(2)])), ['2:6881', '1:6881'], 'but comes last');
});

t.test('many short waits for a handshake are as good as a long one', async (t) => {
  const { open, clock } = await books(t);
  const book = open();
  for (let wait = 0; wait < 20; wait++) {
    t.notOk(book.rests(peer(1)), `${wait}`);
    clock.nowMs += 100;
    // Of those that wait at the same time one counts.
    for (let fetches = 0; fetches < 25; fetches++) book.unanswered(peer(1), 100);
  }
  t.ok(book.rests(peer(1)), 'after two seconds');
  for (let wait = 0; wait < 19; wait++) {
    clock.nowMs += 10_000;
    book.unanswered(peer(2), 100);
  }
  book.reached(peer(2));
  book.unanswered(peer(2), 100);
  t.notOk(book.rests(peer(2)), 'what was before it was reached is forgotten');
});

t.test('the book is told how long a peer was silent that was not needed any more', async (t) => {
  const { open } = await books(t);
  const book = open();
  const waits: number[] = [];
  book.unanswered = (_address, ms) => void waits.push(ms);
  const file = fileOf(2 * pieceBytes);
  const silent = await TestPeer.open(t, { ...file, greets: 'never' });
  const fetch = new TorrentFetch({ torrent: file.torrent, hold: true, book });
  fetch.addPeers([silent]);
  while (silent.connections === 0) await new Promise((resolve) => setImmediate(resolve));
  await fetch.close();
  t.equal(waits.length, 1);
  t.ok(waits.every((ms) => ms > 0));
  t.notOk(book.rests(silent));
});
