/** Fetching over paths that take time: how much is asked of whom, and how several peers add up. Real seed servers behind slow paths. */
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { PeerAddress } from '../../swarm/address/peer-address.ts';
import { fetchLimits } from '../../swarm/fetch/fetch-limits.ts';
import { TorrentFetch } from '../../swarm/fetch/fetcher.ts';
import { blockBytes } from '../../swarm/wire/limits.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';
import { openSlowPath, type SlowPathOptions } from '../helpers/slow-path.ts';
import { spoilt, TestPeer } from '../helpers/test-peer.ts';
import { collect, fetchFrom, fileOf, pieceBytes } from './fetch-fixture.ts';
import { type Held, seeding } from './seed-fixture.ts';

const megabyte = 1_000_000;

t.beforeEach((t) => provesNothingStaysOpen(t));

async function behind(t: Test, port: number, path: Omit<SlowPathOptions, 'target'>): Promise<PeerAddress> {
  const slow = await openSlowPath({ target: { host: '127.0.0.1', port }, ...path });
  t.teardown(() => slow.close());
  return slow;
}

/** Bytes a second from the first byte on. */
async function rateOf(fetch: TorrentFetch, bytes: Buffer): Promise<number> {
  let sinceMs: number | undefined;
  const got: Buffer[] = [];
  for await (const piece of fetch) {
    sinceMs ??= performance.now();
    got.push(piece.bytes);
  }
  if (!Buffer.concat(got).equals(bytes)) throw new Error('other bytes');
  return (bytes.length / (performance.now() - (sinceMs ?? 0))) * 1_000;
}

t.test('peers of different speeds add up', async (t) => {
  const { server, held } = await seeding(t, [12 * megabyte]);
  const [file] = held as [Held];
  const rates = [6 * megabyte, 3 * megabyte, megabyte];
  const peers = await Promise.all(
    rates.map((bytesPerSecond, index) => behind(t, server.port, { delayMs: 5 + 5 * index, bytesPerSecond })),
  );
  const fetch = fetchFrom(t, peers, { torrent: file.torrent, stallMs: 5_000 });
  const rate = await rateOf(fetch, file.bytes);
  // The fastest alone gives six.
  t.ok(rate > 7 * megabyte, `${(rate / megabyte).toFixed(1)} of 10 MB/s`);
  const { unusedBytes } = fetch.stats();
  t.ok(unusedBytes < file.bytes.length / 20, `${unusedBytes} bytes came for nothing`);
});

t.test('a far peer is asked for what its path holds, and not for much more', async (t) => {
  const file = fileOf(4 * megabyte);
  for (const roundTripMs of [10, 100]) {
    let answered = 0;
    const outstanding: number[] = [];
    const peer = await TestPeer.open(t, {
      ...file,
      answer: async (_block, right, self) => {
        outstanding.push(self.requests.length - answered++);
        await sleep(2);
        return right;
      },
    });
    const far = await behind(t, peer.port, { delayMs: roundTripMs / 2 });
    const fetch = fetchFrom(t, [far], { torrent: file.torrent, stallMs: 5_000 });
    const rate = await rateOf(fetch, file.bytes);
    const most = Math.max(...outstanding);
    const holds = (rate * (roundTripMs + fetchLimits.slackMs)) / 1_000 / blockBytes;
    const allowed = Math.max(fetchLimits.startRequests, 4 * holds + 4);
    t.ok(
      most <= allowed,
      `${roundTripMs} ms: at most ${most} blocks wait at the peer, ${allowed.toFixed(0)} allowed`,
    );
    const steady = outstanding.slice(outstanding.length / 2);
    // It never waits for our requests.
    t.ok(
      steady.slice(0, -64).every((waiting) => waiting > 1),
      'and never none',
    );
  }
});

t.test('what a peer announces as its limit is kept', async (t) => {
  const file = fileOf(2 * megabyte);
  let outstanding = 0;
  let most = 0;
  const peer = await TestPeer.open(t, {
    ...file,
    requestsQueuedMax: 10,
    answer: async (_block, right, self) => {
      most = Math.max(most, self.requests.length - outstanding++);
      return sleep(1, right);
    },
  });
  t.ok((await collect(fetchFrom(t, [peer], { torrent: file.torrent }))).bytes.equals(file.bytes));
  t.ok(most <= 10, `${most} blocks`);
});

t.test('a peer that becomes slow midway costs little: others take over what it was asked for', async (t) => {
  const file = fileOf(6 * megabyte);
  const tiring = await TestPeer.open(t, {
    ...file,
    answer: async (_block, right, self) => sleep(self.sentBytes < megabyte ? 1 : 400, right),
  });
  const steady = await TestPeer.open(t, { ...file, answer: async (_block, right) => sleep(1, right) });
  const startedMs = performance.now();
  const fetch = fetchFrom(t, [tiring, steady], { torrent: file.torrent, stallMs: 2_000 });
  t.ok((await collect(fetch)).bytes.equals(file.bytes));
  const ms = performance.now() - startedMs;
  // What it was asked for when it became slow would take it 20 s.
  t.ok(ms < 5_000, `${Math.round(ms)} ms`);
  const { unusedBytes } = fetch.stats();
  t.ok(unusedBytes < file.bytes.length / 5, `${unusedBytes} bytes came for nothing`);
});

t.test('an idle peer takes over little at a time', async (t) => {
  const file = fileOf(64 * blockBytes);
  const silent = await TestPeer.open(t, { ...file, answer: () => undefined });
  const fetch = new TorrentFetch({ torrent: file.torrent, stallMs: 60_000, limits: { overtakeRequests: 4 } });
  t.teardown(() => fetch.close());
  fetch.addPeers([silent]);
  const all = collect(fetch);
  while (silent.requests.length < 64) await sleep(1);
  const waiting: (() => void)[] = [];
  const other = await TestPeer.open(t, {
    ...file,
    answer: async (_block, right) => {
      await new Promise<void>((resolve) => waiting.push(resolve));
      return right;
    },
  });
  fetch.addPeers([other]);
  while (other.requests.length === 0) await sleep(1);
  await sleep(200);
  t.equal(other.requests.length, 4);
  const answering = setInterval(() => waiting.shift()?.(), 1);
  t.ok((await all).bytes.equals(file.bytes));
  clearInterval(answering);
  for (const resolve of waiting) resolve();
  t.ok(other.requests.length <= 64 + 4, 'and each block once');
});

t.test('the first piece comes from several peers at once', async (t) => {
  const file = fileOf(96 * megabyte);
  t.ok(file.torrent.pieceLength >= 2 * 64 * 1024);
  const open = (): Promise<TestPeer> =>
    TestPeer.open(t, { ...file, answer: async (_block, right) => sleep(5, right) });
  const peers = await Promise.all([open(), open(), open()]);
  const limits = { startRequests: 4, startRequestsOfSeveral: 2 };
  const fetch = new TorrentFetch({ torrent: file.torrent, hold: true, limits });
  t.teardown(() => fetch.close());
  fetch.addPeers(peers);
  while (fetch.stats().peers < 3) await sleep(1);
  const pieces = fetch[Symbol.asyncIterator]();
  const first = await pieces.next();
  t.ok(first.value && first.value.peers.length > 1, `${first.value?.peers.length} peers gave it`);
  await pieces.return(undefined);
});

t.test('what is fetched ahead grows with the path, and no further than allowed', async (t) => {
  const file = fileOf(4 * megabyte);
  for (const aheadMaxBytes of [4 * pieceBytes, 32 * pieceBytes]) {
    const peer = await TestPeer.open(t, file);
    const far = await behind(t, peer.port, { delayMs: 25 });
    const limits = { aheadBytes: 4 * pieceBytes, aheadMaxBytes };
    const fetch = fetchFrom(t, [far], { torrent: file.torrent, stallMs: 60_000, limits });
    let delivered = 0;
    let most = 0;
    for await (const { bytes } of fetch) {
      delivered += bytes.length;
      const asked = peer.requests.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
      most = Math.max(most, asked - delivered);
    }
    t.ok(most <= aheadMaxBytes, `${most} bytes of ${aheadMaxBytes}`);
    if (aheadMaxBytes > limits.aheadBytes) t.ok(most > 2 * limits.aheadBytes, `${most} bytes`);
  }
});

t.test('who gives wrong blocks among good ones is found over paths that take time, too', async (t) => {
  const file = fileOf(4 * megabyte);
  const slowly = async (_block: unknown, right: Buffer): Promise<Buffer> => sleep(1, right);
  const honest = await Promise.all([1, 2].map(() => TestPeer.open(t, { ...file, answer: slowly })));
  let count = 0;
  const liar = await TestPeer.open(t, {
    ...file,
    answer: async (_block, right) => sleep(1, ++count % 5 === 0 ? spoilt(right) : right),
  });
  const paths = await Promise.all([liar, ...honest].map(({ port }) => behind(t, port, { delayMs: 10 })));
  const fetch = fetchFrom(t, paths, { torrent: file.torrent, stallMs: 5_000 });
  t.ok((await collect(fetch)).bytes.equals(file.bytes));
  const [lying] = paths;
  t.same(fetch.stats().banned, [`${lying?.host}:${lying?.port}`]);
});
