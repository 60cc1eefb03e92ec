/** Fetching from peers that behave, and from some that do not, over real sockets. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { TorrentFetch } from '../../swarm/fetch/fetcher.ts';
import { openSeedServer } from '../../swarm/seed/seed-server.ts';
import { blockBytes } from '../../swarm/wire/limits.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';
import { spoilt, TestPeer, type TestPeerOptions } from '../helpers/test-peer.ts';
import { collect, failure, fetchFrom, fileOf, pieceBytes } from './fetch-fixture.ts';
import { seeding } from './seed-fixture.ts';

const file = fileOf(20 * pieceBytes + 12_345);
const { torrent } = file;

/** Peers for one test; what a test opens, it has to close. */
function open(t: Test, options: Partial<TestPeerOptions> = {}): Promise<TestPeer> {
  return TestPeer.open(t, { ...file, ...options });
}

t.beforeEach((t) => provesNothingStaysOpen(t));

t.test('a good peer gives the whole file, with or without the fast extension', async (t) => {
  for (const fast of [true, false]) {
    const peer = await open(t, { fast });
    const fetch = fetchFrom(t, [peer], { torrent });
    const got = await collect(fetch);
    t.ok(got.bytes.equals(file.bytes), 'the bytes are right');
    t.same([...got.peers], [peer.key], 'and it says who gave them');
    t.equal(peer.requests.length, 81, 'each block was asked for once');
    t.equal(fetch.stats().downloadedBytes, file.bytes.length);
    // At the end the connection is closed; the other side learns it a moment later.
    while (peer.sockets.size > 0) await sleep(1);
  }
});

t.test('a fast peer that gives large blocks is asked for those, while it is the only one', async (t) => {
  const largest = async (
    blockMaxBytes: number | undefined,
    others: readonly TestPeer[] = [],
    startRequests = 1,
  ): Promise<number> => {
    const peer = await open(t, blockMaxBytes === undefined ? {} : { blockMaxBytes });
    const fetch = fetchFrom(t, [peer, ...others], { torrent, limits: { startRequests } });
    t.ok((await collect(fetch)).bytes.equals(file.bytes));
    t.equal(fetch.stats().banned.length, 0);
    return Math.max(...peer.requests.map(({ lengthBytes }) => lengthBytes));
  };
  t.equal(await largest(undefined), blockBytes, 'it did not say that it does');
  t.equal(await largest(2 * blockBytes + 5), 2 * blockBytes);
  t.equal(await largest(128 * 1024), pieceBytes);
  t.equal(await largest(128 * 1024, [], 1_536), blockBytes, 'it is not fast');
  const silent = await open(t, { answer: () => undefined });
  t.equal(await largest(128 * 1024, [silent]), blockBytes, 'another one may have to take over');
});

t.test('files of every shape come whole', async (t) => {
  for (const size of [
    1,
    16 * 1024,
    16 * 1024 + 1,
    pieceBytes - 1,
    pieceBytes,
    pieceBytes + 1,
    3 * pieceBytes,
  ]) {
    const one = fileOf(size);
    const peer = await TestPeer.open(t, one);
    const got = await collect(fetchFrom(t, [peer], { torrent: one.torrent }));
    t.ok(got.bytes.equals(one.bytes), `${size} bytes`);
  }
});

t.test('it can begin in the middle, and asks for nothing before', async (t) => {
  const peer = await open(t);
  const got = await collect(fetchFrom(t, [peer], { torrent, fromByte: 7 * pieceBytes + 5 }));
  t.equal(got.pieces[0]?.offset, 7 * pieceBytes);
  t.equal(got.pieces[0]?.index, 7);
  t.ok(got.bytes.equals(file.bytes.subarray(7 * pieceBytes)));
  t.equal(peer.requests.filter(({ index }) => index < 7).length, 0);
  const nothing = await collect(fetchFrom(t, [peer], { torrent, fromByte: file.bytes.length + pieceBytes }));
  t.equal(nothing.bytes.length, 0, 'after the end there is nothing');
});

t.test('a range of bytes costs the pieces that hold it, and no others', async (t) => {
  const peer = await open(t);
  const range = { fromByte: 7 * pieceBytes + 5, toByte: 9 * pieceBytes + 1 };
  const got = await collect(fetchFrom(t, [peer], { torrent, ...range }));
  t.ok(got.bytes.equals(file.bytes.subarray(7 * pieceBytes, 10 * pieceBytes)));
  t.ok(peer.requests.every(({ index }) => index >= 7 && index <= 9));
  const exact = await collect(
    fetchFrom(t, [peer], { torrent, fromByte: pieceBytes, toByte: 2 * pieceBytes }),
  );
  t.same(
    exact.pieces.map(({ index }) => index),
    [1],
  );
  const beyond = { fromByte: file.bytes.length - 1, toByte: file.bytes.length + pieceBytes };
  t.equal((await collect(fetchFrom(t, [peer], { torrent, ...beyond }))).pieces.length, 1);
  t.equal((await collect(fetchFrom(t, [peer], { torrent, fromByte: 5, toByte: 5 }))).pieces.length, 0);
});

t.test('a peer that dies midway is replaced, and no whole piece is asked for again', async (t) => {
  const dying = await open(t, {
    answer: (_block, right, peer) => {
      if (peer.sentBytes < 5 * pieceBytes) return right;
      // What was sent before still arrives.
      for (const socket of peer.sockets) socket.end();
      return undefined;
    },
  });
  const fetch = new TorrentFetch({ torrent });
  t.teardown(() => fetch.close());
  fetch.addPeers([dying]);
  const good = await open(t);
  const pieces = [];
  for await (const piece of fetch) {
    if (pieces.push(piece) === 1) fetch.addPeers([good]);
  }
  t.ok(Buffer.concat(pieces.map(({ bytes }) => bytes)).equals(file.bytes));
  t.ok(good.requests.length <= 81 - 16, `the other one was asked for ${good.requests.length} blocks`);
});

t.test(
  'a lone peer that breaks off each connection is gone on with, and no block is asked for twice',
  async (t) => {
    const flaky = await open(t, {
      answer: (_block, right, peer) => {
        if (peer.requests.length % 8 !== 0) return right;
        for (const socket of peer.sockets) socket.end();
        return undefined;
      },
    });
    // One request at a time: none is on its way when the connection ends.
    const fetch = fetchFrom(t, [flaky], { torrent, limits: { startRequests: 1, maxRequests: 1 } });
    const got = await collect(fetch);
    t.ok(got.bytes.equals(file.bytes));
    t.equal(fetch.stats().downloadedBytes, file.bytes.length);
    t.equal(flaky.connections, 1 + Math.floor(flaky.requests.length / 8));
  },
);

t.test('two peers that each have half of the pieces make a whole', async (t) => {
  const even = await open(t, { says: (index) => index % 2 === 0 });
  const odd = await open(t, { says: (index) => index % 2 === 1, fast: false });
  const got = await collect(fetchFrom(t, [even, odd], { torrent }));
  t.ok(got.bytes.equals(file.bytes));
  t.ok(even.requests.every(({ index }) => index % 2 === 0));
  t.ok(odd.requests.every(({ index }) => index % 2 === 1));
});

t.test('several good peers share the work: hardly a block comes twice', async (t) => {
  const big = fileOf(8 * 1024 * 1024);
  const options: TestPeerOptions = { ...big, answer: async (_block, right) => sleep(1, right) };
  const peers = await Promise.all([1, 2, 3, 4].map(() => TestPeer.open(t, options)));
  const fetch = fetchFrom(t, peers, { torrent: big.torrent });
  const got = await collect(fetch);
  t.ok(got.bytes.equals(big.bytes));
  t.equal(got.peers.size, 4, 'all four gave something');
  t.ok(
    fetch.stats().downloadedBytes < big.bytes.length * 1.05,
    `${fetch.stats().downloadedBytes} bytes came`,
  );
});

t.test('a lying peer among several is found and banned, and the bytes are right', async (t) => {
  // Hashed where the peers are read, and beside that.
  for (const hashAsideBytes of [pieceBytes + 1, 1]) {
    const liar = await open(t, { answer: (_block, right) => spoilt(right) });
    const honest = await Promise.all([open(t), open(t)]);
    const fetch = fetchFrom(t, [liar, ...honest], { torrent, limits: { hashAsideBytes } });
    const got = await collect(fetch);
    t.ok(got.bytes.equals(file.bytes));
    t.same(fetch.stats().banned, [liar.key]);
    t.notOk(got.peers.has(liar.key), 'nothing of it is in what was delivered');
  }
});

t.test('a piece whose last block is the last that a dying peer gives is delivered', async (t) => {
  const last = torrent.pieces.length / 20 - 1;
  const dying = await open(t, {
    answer: ({ index }, right, peer) => {
      if (index < last) return right;
      peer.hangUp();
      return undefined;
    },
  });
  const fetch = fetchFrom(t, [dying], { torrent, limits: { hashAsideBytes: 1 } });
  const pieces: number[] = [];
  await t.rejects(
    (async () => {
      for await (const { index } of fetch) pieces.push(index);
    })(),
    { code: 'swarm-exhausted' },
  );
  t.equal(pieces.length, last);
});

t.test('memory that is given back is used again without harm', async (t) => {
  const limits = { aheadBytes: 4 * pieceBytes, aheadMaxBytes: 4 * pieceBytes };
  const fetch = fetchFrom(t, [await open(t)], { torrent, limits });
  const digest = createHash('sha256');
  const memory = new Set<ArrayBufferLike>();
  for await (const piece of fetch) {
    digest.update(piece.bytes);
    memory.add(piece.bytes.buffer);
    piece.bytes.fill(0);
    fetch.recycle(piece);
  }
  t.equal(digest.digest('hex'), createHash('sha256').update(file.bytes).digest('hex'));
  t.ok(memory.size < torrent.pieces.length / 20, `${memory.size} buffers`);
});

t.test('a peer that spoils one block in eight, mixed with honest ones, is found by its blocks', async (t) => {
  let count = 0;
  const slowly = async (_block: unknown, right: Buffer): Promise<Buffer> => sleep(1, right);
  const liar = await open(t, {
    answer: async (_block, right) => sleep(1, ++count % 8 === 0 ? spoilt(right) : right),
  });
  const honest = await open(t, { answer: slowly });
  // A pipeline of two blocks, so that both are in every piece.
  const limits = { startRequests: 2, maxRequests: 2 };
  const fetch = fetchFrom(t, [honest, liar], { torrent, limits: { ...limits, hashAsideBytes: 1 } });
  const got = await collect(fetch);
  t.ok(got.bytes.equals(file.bytes));
  t.same(fetch.stats().banned, [liar.key], 'the honest one is not blamed');
});

t.test('a lone liar is banned, and then nobody is left', async (t) => {
  const liar = await open(t, { answer: (_block, right) => spoilt(right) });
  const fetch = fetchFrom(t, [liar], { torrent });
  const { error } = await failure(fetch);
  t.equal(error.code, 'swarm-exhausted');
  t.same(fetch.stats().banned, [liar.key]);
});

t.test('silent peers: stalled after stallMs, not before', async (t) => {
  for (const greets of ['never', 'without-unchoke', 'well'] as const) {
    const peer = await open(t, { greets, answer: () => undefined });
    const { error, afterMs } = await failure(fetchFrom(t, [peer], { torrent, stallMs: 300 }));
    t.equal(error.code, 'swarm-stalled', greets);
    t.ok(afterMs >= 295 && afterMs < 1_000, `${greets}: after ${Math.round(afterMs)} ms`);
  }
});

t.test('a peer that drips does not keep a fetch alive', async (t) => {
  const peer = await open(t, {
    answer: async (block, right, self) => {
      const [socket] = self.sockets;
      const head = Buffer.alloc(13);
      head.writeUInt32BE(right.length + 9);
      head[4] = 7;
      head.writeUInt32BE(block.index, 5);
      head.writeUInt32BE(block.begin, 9);
      socket?.write(head);
      for (let at = 0; at < right.length && socket?.destroyed === false; at++) {
        socket.write(right.subarray(at, at + 1));
        await sleep(50);
      }
      return undefined;
    },
  });
  const limits = { slowMs: 600 };
  const { error, afterMs } = await failure(fetchFrom(t, [peer], { torrent, stallMs: 300, limits }));
  t.equal(error.code, 'swarm-stalled');
  t.ok(afterMs >= 595 && afterMs < 1_500, `after ${Math.round(afterMs)} ms`);
});

t.test('a peer that falls silent holds nothing back while others give', async (t) => {
  const silent = await open(t, {
    answer: (_block, right, peer) => (peer.sentBytes < pieceBytes ? right : undefined),
  });
  const good = await open(t);
  const startedMs = performance.now();
  const got = await collect(fetchFrom(t, [silent, good], { torrent, stallMs: 400 }));
  t.ok(got.bytes.equals(file.bytes));
  t.ok(performance.now() - startedMs < 1_000, 'and little time is lost');
});

t.test('a slow peer does not slow a quick one down, and is told what came from elsewhere', async (t) => {
  const big = fileOf(8 * 1024 * 1024);
  const slow = await TestPeer.open(t, { ...big, answer: async (_block, right) => sleep(150, right) });
  const quick = await TestPeer.open(t, { ...big, answer: async (_block, right) => sleep(1, right) });
  const startedMs = performance.now();
  const got = await collect(fetchFrom(t, [slow, quick], { torrent: big.torrent, stallMs: 400 }));
  t.ok(got.bytes.equals(big.bytes));
  t.ok(slow.cancels.length > 0, `${slow.cancels.length} requests were taken back`);
  // Alone, the slow one would take 77 s.
  t.ok(performance.now() - startedMs < 15_000, `${Math.round(performance.now() - startedMs)} ms`);
});

t.test('a peer that refuses everything is left for one that does not', async (t) => {
  const refusing = await open(t, { answer: () => 'reject' });
  const good = await open(t);
  const got = await collect(fetchFrom(t, [refusing, good], { torrent }));
  t.ok(got.bytes.equals(file.bytes));
  t.same([...got.peers], [good.key]);
});

t.test('a peer that claims pieces and refuses them is soon asked for others only', async (t) => {
  const lying = await open(t, { answer: ({ index }, right) => (index % 2 === 0 ? 'reject' : right) });
  const even = await open(t, {
    says: (index) => index % 2 === 0,
    answer: async (_block, right) => sleep(30, right),
  });
  const limits = { rejectedPauseMs: 5, startRequests: 4, maxRequests: 4 };
  const got = await collect(fetchFrom(t, [lying, even], { torrent, limits }));
  t.ok(got.bytes.equals(file.bytes));
  const refused = lying.requests.filter(({ index }) => index % 2 === 0).length;
  t.ok(refused <= 11 * 4, `${refused} requests were refused`);
});

t.test('a peer that spoils a piece and then keeps it waiting does not have it for long', async (t) => {
  const small = fileOf(2 * 16 * 1024);
  let given = 0;
  const liar = await TestPeer.open(t, {
    ...small,
    answer: (_block, right) => (given++ === 0 ? spoilt(right) : undefined),
  });
  const honest = await TestPeer.open(t, { ...small, answer: async (_block, right) => sleep(100, right) });
  // A block each; when the piece turns out to be spoilt, the liar is idle and gets it first.
  const limits = { startRequests: 1, maxRequests: 1 };
  const fetch = fetchFrom(t, [liar, honest], { torrent: small.torrent, stallMs: 800, limits });
  const got = await collect(fetch);
  t.ok(got.bytes.equals(small.bytes));
  t.ok(given >= 2, 'it was asked for all of it alone');
  t.same(fetch.stats().banned, [liar.key]);
});

t.test('a peer that refuses on and on is given up', async (t) => {
  const refusing = await open(t, { answer: () => 'reject' });
  const limits = { rejects: 10 };
  const { error } = await failure(fetchFrom(t, [refusing], { torrent, limits, stallMs: 60_000 }));
  t.equal(error.code, 'swarm-exhausted');
});

t.test('choking and unchoking loses nothing', async (t) => {
  for (const fast of [true, false]) {
    let count = 0;
    const peer = await open(t, {
      fast,
      answer: (_block, right, self) => {
        // Every tenth request is forgotten, as BEP 3 has it for a peer that chokes; with BEP 6 it is refused.
        if (++count % 10 !== 0) return right;
        for (const socket of self.sockets) socket.write(Buffer.from([0, 0, 0, 1, 0]));
        setImmediate(() => {
          for (const socket of self.sockets) socket.write(Buffer.from([0, 0, 0, 1, 1]));
        });
        return fast ? 'reject' : undefined;
      },
    });
    const limits = { rejectedPauseMs: 5, rejectsOfPiece: 50, startRequests: 8, maxRequests: 8 };
    const got = await collect(fetchFrom(t, [peer], { torrent, limits }));
    t.ok(got.bytes.equals(file.bytes), fast ? 'with the fast extension' : 'without');
  }
});

t.test('no peers, or none that can be reached: exhausted at once', async (t) => {
  const none = await failure(fetchFrom(t, [], { torrent }));
  t.equal(none.error.code, 'swarm-exhausted');
  t.ok(none.afterMs < 50);
  const closed = await open(t);
  await closed.close();
  const refused = await failure(fetchFrom(t, [closed], { torrent }));
  t.equal(refused.error.code, 'swarm-exhausted');
  t.ok(refused.afterMs < 250, `${Math.round(refused.afterMs)} ms`);
});

t.test('who speaks no BitTorrent, or of another torrent, is no peer', async (t) => {
  for (const greets of ['with-noise', 'as-another-torrent'] as const) {
    const peer = await open(t, { greets });
    const { error, afterMs } = await failure(fetchFrom(t, [peer], { torrent }));
    t.equal(error.code, 'swarm-exhausted', greets);
    t.ok(afterMs < 300);
  }
});

t.test('silent peers that fill all places make room for those that wait', async (t) => {
  const silent = await Promise.all([1, 2, 3].map(() => open(t, { greets: 'never' })));
  const good = await open(t);
  const got = await collect(fetchFrom(t, [...silent, good], { torrent, limits: { peers: 3 } }));
  t.ok(got.bytes.equals(file.bytes));
});

t.test('a peer that only talks is dropped', async (t) => {
  const talker = await open(t, {
    answer: (_block, _right, self) => {
      const have = Buffer.from([0, 0, 0, 5, 4, 0, 0, 0, 0]);
      for (const socket of self.sockets) socket.write(Buffer.concat(new Array(5_000).fill(have)));
      return undefined;
    },
  });
  const { error } = await failure(fetchFrom(t, [talker], { torrent }));
  t.equal(error.code, 'swarm-exhausted');
});

t.test('host names are resolved; those that lead nowhere cost no more than their place', async (t) => {
  const peer = await open(t);
  const names = [
    { host: 'narswarm-test.invalid', port: 1 },
    { host: 'localhost', port: peer.port },
  ];
  const got = await collect(fetchFrom(t, names, { torrent, stallMs: 2_000 }));
  t.ok(got.bytes.equals(file.bytes));
});

t.test('abort ends the wait and closes the connections at once, also when nobody iterates', async (t) => {
  const peer = await open(t, { answer: () => undefined });
  const waiting = new AbortController();
  const fetch = fetchFrom(t, [peer], { torrent, signal: waiting.signal, stallMs: 60_000 });
  const failed = failure(fetch);
  while (peer.requests.length === 0) await sleep(2);
  waiting.abort();
  t.equal((await failed).error.code, 'aborted');
  const idle = new AbortController();
  const unread = fetchFrom(t, [peer], { torrent, signal: idle.signal });
  while (peer.sockets.size === 0) await sleep(2);
  idle.abort();
  while (peer.sockets.size > 0) await sleep(2);
  t.equal((await failure(unread)).error.code, 'aborted');
  t.equal(
    (await failure(fetchFrom(t, [peer], { torrent, signal: AbortSignal.abort() }))).error.code,
    'aborted',
  );
  t.equal(peer.connections, 2, 'with a signal that has fired already nobody is connected to');
});

t.test('leaving the loop closes the connections', async (t) => {
  const peer = await open(t);
  const fetch = fetchFrom(t, [peer], { torrent });
  for await (const piece of fetch) {
    t.equal(piece.index, 0);
    break;
  }
  while (peer.sockets.size > 0) await sleep(2);
  await fetch.close();
});

t.test('what is fetched ahead of a slow consumer is bounded, and its slowness is no stall', async (t) => {
  const peer = await open(t);
  const limits = { aheadBytes: 4 * pieceBytes, aheadMaxBytes: 4 * pieceBytes };
  const fetch = fetchFrom(t, [peer], { torrent, stallMs: 400, limits });
  let taken = 0;
  const parts: Buffer[] = [];
  for await (const { bytes } of fetch) {
    parts.push(bytes);
    taken++;
    if (taken <= 2) await sleep(800);
    const aheadBytes = fetch.stats().downloadedBytes - taken * pieceBytes;
    t.ok(aheadBytes <= limits.aheadBytes, `${aheadBytes} bytes ahead`);
  }
  t.ok(Buffer.concat(parts).equals(file.bytes));
});

t.test('addresses that are named twice, or too many of them, are ignored', async (t) => {
  const peer = await open(t);
  const fetch = new TorrentFetch({ torrent, limits: { addresses: 2 } });
  t.teardown(() => fetch.close());
  const beyond = await open(t);
  const dead = createServer();
  dead.listen(0, '127.0.0.1');
  await once(dead, 'listening');
  const address = dead.address();
  dead.close();
  if (address === null || typeof address === 'string') return;
  fetch.addPeers([peer, peer, { host: '127.0.0.1', port: address.port }, beyond]);
  fetch.noMorePeers();
  const got = await collect(fetch);
  t.ok(got.bytes.equals(file.bytes));
  t.equal(peer.connections, 1);
  t.equal(beyond.connections, 0);
});

t.test('our own seed servers, several of them, give the file', async (t) => {
  const { server, held, source } = await seeding(t, [3 * 1024 * 1024 + 7]);
  const one = held[0];
  if (one === undefined) return;
  const others = await Promise.all([1, 2].map(() => openSeedServer({ host: '127.0.0.1', port: 0, source })));
  t.teardown(async () => {
    await Promise.all(others.map((other) => other.close()));
  });
  const fetch = fetchFrom(t, [server, ...others], { torrent: one.torrent });
  const got = await collect(fetch);
  t.ok(got.bytes.equals(one.bytes));
  const violations = [server, ...others].reduce((sum, one) => sum + one.status().violations, 0);
  t.equal(violations, 0, 'and find no fault with us');
});
