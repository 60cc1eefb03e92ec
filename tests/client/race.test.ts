import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { signTorrentInfo } from '../../catalog/torrentinfo.ts';
import { History } from '../../client/report/history.ts';
import type { NarStory } from '../../client/story.ts';
import { infoDictionary, parseInfoDictionary } from '../../swarm/torrent/torrent.ts';
import { silentLogger } from '../../web/log.ts';
import { openSlowPath, type SlowPathOptions } from '../helpers/slow-path.ts';
import { fetchKnownNar, fetchNar, get, Lab, statusOf, unhurried, until } from './lab.ts';
import { catalogKey, type MadeNar, madeNar } from './made-nar.ts';
import type { TestCatalog } from './test-catalog.ts';
import type { TestUpstream } from './test-upstream.ts';

const tiny = madeNar({ name: 'tiny', sizeBytes: 30_000 });
const large = madeNar({ name: 'large', sizeBytes: 4_000_000, compression: 'none' });
/** Four seconds at the rate of a slow path, of which a busy computer may sleep through some: what passes in that time is little work. */
const longBytesPerSecond = 4_000_000;
const long = madeNar({ name: 'long', sizeBytes: 4 * longBytesPerSecond, compression: 'none' });
const huge = madeNar({ name: 'huge', sizeBytes: 40_000_000, compression: 'none' });

async function slowUpstream(
  t: Test,
  upstream: TestUpstream,
  path: Omit<SlowPathOptions, 'target'>,
): Promise<string> {
  const { hostname: host, port } = new URL(upstream.url);
  const slow = await openSlowPath({ target: { host, port: Number(port) }, ...path });
  t.teardown(() => slow.close());
  return `http://${slow.host}:${slow.port}`;
}

async function slowPeers(
  t: Test,
  catalog: TestCatalog,
  path: Omit<SlowPathOptions, 'target'>,
): Promise<void> {
  const slow = await openSlowPath({ target: { host: '127.0.0.1', port: catalog.seedPort }, ...path });
  t.teardown(() => slow.close());
  catalog.peers = [`${slow.host}:${slow.port}`];
}

/** They say nothing until then. */
async function gatedPeers(t: Test, catalog: TestCatalog, opened: Promise<void>): Promise<void> {
  const sockets: Socket[] = [];
  const server = createServer((near) => {
    const far = connect({ host: '127.0.0.1', port: catalog.seedPort });
    for (const socket of [near, far]) sockets.push(socket.on('error', () => undefined));
    near.pipe(far);
    void opened.then(() => far.pipe(near));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  catalog.peers = [`127.0.0.1:${(server.address() as AddressInfo).port}`];
}

/** How the last fetch of it went. Closes the client. */
async function storyOf(lab: Lab, client: { close(): Promise<void> }, nar: MadeNar): Promise<NarStory> {
  await client.close();
  const path = join(lab.dir, 'data', 'history.sqlite');
  const history = new History({ path, stories: 1_000, logger: silentLogger });
  const [story] = history.ofStoreHash(nar.storeHash);
  history.close();
  if (story === undefined) throw new Error('no story');
  return story;
}

/** Does not answer for NAR files. Gives whether the client is still there. */
function hang(upstream: TestUpstream): { open(): number } {
  let open = 0;
  upstream.intercept = (request, response) => {
    if (!request.url?.includes('nar/')) return false;
    open++;
    response.once('close', () => open--);
    return true;
  };
  return { open: () => open };
}

t.test('with a dead swarm HTTP gives a large file, and the reason is kept', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([large]);
  // Accepts connections and says nothing.
  const sockets = new Set<Socket>();
  const silent = createServer((socket) => void sockets.add(socket.on('error', () => undefined).resume()));
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => silent.close(resolve));
  });
  catalog.peers = [`127.0.0.1:${(silent.address() as AddressInfo).port}`];
  const client = await lab.client([await lab.upstream([large])], [catalog]);
  const answer = await fetchKnownNar(client, large);
  t.ok(answer.body.equals(large.bytes));
  t.match(statusOf(client).nars, { http: 1, swarm: 0, mixed: 0 });
  const story = await storyOf(lab, client, large);
  t.match(story, { outcome: 'fetched', ahead: false, sizeBytes: large.bytes.length });
  t.match(
    story.legs.map(({ kind, why, end }) => ({ kind, why, end })),
    [
      { kind: 'swarm', why: 'peers-known', end: 'beaten' },
      { kind: 'http', why: 'no-live-peer', end: 'finished' },
    ],
  );
  t.ok(story.httpMs !== undefined && story.httpMs <= story.tookMs);
});

/** A computer that is busy elsewhere can make the swarm miss its moment; not every time. */
async function inOneOfThree(race: () => Promise<{ missed: boolean; check(): void }>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const { missed, check } = await race();
    if (!missed || attempt === 3) return check();
  }
}

t.test('HTTP does not wait for an answer of a catalog, and the swarm joins when it comes', (t) =>
  inOneOfThree(async () => {
    const lab = await Lab.open(t);
    const upstream = await lab.upstream([long]);
    const catalog = await lab.catalog([long]);
    const answered = Promise.withResolvers<void>();
    catalog.beforeResolve = () => answered.promise;
    const url = await slowUpstream(t, upstream, { delayMs: 5, bytesPerSecond: longBytesPerSecond });
    const client = await lab.client([url], [catalog], { limits: { ...unhurried, resolveBudgetMs: 50 } });
    const answer = await fetchNar(client, long, { onBytes: () => answered.resolve() });
    t.ok(answer.complete && answer.body.equals(long.bytes));
    const { nars, bytes, unusedBytes } = statusOf(client);
    const { legs } = await storyOf(lab, client, long);
    const check = (): void => {
      t.match(nars, { mixed: 1 });
      t.ok(bytes.swarm > 0);
      const wasted = unusedBytes.swarm + unusedBytes.http;
      t.ok(wasted < long.bytes.length / 4, `${wasted} bytes for nothing`);
      t.match(legs[0], { why: 'peers-unknown', end: 'beaten', fromByte: 0 });
      t.match(legs[1], { why: 'peers-found' });
      t.ok((legs[1]?.fromByte ?? 0) > 0, 'it began ahead');
    };
    return { missed: nars.mixed === 0, check };
  }),
);

t.test('HTTP begins for cold peers, the swarm begins ahead of it and takes over there', (t) =>
  inOneOfThree(async () => {
    const lab = await Lab.open(t);
    const upstream = await lab.upstream([long]);
    const catalog = await lab.catalog([long]);
    const began = Promise.withResolvers<void>();
    await gatedPeers(t, catalog, began.promise);
    const url = await slowUpstream(t, upstream, { delayMs: 20, bytesPerSecond: longBytesPerSecond });
    const limits = { ...unhurried, liveWithinMs: 20 };
    const client = await lab.client([url], [catalog], { limits });
    // By then it is known how fast it comes.
    const onBytes = (bytes: number): void => void (bytes > 1_000_000 && began.resolve());
    const answer = await fetchKnownNar(client, long, { onBytes });
    t.ok(answer.complete && answer.body.equals(long.bytes));
    const { nars, bytes, unusedBytes } = statusOf(client);
    const { legs } = await storyOf(lab, client, long);
    const check = (): void => {
      t.match(nars, { mixed: 1 });
      t.equal(bytes.swarm + bytes.http, long.bytes.length);
      const wasted = unusedBytes.swarm + unusedBytes.http;
      t.ok(wasted < long.bytes.length / 4, `${wasted} bytes for nothing`);
      t.match(legs[0], { kind: 'swarm', why: 'peers-known' });
      t.match(legs[1], { kind: 'http', why: 'no-live-peer', fromByte: 0 });
      t.ok((legs[0]?.fromByte ?? 0) > 0, 'it began ahead');
    };
    return { missed: nars.mixed === 0, check };
  }),
);

t.test('a slow swarm does not keep a file from being as fast as over HTTP', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([large]);
  const catalog = await lab.catalog([large]);
  // Twenty seconds for all of it.
  await slowPeers(t, catalog, { delayMs: 5, bytesPerSecond: 200_000 });
  const client = await lab.client([upstream], [catalog]);
  const answer = await fetchKnownNar(client, large);
  t.ok(answer.complete && answer.body.equals(large.bytes));
  t.ok(answer.ms < 5_000, `${answer.ms} ms`);
});

t.test('a swarm that falls silent midway is helped by HTTP before it counts as failed', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([large]);
  const catalog = await lab.catalog([large]);
  const silence = Promise.withResolvers<void>();
  t.teardown(() => silence.resolve());
  catalog.beforeRead = async (position) => {
    if (position >= 2_000_000) await silence.promise;
  };
  const limits = { liveWithinMs: 20_000, swarmStallMs: 20_000 };
  const client = await lab.client([upstream], [catalog], { limits });
  const answer = await fetchKnownNar(client, large);
  silence.resolve();
  t.ok(answer.complete && answer.body.equals(large.bytes));
  await until(() => statusOf(client).nars.mixed === 1);
  const { legs } = await storyOf(lab, client, large);
  t.match(legs[0], { kind: 'swarm', end: 'beaten' });
  t.match(legs[1], { kind: 'http', why: 'late', end: 'finished' });
});

t.test('an upstream that hangs is helped by the swarm, and given up at once when that gives', async (t) => {
  const lab = await Lab.open(t);
  const [upstream, catalog] = [await lab.upstream([tiny, large]), await lab.catalog([tiny, large])];
  const hanging = hang(upstream);
  const client = await lab.client([upstream], [catalog]);
  for (const nar of [tiny, large]) {
    const answer = await fetchNar(client, nar);
    t.ok(answer.complete && answer.body.equals(nar.bytes));
    t.ok(answer.ms < 5_000, `${answer.ms} ms`);
    await until(() => hanging.open() === 0);
  }
  t.match(statusOf(client).nars, { swarm: 2, http: 0, mixed: 0 });
});

t.test('an upstream that hangs is helped by the next one', async (t) => {
  const lab = await Lab.open(t);
  const [first, second] = [await lab.upstream([large]), await lab.upstream([large])];
  const hanging = hang(first);
  const client = await lab.client([first, second]);
  const answer = await fetchNar(client, large);
  t.ok(answer.complete && answer.body.equals(large.bytes));
  t.ok(answer.ms < 5_000, `${answer.ms} ms`);
  await until(() => hanging.open() === 0);
  const { legs } = await storyOf(lab, client, large);
  t.match(legs, [
    { source: first.url, why: 'peers-unknown', end: 'beaten', usedBytes: 0 },
    { source: second.url, why: 'late', end: 'finished', usedBytes: large.bytes.length },
  ]);
});

t.test('who was left behind at first helps when the one who left it behind hangs', async (t) => {
  const lab = await Lab.open(t);
  const [upstream, catalog] = [await lab.upstream([large]), await lab.catalog([large])];
  upstream.intercept = (request, response) => {
    if (!request.url?.includes('nar/')) return false;
    response.writeHead(200, { 'content-length': large.bytes.length });
    response.write(large.bytes.subarray(0, 2_000_000));
    return true;
  };
  const mostIsHere = Promise.withResolvers<void>();
  await gatedPeers(t, catalog, mostIsHere.promise);
  const patience = { httpStallMs: 60_000, swarmPatienceMs: 60_000, swarmStallMs: 20_000 };
  const client = await lab.client([upstream], [catalog], { limits: patience });
  const answer = await fetchKnownNar(client, large, {
    onBytes: (bytes) => bytes > 1_900_000 && mostIsHere.resolve(),
  });
  t.ok(answer.complete && answer.body.equals(large.bytes));
  t.ok(answer.ms < 20_000, `${answer.ms} ms`);
  await until(() => statusOf(client).nars.mixed === 1);
});

t.test('a body that hangs where the swarm runs ahead of it is gone on with from the swarm', async (t) => {
  const lab = await Lab.open(t);
  const [upstream, catalog] = [await lab.upstream([huge]), await lab.catalog([huge])];
  const asked = Promise.withResolvers<void>();
  catalog.beforeResolve = () => asked.promise;
  upstream.intercept = (request, response) => {
    if (!request.url?.includes('nar/')) return false;
    response.writeHead(200, { 'content-length': huge.bytes.length });
    const stepBytes = 64 * 1024;
    let at = 0;
    const timer = setInterval(() => {
      // As soon as the swarm gives, this one does no more.
      if (response.destroyed || catalog.uploadedBytes > 0) return clearInterval(timer);
      response.write(huge.bytes.subarray(at, at + stepBytes));
      at += stepBytes;
      if (at > 1_000_000) asked.resolve();
    }, 5);
    return true;
  };
  const patience = { httpStallMs: 60_000, swarmPatienceMs: 60_000, swarmStallMs: 20_000 };
  const client = await lab.client([upstream], [catalog], { limits: patience });
  const answer = await fetchNar(client, huge);
  t.ok(answer.complete && answer.body.equals(huge.bytes));
  t.ok(answer.ms < 20_000, `${answer.ms} ms`);
  await until(() => statusOf(client).nars.mixed === 1);
});

t.test('a body that is cut costs no time when the swarm runs ahead of it', async (t) => {
  const lab = await Lab.open(t);
  const [upstream, catalog] = [await lab.upstream([large]), await lab.catalog([large])];
  const asked = Promise.withResolvers<void>();
  catalog.beforeResolve = () => asked.promise;
  upstream.intercept = (request, response) => {
    if (!request.url?.includes('nar/')) return false;
    response.writeHead(200, { 'content-length': large.bytes.length });
    response.write(large.bytes.subarray(0, 1_000_000), () => asked.resolve());
    void until(() => catalog.uploadedBytes > 0).then(() => response.destroy());
    return true;
  };
  const client = await lab.client([upstream], [catalog], { limits: { swarmStallMs: 20_000 } });
  const answer = await fetchNar(client, large);
  t.ok(answer.complete && answer.body.equals(large.bytes));
  t.match(statusOf(client).nars, { mixed: 1 });
});

t.test('liars on both sides spoil nothing of what others give, and are known afterwards', async (t) => {
  const lab = await Lab.open(t);
  const wrong = (at: number): Buffer => {
    const bytes = Buffer.from(large.bytes);
    bytes[at] = ~(bytes[at] ?? 0);
    return bytes;
  };
  const [bad, good] = [await lab.upstream([large]), await lab.upstream([large])];
  bad.put(large.narInfo.url, wrong(1_000_000));
  const catalog = await lab.catalog([{ ...large, bytes: wrong(2_000_000) }]);
  const client = await lab.client([bad, good], [catalog]);
  const answer = await fetchKnownNar(client, large);
  t.ok(answer.complete && answer.body.equals(large.bytes));
  await client.close();
});

t.test('when all of them lie nothing wrong ends cleanly', async (t) => {
  const lab = await Lab.open(t);
  const bad = await lab.upstream([tiny, large]);
  const liars: MadeNar[] = [];
  for (const nar of [tiny, large]) {
    const bytes = Buffer.from(nar.bytes);
    bytes[nar.bytes.length - 1] = ~(bytes[nar.bytes.length - 1] ?? 0);
    bad.put(nar.narInfo.url, bytes);
    liars.push({ ...nar, bytes });
  }
  const client = await lab.client([bad], [await lab.catalog(liars)]);
  for (const nar of [tiny, large]) {
    const answer = await fetchKnownNar(client, nar);
    t.notOk(answer.complete && answer.status === 200, nar.narInfo.storePath);
    t.ok(large.bytes.subarray(0, answer.body.length).equals(answer.body) || answer.status === 404);
  }
});

t.test('a tiny file that two caches give is held against FileHash for each of them alone', async (t) => {
  const lab = await Lab.open(t);
  const [cut, bad, good] = [
    await lab.upstream([tiny]),
    await lab.upstream([tiny]),
    await lab.upstream([tiny]),
  ];
  cut.intercept = (request, response) => {
    if (!request.url?.includes('nar/')) return false;
    response.writeHead(200, { 'content-length': tiny.bytes.length });
    response.write(tiny.bytes.subarray(0, 10_000), () => response.destroy());
    return true;
  };
  bad.put(tiny.narInfo.url, Buffer.alloc(tiny.bytes.length, 1));
  const client = await lab.client([cut, bad, good]);
  t.ok((await fetchNar(client, tiny)).body.equals(tiny.bytes));
  t.equal(statusOf(client).wrong, 1);
  const { legs } = await storyOf(lab, client, tiny);
  t.match(
    legs.map(({ source, end }) => ({ source, end })),
    [
      { source: cut.url, end: 'failed' },
      { source: bad.url, end: 'failed' },
      { source: good.url, end: 'finished' },
    ],
  );
});

/** Gives the large file with one wrong byte: `firstBytes` of it, and the rest when the torrent is `known`. */
async function lyingUpstream(t: Test, wrongByte: number, firstBytes: number, known: () => boolean) {
  const lab = await Lab.open(t);
  const [upstream, catalog] = [await lab.upstream([large]), await lab.catalog([large])];
  const asked = Promise.withResolvers<void>();
  catalog.beforeResolve = () => asked.promise;
  const bytes = Buffer.from(large.bytes);
  bytes[wrongByte] = ~(bytes[wrongByte] ?? 0);
  upstream.intercept = (request, response) => {
    if (!request.url?.includes('nar/')) return false;
    response.writeHead(200, { 'content-length': bytes.length });
    response.write(bytes.subarray(0, firstBytes));
    void until(known).then(() => response.end(bytes.subarray(firstBytes)));
    return true;
  };
  return { lab, upstream, catalog, answer: () => asked.resolve() };
}

t.test(
  'what comes while the torrent is looked up is held, and wrong bytes of it never reach Nix',
  async (t) => {
    const known = (): boolean => statusOf(client).state.torrents > 0;
    const { lab, upstream, catalog, answer } = await lyingUpstream(t, 10, 1_000_000, known);
    const limits = { ...unhurried, resolveBudgetMs: 20_000 };
    const client = await lab.client([upstream], [catalog], { limits });
    const fetched = fetchNar(client, large);
    const running = () =>
      statusOf(client).transfers.running as { fetchedBytes: number; releasedBytes: number }[];
    await until(() => running().some(({ fetchedBytes }) => fetchedBytes === 1_000_000));
    t.match(running(), [{ releasedBytes: 0 }]);
    answer();
    const { complete, body } = await fetched;
    t.ok(complete && body.equals(large.bytes));
    await until(() => running().length === 0);
    t.match(statusOf(client), { nars: { swarm: 1, http: 0, mixed: 0 }, wrong: 1, failed: 0 });
    const requests = upstream.requestsFor(large.narInfo.url);
    t.equal(requests, 1, 'who lied is not asked again');
  },
);

for (const wrongByte of [940_000, 999_999, 1_500_000])
  t.test(`after right bytes of which some were released, byte ${wrongByte} is wrong`, async (t) => {
    const known = (): boolean => statusOf(client).state.torrents > 0;
    const { lab, upstream, catalog, answer } = await lyingUpstream(t, wrongByte, 1_000_000, known);
    const limits = { ...unhurried, resolveBudgetMs: 50 };
    const client = await lab.client([upstream], [catalog], { limits });
    const { complete, body } = await fetchNar(client, large, { onBytes: answer });
    t.ok(complete && body.equals(large.bytes));
    await until(() => statusOf(client).transfers.running.length === 0);
    t.match(statusOf(client), { nars: { mixed: 1 }, wrong: 1, failed: 0 });
  });

t.test('wrong bytes that were released are not followed by right ones, and known afterwards', async (t) => {
  const known = (): boolean => statusOf(client).state.torrents > 0;
  const { lab, upstream, catalog, answer } = await lyingUpstream(t, 10, 1_000_000, known);
  const limits = { ...unhurried, resolveBudgetMs: 50 };
  const client = await lab.client([upstream], [catalog], { limits });
  t.notOk((await fetchNar(client, large, { onBytes: answer })).complete);
  const requests = upstream.requestsFor(large.narInfo.url);
  const again = await get(client.url, large.narInfo.url);
  t.ok(again.complete && again.body.equals(large.bytes));
  t.equal(upstream.requestsFor(large.narInfo.url), requests, 'who lied is not asked again');
});

t.test('a wrong end is fetched again from the next cache, without any torrent', async (t) => {
  const lab = await Lab.open(t);
  const [bad, good] = [await lab.upstream([large]), await lab.upstream([large])];
  const bytes = Buffer.from(large.bytes);
  bytes[bytes.length - 1] = ~(bytes[bytes.length - 1] ?? 0);
  bad.put(large.narInfo.url, bytes);
  const client = await lab.client([bad, good], [], { limits: unhurried });
  const { complete, body } = await fetchNar(client, large);
  t.ok(complete && body.equals(large.bytes));
  t.ok(good.narBytes < 100_000, `${good.narBytes} bytes of the good one`);
});

t.test(
  'a wrong torrent that becomes known while HTTP runs spoils nothing, and is not asked for again',
  async (t) => {
    const lab = await Lab.open(t);
    const other = madeNar({ name: 'other', sizeBytes: large.bytes.length });
    const { torrentInfo } = large;
    const named = parseInfoDictionary(infoDictionary({ ...other.torrent, name: large.torrent.name }));
    const hashes = { infoHash: named.infoHash, narInfoHash: named.infoHash };
    const mistaken = {
      ...large,
      torrent: named,
      torrentInfo: signTorrentInfo({ ...torrentInfo, ...hashes, sigs: [] }, catalogKey),
    };
    const [upstream, catalog] = [await lab.upstream([large]), await lab.catalog([mistaken])];
    const asked = Promise.withResolvers<void>();
    catalog.beforeResolve = () => asked.promise;
    upstream.intercept = (request, response) => {
      if (!request.url?.includes('nar/')) return false;
      response.writeHead(200, { 'content-length': large.bytes.length });
      response.write(large.bytes.subarray(0, 1_000_000), () => asked.resolve());
      void until(() => statusOf(client).state.torrents > 0).then(() =>
        response.end(large.bytes.subarray(1_000_000)),
      );
      return true;
    };
    const client = await lab.client([upstream], [catalog], {
      limits: { ...unhurried, resolveBudgetMs: 20_000 },
    });
    const answer = await fetchNar(client, large);
    t.ok(answer.complete && answer.body.equals(large.bytes));
    await until(
      () => statusOf(client).state.torrents === 0 || statusOf(client).transfers.running.length === 0,
    );
    t.match(statusOf(client), { nars: { http: 1 }, wrong: 0 });
  },
);

t.test('a catalog that takes longer than an upstream that fails is waited for in the end', async (t) => {
  const lab = await Lab.open(t);
  const [upstream, catalog] = [await lab.upstream([tiny]), await lab.catalog([tiny])];
  const answered = Promise.withResolvers<void>();
  catalog.beforeResolve = () => answered.promise;
  let asked = 0;
  upstream.intercept = (request, response) => {
    if (!request.url?.includes('nar/')) return false;
    // The first time it is asked once more at once, as its connection may have been an old one.
    if (++asked > 2) answered.resolve();
    response.destroy();
    return true;
  };
  const client = await lab.client([upstream], [catalog], { limits: { resolveBudgetMs: 50 } });
  t.ok((await fetchNar(client, tiny)).body.equals(tiny.bytes));
  t.match(statusOf(client).nars, { swarm: 1 });
});

t.test('with no upstream the swarm is waited for', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([large]);
  await slowPeers(t, catalog, { delayMs: 150 });
  const client = await lab.client([], [catalog], { noUpstream: true });
  const answer = await fetchNar(client, large);
  t.ok(answer.complete && answer.body.equals(large.bytes));
  const { legs } = await storyOf(lab, client, large);
  t.match(legs[0], { why: 'no-http', fromByte: 0, unusedBytes: 0 });
});
