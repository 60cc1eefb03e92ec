/** The HTTP surface of a whole seeder, asked over a socket. */

import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import parseTorrent from 'parse-torrent';
import t, { type Test } from 'tap';
import { parseTorrentInfo, verifyTorrentInfo } from '../../catalog/torrentinfo.ts';
import { secretKeyFromSeed } from '../../nar/signature.ts';
import { openSeeder, type Seeder } from '../../seeder/main.ts';
import type { SeederUpload } from '../../seeder/upload.ts';
import { parseTorrentFile } from '../../swarm/torrent/torrent-file.ts';
import { silentLogger } from '../../web/log.ts';
import { get } from '../client/lab.ts';
import { type Built, CacheBuilder, sha256 } from '../helpers/cache-builder.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

const catalogKey = secretKeyFromSeed('catalog.test-1', Buffer.alloc(32, 9));

interface Lab {
  seeder: Seeder;
  cache: CacheBuilder;
  good: Built;
  refused: Built;
}

async function open(t: Test, upload: Partial<SeederUpload> = {}): Promise<Lab> {
  provesNothingStaysOpen(t);
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-seeder-http-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await mkdir(join(dir, 'cache'));
  const cache = await new CacheBuilder(join(dir, 'cache')).open();
  const good = await cache.add({ name: 'good', tree: { data: randomBytes(300_000) } });
  const refused = await cache.add({ name: 'refused', narFile: Buffer.from('no xz at all') });
  const seeder = await openSeeder({
    dataDir: join(dir, 'data'),
    sources: [cache.url],
    trustedKeys: [cache.publicKey],
    secretKey: catalogKey,
    http: { host: '127.0.0.1', port: 0 },
    peers: { host: '127.0.0.1', port: 0 },
    upload,
    logger: silentLogger,
  });
  t.teardown(() => seeder.close());
  await seeder.ingested;
  return { seeder, cache, good, refused };
}

t.test('a binary cache: narinfos verbatim, NAR files with Range, HEAD and ETag', async (t) => {
  const { seeder, good } = await open(t);
  const text = async (path: string) => (await get(seeder.url, path)).body.toString();
  t.equal(await text('nix-cache-info'), 'StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 50\n');
  t.equal(await text(good.narInfoName), good.narInfo.text);
  const etag = `"${sha256(good.narFile)}"`;
  const whole = await get(seeder.url, good.narInfo.url);
  t.match(whole, { status: 200, headers: { etag, 'accept-ranges': 'bytes' } });
  t.ok(whole.body.equals(good.narFile));
  t.notOk('content-encoding' in whole.headers);
  const part = await get(seeder.url, good.narInfo.url, { headers: { range: 'bytes=10-' } });
  t.equal(part.status, 206);
  t.ok(part.body.equals(good.narFile.subarray(10)));
  const head = await get(seeder.url, good.narInfo.url, { method: 'HEAD' });
  t.match(head, { status: 200, headers: { etag, 'content-length': String(good.narFile.length) } });
  t.equal(head.body.length, 0);
});

/** The URLs that the .torrent of the good NAR file names as web seeds. */
async function webSeeds({ seeder, good }: Lab): Promise<string[]> {
  const info = (await get(seeder.url, `${sha256(good.narFile)}.torrentinfo`)).body.toString();
  const torrent = await get(seeder.url, `${parseTorrentInfo(info).infoHash}.torrent`);
  return (await parseTorrent(torrent.body)).urlList ?? [];
}

t.test('a web seed of its torrents, for as many copies as leave freely', async (t) => {
  const lab = await open(t, { initialCopies: 2 });
  const [url = '', ...more] = await webSeeds(lab);
  t.same(more, []);
  t.ok(url.startsWith(`${lab.seeder.url}/nar/`));
  const range = { range: 'bytes=100000-' };
  const part = Buffer.from(await (await fetch(url, { headers: range })).arrayBuffer());
  t.ok(part.equals(lab.good.narFile.subarray(100_000)));
  t.equal((await webSeeds(lab)).length, 1, 'that was less than two copies');
  for (let copy = 0; copy < 2; copy++) await (await fetch(url)).arrayBuffer();
  const refused = await fetch(url, { headers: range });
  t.match(refused, { status: 503 });
  t.ok(Number(refused.headers.get('retry-after')) > 0);
  t.same(await webSeeds(lab), [], 'a capped torrent names none');
  const forNix = await get(lab.seeder.url, lab.good.narInfo.url);
  t.ok(forNix.body.equals(lab.good.narFile), 'Nix is served all the same');
});

t.test('under a rate for all torrents no web seed is named, which would not keep to it', async (t) => {
  t.same(await webSeeds(await open(t, { bytesPerSecond: 1024 * 1024 })), []);
});

t.test('a catalog: what is signed is about these bytes, and peers come with it', async (t) => {
  const { seeder, good, refused } = await open(t);
  const fileHash = sha256(good.narFile);
  const info = parseTorrentInfo((await get(seeder.url, `${fileHash}.torrentinfo`)).body.toString());
  t.ok(verifyTorrentInfo(info, [seeder.publicKey]));
  t.match(info, { fileHash, narHash: sha256(good.nar), fileSize: good.narFile.length });
  for (const infoHash of [info.infoHash, info.narInfoHash]) {
    const torrent = parseTorrentFile((await get(seeder.url, `${infoHash}.torrent`)).body);
    t.equal(torrent.infoHash, infoHash);
  }
  const answer = await fetch(`${seeder.url}/resolve`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ fileHashes: [fileHash, sha256(refused.narFile)] }),
  });
  const lines = (await answer.text()).trimEnd().split('\n');
  t.equal(lines.length, 1, 'what was refused is unknown');
  t.match(JSON.parse(lines[0] ?? ''), { fileHash, peers: [seeder.peersAddress] });
  for (const body of [
    '{',
    '{"fileHashes":["x"]}',
    '{"fileHashes":5}',
    JSON.stringify({ fileHashes: Array(5_001).fill(fileHash) }),
  ]) {
    const headers = { 'content-type': 'application/json' };
    t.equal((await fetch(`${seeder.url}/resolve`, { method: 'POST', headers, body })).status, 400);
  }
  t.match((await get(seeder.url, 'feed.xml?kind=nars')).body.toString(), `${info.infoHash}.torrent`);
});

t.test('what is refused or malformed is 404, and told in the status', async (t) => {
  const { seeder, refused } = await open(t);
  const paths = [
    refused.narInfoName,
    refused.narInfo.url,
    `${sha256(refused.narFile)}.torrentinfo`,
    `${'0'.repeat(40)}.torrent`,
    'x.narinfo',
    'x.torrent',
    'x.torrentinfo',
    '../../etc/passwd',
    'nar/..%2f..%2fetc%2fpasswd',
    'nar/%00',
    '%ff.narinfo',
  ];
  for (const path of paths) {
    const { status } = await get(seeder.url, path);
    t.ok(status === 404 || (status === 400 && path.startsWith('%')), `${path}: ${status}`);
  }
  const status = JSON.parse((await get(seeder.url, 'status')).body.toString());
  t.match(status, { role: 'seeder', catalog: { nars: 1, rejected: 1 } });
  t.match(JSON.stringify(status), refused.narInfoName);
  for (const path of ['healthz', 'metrics', '']) t.equal((await get(seeder.url, path)).status, 200, path);
});

t.test('a NAR file that went away is 404, for HEAD as well', async (t) => {
  const { seeder, cache, good } = await open(t);
  await unlink(join(cache.directory, good.narInfo.url));
  for (const method of ['HEAD', 'GET'])
    t.equal((await get(seeder.url, good.narInfo.url, { method })).status, 404, method);
});
