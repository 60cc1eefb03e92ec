/** The catalog of a whole seeder, followed over HTTP and over BitTorrent, and a NAR file that is revoked beside it. */

import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openCatalog } from '../../catalog/catalog.ts';
import { followCatalog } from '../../catalog/follow.ts';
import { openFollowed } from '../../catalog/followed.ts';
import { parseHead } from '../../catalog/head.ts';
import { segmentName } from '../../catalog/segment.ts';
import { secretKeyFromSeed } from '../../nar/signature.ts';
import { storeHashOf } from '../../nar/store-path.ts';
import { openSeeder, type Seeder } from '../../seeder/main.ts';
import { type PeerAddress, parsePeer } from '../../swarm/address/peer-address.ts';
import { parseTorrentFile } from '../../swarm/torrent/torrent-file.ts';
import { HttpCatalog } from '../../upstream/http-catalog.ts';
import { silentLogger } from '../../web/log.ts';
import { get } from '../client/lab.ts';
import { type Built, CacheBuilder, sha256 } from '../helpers/cache-builder.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';
import { collect, fetchFrom } from '../swarm/fetch-fixture.ts';

const secretKey = secretKeyFromSeed('catalog.test-1', Buffer.alloc(32, 9));

interface Lab {
  dir: string;
  seeder: Seeder;
  cache: CacheBuilder;
  built: Built[];
}

function peersOf(seeder: Seeder): PeerAddress[] {
  const peer = parsePeer(seeder.peersAddress);
  return peer === undefined ? [] : [peer];
}

async function open(t: Test): Promise<Lab> {
  provesNothingStaysOpen(t);
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-catalog-http-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await mkdir(join(dir, 'cache'));
  const cache = await new CacheBuilder(join(dir, 'cache')).open();
  const built: Built[] = [];
  for (const name of ['one', 'two', 'three']) {
    built.push(await cache.add({ name, tree: { data: randomBytes(100_000) } }));
  }
  const anyPort = { host: '127.0.0.1', port: 0 };
  const seeder = await openSeeder({
    dataDir: join(dir, 'data'),
    sources: [cache.url],
    trustedKeys: [cache.publicKey],
    secretKey,
    http: anyPort,
    peers: anyPort,
    logger: silentLogger,
  });
  t.teardown(() => seeder.close());
  await seeder.ingested;
  await seeder.publish();
  return { dir, seeder, cache, built };
}

t.test('the head and its segments over HTTP, with what caches need to know', async (t) => {
  const { seeder } = await open(t);
  const head = await get(seeder.url, 'catalog/head');
  t.match(head, { status: 200, headers: { 'cache-control': /^no-cache/ } });
  const { segments, records } = parseHead(head.body.toString());
  t.equal(records, 6);
  const etag = String(head.headers.etag);
  t.match(await get(seeder.url, 'catalog/head', { headers: { 'if-none-match': etag } }), { status: 304 });
  const [segment] = segments;
  if (segment === undefined) throw new Error('no segment');
  const path = `catalog/${segmentName(segment.sha256)}`;
  const whole = await get(seeder.url, path);
  t.match(whole, { status: 200, headers: { 'cache-control': /immutable/, 'accept-ranges': 'bytes' } });
  t.equal(sha256(whole.body), segment.sha256);
  const part = await get(seeder.url, path, { headers: { range: 'bytes=10-19' } });
  t.equal(part.status, 206);
  t.ok(part.body.equals(whole.body.subarray(10, 20)));
  for (const other of [
    'catalog/',
    'catalog/heads',
    `catalog/${'0'.repeat(52)}.segment.zst`,
    'catalog/..%2fcatalog.sqlite',
  ]) {
    t.equal((await get(seeder.url, other)).status, 404, other);
  }

  const torrent = parseTorrentFile((await get(seeder.url, `${segment.infoHash}.torrent`)).body);
  t.match(torrent, { name: segmentName(segment.sha256), infoHash: segment.infoHash });
  const fetch = fetchFrom(t, peersOf(seeder), { torrent });
  t.ok((await collect(fetch)).bytes.equals(whole.body), 'the same file over BitTorrent');
});

t.test('a NAR file that is revoked beside a running seeder is gone at once, for everybody', async (t) => {
  const { dir, seeder, built } = await open(t);
  const [bad, good] = built;
  if (bad === undefined || good === undefined) throw new Error('nothing was built');
  const transport = new HttpCatalog({ url: seeder.url });
  t.teardown(() => transport.close());
  const followed = openFollowed(join(dir, 'followed.sqlite'));
  t.teardown(() => followed.close());
  const options = { keys: [secretKey.publicKey], nixStoreDir: '/nix/store', now: Date.now };
  t.match(await followCatalog(followed, transport, options), { state: 'advanced', records: 6 });
  t.match(await followCatalog(followed, transport, options), { state: 'unchanged' });
  const { narInfo } = bad;
  const storeHash = storeHashOf(narInfo.storePath);
  const fileHash = followed.narInfo(storeHash)?.fileHash;
  const infoHash = fileHash && followed.torrentInfo(fileHash)?.infoHash;
  if (fileHash === undefined || infoHash === undefined) throw new Error('not followed');

  const torrent = parseTorrentFile((await get(seeder.url, `${infoHash}.torrent`)).body);
  await collect(fetchFrom(t, peersOf(seeder), { torrent }));
  // As another process does it.
  const beside = openCatalog(join(dir, 'data', 'catalog.sqlite'));
  beside.revoke(fileHash, { time: 1_800_000_000, reason: 'it is another package’s' });
  beside.close();
  for (const path of [bad.narInfoName, narInfo.url, `${fileHash}.torrentinfo`, `${infoHash}.torrent`]) {
    t.equal((await get(seeder.url, path)).status, 404, path);
  }
  t.equal((await get(seeder.url, good.narInfoName)).status, 200);
  await seeder.publish();
  t.match(seeder.status(), { log: { revoked: 1, fault: null }, catalog: { rejectedByCode: { revoked: 1 } } });
  t.match(await followCatalog(followed, transport, options), { state: 'advanced', records: 7 });
  t.equal(followed.revoked(fileHash)?.reason, 'it is another package’s');
  t.equal(followed.narInfo(storeHash), undefined);
  const again = fetchFrom(t, peersOf(seeder), { torrent });
  await t.rejects(collect(again), { code: 'swarm-exhausted' });
});
