import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { printTorrentInfo, signTorrentInfo } from '../../catalog/torrentinfo.ts';
import type { ClientLimits } from '../../client/config.ts';
import type { Client } from '../../client/main.ts';
import { infoDictionary } from '../../swarm/torrent/torrent.ts';
import { makeLogger, silentLogger } from '../../web/log.ts';
import { fetchKnownNar, fetchNar, get, Lab, statusOf, unhurried, until } from './lab.ts';
import { catalogKey, type MadeNar, madeNar, strangerKey } from './made-nar.ts';

const small = madeNar({ name: 'small', sizeBytes: 5_000 });
const large = madeNar({ name: 'large', sizeBytes: 4_000_000, compression: 'none' });

/** A peer that accepts connections and says nothing. */
async function silentPeer(t: Test): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.resume();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('unreachable');
  return `127.0.0.1:${address.port}`;
}

t.test('a NAR file comes from the swarm alone, without an upstream', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([small, large]);
  const client = await lab.client([], [catalog], { noUpstream: true });
  for (const nar of [small, large]) {
    const answer = await fetchNar(client, nar);
    t.equal(answer.status, 200);
    t.ok(answer.body.equals(nar.bytes));
    t.equal(answer.headers.etag, `"${nar.fileHash}"`);
  }
  const total = small.bytes.length + large.bytes.length;
  t.match(statusOf(client), { bytes: { swarm: total, http: 0 }, nars: { swarm: 2, http: 0, mixed: 0 } });
  t.ok(catalog.uploadedBytes >= total);
});

t.test(
  'with an upstream the swarm comes first, when its peers are known and the file is not tiny',
  async (t) => {
    const lab = await Lab.open(t);
    const upstream = await lab.upstream([small, large]);
    const limits = unhurried;
    const client = await lab.client([upstream], [await lab.catalog([small, large])], { limits });
    t.ok((await fetchKnownNar(client, large)).body.equals(large.bytes));
    t.match(statusOf(client).nars, { swarm: 1, http: 0, mixed: 0 });
    t.equal(upstream.narBytes, 0);
    t.ok((await fetchNar(client, small)).body.equals(small.bytes));
    t.match(statusOf(client).nars, { swarm: 1, http: 1, mixed: 0 });
  },
);

t.test('a silent swarm costs a tiny file nothing, as HTTP is asked first', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([small]);
  catalog.peers = [await silentPeer(t)];
  const client = await lab.client([await lab.upstream([small])], [catalog]);
  const answer = await fetchNar(client, small);
  t.same(answer.body, small.bytes);
  t.ok(answer.ms < 1_500, `${answer.ms} ms`);
  t.match(statusOf(client).nars, { swarm: 0, http: 1, mixed: 0 });
});

t.test('peers that cannot be reached cost less than that', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([small]);
  catalog.peers = ['127.0.0.1:9'];
  const client = await lab.client([await lab.upstream([small])], [catalog]);
  const answer = await fetchNar(client, small);
  t.same(answer.body, small.bytes);
  t.ok(answer.ms < 1_000, `${answer.ms} ms`);
});

t.test(
  'a peer that dies midway is followed by HTTP at the byte where it stopped, in the same answer',
  async (t) => {
    const lab = await Lab.open(t);
    const catalog = await lab.catalog([large]);
    const upstream = await lab.upstream([large]);
    const half = 2_000_000;
    catalog.beforeRead = async (position) => {
      if (position < half) return;
      // What it sent before would be lost with the connection.
      await until(() => statusOf(client).bytes.swarm > 0);
      void catalog.killSeeds();
      throw new Error('the machine is gone');
    };
    const client = await lab.client([upstream], [catalog], { limits: unhurried });
    const answer = await fetchKnownNar(client, large);
    t.ok(answer.complete);
    t.ok(answer.body.equals(large.bytes));
    const { bytes, nars } = statusOf(client);
    t.match(nars, { swarm: 0, http: 0, mixed: 1 });
    t.equal(bytes.swarm + bytes.http, large.bytes.length, 'no byte came twice');
    t.ok(bytes.swarm > 0 && bytes.http > 0);
    t.equal(upstream.narBytes, bytes.http);
    const ranges = upstream.requests.flatMap(({ range }) => range ?? []);
    t.same(ranges, [`bytes=${bytes.swarm}-`]);
  },
);

t.test('a swarm that stalls midway is followed by HTTP', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([large]);
  const upstream = await lab.upstream([large]);
  let release = (): void => undefined;
  const stalled = new Promise<void>((resolve) => {
    release = resolve;
  });
  t.teardown(() => release());
  catalog.beforeRead = async (position) => {
    if (position >= 2_000_000) await stalled;
  };
  const client = await lab.client([upstream], [catalog], { limits: { liveWithinMs: 20_000 } });
  const answer = await fetchKnownNar(client, large);
  release();
  t.ok(answer.body.equals(large.bytes));
  t.match(statusOf(client).nars, { mixed: 1 });
});

t.test('HTTP that breaks is followed by the swarm when it is back', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([large]);
  const upstream = await lab.upstream([large]);
  let slow = true;
  catalog.beforeRead = async () => {
    if (slow) await new Promise((resolve) => setTimeout(resolve, 700));
  };
  upstream.intercept = (request, response) => {
    if (!request.url?.includes('nar/')) return false;
    slow = false;
    response.writeHead(200, { 'content-length': large.bytes.length });
    response.write(large.bytes.subarray(0, 1_000_000), () => response.destroy());
    return true;
  };
  const client = await lab.client([upstream], [catalog]);
  const answer = await fetchNar(client, large);
  t.ok(answer.complete);
  t.ok(answer.body.equals(large.bytes));
  t.match(statusOf(client).nars, { mixed: 1 });
});

t.test('with a torrent known, wrong bytes over HTTP are noticed at their piece and replaced', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([large]);
  catalog.peers = [];
  const [bad, good] = [await lab.upstream([large]), await lab.upstream([large])];
  const wrong = Buffer.from(large.bytes);
  wrong[3_000_000] = ~(wrong[3_000_000] ?? 0);
  bad.put(large.narInfo.url, wrong);
  const client = await lab.client([bad, good], [catalog]);
  const answer = await fetchNar(client, large);
  t.ok(answer.complete);
  t.ok(answer.body.equals(large.bytes));
});

t.test('a catalog that forges, lies or talks nonsense changes nothing but the source', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([small, large]);
  const other = madeNar({ name: 'other', sizeBytes: 5_000 });
  const lies: ((line: Record<string, unknown>) => Record<string, unknown>)[] = [
    (line) => ({
      ...line,
      torrentinfo: printTorrentInfo(signTorrentInfo({ ...small.torrentInfo, sigs: [] }, strangerKey)),
    }),
    (line) => ({ ...line, info: infoDictionary(other.torrent).toString('base64') }),
    (line) => ({ ...line, info: 'AAAA' }),
    (line) => ({ ...line, peers: 'none' }),
    () => ({}),
  ];
  for (const [n, forge] of lies.entries()) {
    const catalog = await lab.catalog([small]);
    catalog.forge = forge;
    const client = await lab.client([upstream], [catalog], { dataDir: `${lab.dir}/${n}` });
    t.same((await fetchNar(client, small)).body, small.bytes);
    await until(() => statusOf(client).catalogs[0]?.refusedLines === 1);
    t.match(statusOf(client).nars, { swarm: 0, http: 1 });
    await client.close();
  }
});

t.test('an answer of nothing but lies is told of in one line of the log', async (t) => {
  const lab = await Lab.open(t);
  const nars = Array.from({ length: 50 }, (_, n) => madeNar({ name: `lie-${n}`, sizeBytes: 5_000 }));
  const catalog = await lab.catalog(nars);
  catalog.forge = (line) => ({ ...line, info: 'AAAA' });
  const lines: string[] = [];
  const logger = makeLogger({ human: false, write: (line) => lines.push(line) });
  const client = await lab.client([await lab.upstream(nars)], [catalog], { logger });
  await Promise.all(nars.map(({ storeHash }) => get(client.url, `${storeHash}.narinfo`)));
  await until(() => (statusOf(client).catalogs[0]?.refusedLines ?? 0) >= 50);
  t.equal(lines.filter((line) => line.includes('catalog-line-refused')).length, 1);
});

t.test('a torrent of other bytes, signed all the same, does no harm', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([small, large]);
  // The catalog's own mistake: infohash and pieces are of bytes that are not those of the FileHash.
  for (const nar of [small, large]) {
    const wrong = madeNar({ name: 'mistaken', sizeBytes: nar.bytes.length });
    const torrent = { ...wrong.torrent, name: nar.torrent.name };
    const { parseInfoDictionary } = await import('../../swarm/torrent/torrent.ts');
    const named = parseInfoDictionary(infoDictionary(torrent));
    const { infoHash } = named;
    const values = { ...nar.torrentInfo, infoHash, sigs: [] };
    const narInfoHash = nar.torrentInfo.compression === 'none' ? infoHash : values.narInfoHash;
    const mistaken = {
      ...nar,
      bytes: wrong.bytes,
      torrent: named,
      torrentInfo: signTorrentInfo({ ...values, narInfoHash }, catalogKey),
    };
    const catalog = await lab.catalog([mistaken]);
    const client = await lab.client([upstream], [catalog], { dataDir: `${lab.dir}/${nar.bytes.length}` });
    const first = await fetchNar(client, nar);
    if (nar === small) t.same(first.body, small.bytes, 'a file that was held back whole begins again');
    // Unless HTTP was done before there was a torrent.
    else if (first.complete && first.status === 200) t.ok(first.body.equals(nar.bytes));
    else t.pass('the answer is broken off');
    await until(() => statusOf(client).transfers.running.length === 0);
    const second = await fetchNar(client, nar);
    t.ok(second.complete && second.body.equals(nar.bytes), 'the next one is right');
    await client.close();
  }
});

t.test('a dead or hanging catalog does not keep HTTP waiting, and is left alone for a while', async (t) => {
  const lab = await Lab.open(t);
  const nars = Array.from({ length: 6 }, (_, n) => madeNar({ name: `n${n}`, sizeBytes: 1_000 }));
  const upstream = await lab.upstream(nars);
  const catalog = await lab.catalog(nars);
  catalog.intercept = () => true;
  for (const url of [catalog.url, 'http://127.0.0.1:9']) {
    const client = await lab.client([upstream], [url], { dataDir: `${lab.dir}/${url.length}` });
    const started = performance.now();
    for (const nar of nars) t.same((await fetchNar(client, nar)).body, nar.bytes);
    const ms = performance.now() - started;
    t.ok(ms < 1_500, `${ms} ms`);
    await client.close();
  }
});

t.test('a catalog that takes long is waited for when no upstream has the NAR file', async (t) => {
  for (const sizeBytes of [5_000, 1_000_000]) {
    const nars = ['first', 'second'].map((name) => madeNar({ name: `${name}-${sizeBytes}`, sizeBytes }));
    const lab = await Lab.open(t);
    const upstream = await lab.upstream(nars);
    for (const { narInfo } of nars) upstream.files.delete(`/${narInfo.url}`);
    const catalog = await lab.catalog(nars);
    const gate = Promise.withResolvers<void>();
    catalog.beforeResolve = () => gate.promise;
    const client = await lab.client([upstream], [catalog], { limits: { resolveBudgetMs: 50 } });
    const first = fetchNar(client, nars[0] as MadeNar);
    await until(() => statusOf(client).catalogs[0]?.state === 'resting');
    const second = fetchNar(client, nars[1] as MadeNar);
    await until(() => upstream.requests.some(({ url }) => url.endsWith(nars[1]?.narInfo.url ?? '')));
    gate.resolve();
    for (const [at, answer] of [await first, await second].entries())
      t.ok(answer.body.equals(nars[at]?.bytes ?? Buffer.alloc(0)), `${at}, ${sizeBytes} bytes`);
  }
});

t.test('the narinfos of a closure are looked up in few requests', async (t) => {
  const lab = await Lab.open(t);
  const nars = Array.from({ length: 40 }, (_, n) => madeNar({ name: `n${n}`, sizeBytes: 1_000 }));
  const catalog = await lab.catalog(nars);
  const limits = { resolveBudgetMs: 20_000 };
  const client = await lab.client([await lab.upstream(nars)], [catalog], { limits });
  const narInfosServed = Promise.withResolvers<void>();
  catalog.beforeResolve = () => narInfosServed.promise;
  await Promise.all(nars.map(({ storeHash }) => get(client.url, `${storeHash}.narinfo`)));
  narInfosServed.resolve();
  await until(() => statusOf(client).state.torrents === nars.length);
  // Four were under way while the narinfos came; the rest went with the next one.
  t.ok(catalog.resolves <= 5, `${catalog.resolves} requests`);
});

t.test('a torrent that was verified is known after a restart, and checks HTTP bytes', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([large]);
  const upstream = await lab.upstream([large]);
  const before = await lab.client([upstream], [catalog]);
  await get(before.url, `${large.storeHash}.narinfo`);
  await until(() => statusOf(before).catalogs[0]?.requests === 1);
  await get(before.url, large.narInfo.url, { onBytes: (_bytes, stop) => stop() });
  await before.close();
  await catalog.close();
  const bad = await lab.upstream([large]);
  const wrong = Buffer.from(large.bytes);
  wrong[3_999_999] = ~(wrong[3_999_999] ?? 0);
  bad.put(large.narInfo.url, wrong);
  const after = await lab.client([bad, upstream], [catalog.url]);
  const answer = await fetchNar(after, large);
  t.ok(answer.complete && answer.body.equals(large.bytes));
  t.match(statusOf(after).nars, { swarm: 0 });
});

t.test('a catalog without a key is refused', async (t) => {
  const lab = await Lab.open(t);
  await t.rejects(lab.client([], ['http://127.0.0.1:9'], { catalogKeys: [] }), { code: 'config-invalid' });
  await t.rejects(lab.client(['ftp://x']), { code: 'config-invalid' });
});

t.test('a peer that is not there is not tried for the next NAR file, nor waited for', async (t) => {
  const lab = await Lab.open(t);
  const nars = Array.from({ length: 6 }, (_, n) => madeNar({ name: `n${n}`, sizeBytes: 400_000 }));
  const catalog = await lab.catalog(nars);
  await catalog.killSeeds();
  const failed: unknown[] = [];
  const warn = (event: string, fields: Record<string, unknown> = {}): void => {
    if (event === 'source-failed') failed.push(fields.source);
  };
  const nowMs = Date.now();
  const config = { logger: { ...silentLogger, warn }, clock: () => nowMs };
  const client = await lab.client([await lab.upstream(nars)], [catalog], config);
  await Promise.all(nars.map(({ storeHash }) => get(client.url, `${storeHash}.narinfo`)));
  await until(() => statusOf(client).state.torrents === nars.length);
  for (const nar of nars) t.ok((await fetchNar(client, nar)).body.equals(nar.bytes));
  t.same(failed, ['swarm'], 'one failure was enough');
  t.match(statusOf(client).nars, { http: nars.length });
});

t.test('the torrent that one catalog forges is taken from another, whoever answers last', async (t) => {
  const lab = await Lab.open(t);
  for (const late of ['forger', 'honest'] as const) {
    const catalogs = { forger: await lab.catalog([small]), honest: await lab.catalog([small]) };
    catalogs.forger.forge = (line) => ({
      ...line,
      torrentinfo: printTorrentInfo(signTorrentInfo({ ...small.torrentInfo, sigs: [] }, strangerKey)),
    });
    const { url: honest } = catalogs.honest;
    const other = late === 'forger' ? 'honest' : 'forger';
    const released = Promise.withResolvers<void>();
    catalogs[late].beforeResolve = () => released.promise;
    const client = await lab.client([await lab.upstream([small])], Object.values(catalogs), {
      dataDir: `${lab.dir}/${late}`,
    });
    await get(client.url, `${small.storeHash}.narinfo`);
    await until(() => catalogs[other].resolves === 1);
    released.resolve();
    await until(() => statusOf(client).state.torrents === 1);
    await until(() => statusOf(client).catalogs.some(({ refusedLines }) => refusedLines === 1));
    const [refused] = statusOf(client).catalogs.filter(({ refusedLines }) => refusedLines > 0);
    t.not(refused?.url, honest, `${late} last`);
    await client.close();
  }
});

t.test('what a catalog signed of a small NAR file is not looked at before Nix has it', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([small]);
  const open = (limits: Partial<ClientLimits>): Promise<Client> =>
    lab.upstream([small]).then((upstream) => lab.client([upstream], [catalog], { limits }));
  const busy = await open({ catalogQuietMs: 600_000 });
  await get(busy.url, `${small.storeHash}.narinfo`);
  await until(() => catalog.resolves === 1);
  t.ok((await fetchNar(busy, small)).body.equals(small.bytes));
  t.match(statusOf(busy), { state: { torrents: 0 } });
  await busy.close();
  const idle = await open({});
  await get(idle.url, `${small.storeHash}.narinfo`);
  await until(() => statusOf(idle).state.torrents === 1);
});
