/** A mirror of several catalogs, one of which says what harms the others. */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { type Pack, printPack } from '../../catalog/pack.ts';
import type { CatalogRecord } from '../../catalog/record.ts';
import { segmentName } from '../../catalog/segment.ts';
import { parseTorrentInfo, printTorrentInfo, signTorrentInfo } from '../../catalog/torrentinfo.ts';
import { parseSha256 } from '../../nar/hash.ts';
import { MadeLog } from '../catalog/made-log.ts';
import { sha256 } from '../helpers/cache-builder.ts';
import { until } from '../helpers/program.ts';
import { download, fetchManifest, fetchTorrent, resolvePacks } from '../seeder/pack-lab.ts';
import { catalogKey, MirrorLab } from './lab.ts';

/** The server of a catalog that says these records, signed by the key of that name. */
async function serve(t: Test, keyName: string, records: readonly CatalogRecord[]) {
  const key = catalogKey(keyName);
  const log = new MadeLog();
  Object.assign(log, { keys: [key], signers: [key], time: Math.floor(Date.now() / 1000) });
  await log.add(records);
  const texts = new Map<string, string | Buffer>([['/catalog/head', log.head()]]);
  for (const [name, bytes] of log.files) texts.set(`/catalog/${segmentName(name)}`, bytes);
  const server = createServer((request, response) => {
    const found = texts.get(request.url ?? '');
    response.writeHead(found === undefined ? 404 : 200).end(found);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, keys: [key.publicKey] };
}

t.test('what a catalog says of the pack of another takes nothing from it', async (t) => {
  const lab = await MirrorLab.open(t);
  const chain = await lab.chain('a', 4, 20 * 1024);
  const fileHashes = chain.map(({ narFile }) => sha256(narFile));
  const packless = await lab.seeder({ packs: { ageMs: Number.POSITIVE_INFINITY } });
  const before = await lab.mirror('m', [packless.url]);
  await until(async () => before.status().held.files === chain.length);
  await before.close();
  await packless.close();
  const packing = await lab.seeder({ packs: { ageMs: 0 } });
  await packing.closePacks();
  await packing.publish();
  const [place] = await resolvePacks(packing, fileHashes);
  const pack = await fetchManifest(packing, place?.infoHash ?? '');
  // Another may know of the same NAR files: only then can it make the pack, and find that it is another.
  const records: CatalogRecord[] = [];
  for (const { narInfo, narFile } of chain) {
    const fileHash = sha256(narFile);
    const signed = await (await fetch(`${packing.url}/${fileHash}.torrentinfo`)).text();
    const text = printTorrentInfo(signTorrentInfo(parseTorrentInfo(signed), catalogKey('false-22')));
    records.push({ kind: 'torrentinfo', text }, { kind: 'narinfo', fileHash, text: narInfo.text });
  }
  await packing.close();
  const { infoHash } = pack;
  const own = [catalogKey('catalog-1').publicKey];
  const manifest = (narFiles: Pack['narFiles']): CatalogRecord => ({
    kind: 'pack',
    infoHash,
    text: printPack({ ...pack, narFiles }),
  });
  const absent = parseSha256('0'.repeat(52));
  const [one, ...others] = pack.narFiles;
  if (one === undefined) throw new Error('an empty pack');
  const false1 = await serve(t, 'false-1', [manifest([{ ...one, fileHash: absent }, ...others])]);
  const false2 = await serve(t, 'false-22', [...records, manifest(pack.narFiles.toReversed())]);

  // The right catalog is away, until the others had their say.
  const mirror = await lab.mirror('m', [packing.url, false1.url, false2.url], {
    catalogKeys: [false2.keys, own, false1.keys],
  });
  await until(async () => mirror.status().packs.wrong === 1);
  const seeder = await lab.seeder({ http: { host: '127.0.0.1', port: Number(new URL(packing.url).port) } });
  await until(async () => mirror.status().packs.seeded === 1);
  t.ok(mirror.status().catalogs.every(({ records }) => records > 0));
  const torrent = await fetchTorrent(seeder, infoHash);
  t.equal((await download(mirror.peersAddress, torrent)).length, torrent.length, 'the right bytes');
});

t.test('no catalog has a say in what a URL of another names', async (t) => {
  const lab = await MirrorLab.open(t);
  const url = 'some/where?file=1';
  const good = await lab.cache.add({ name: 'good', values: { url } });
  const other = await lab.cache.add({ name: 'other' });
  const seeder = await lab.seeder();
  const fileHash = sha256(other.narFile);
  const torrentInfo = parseTorrentInfo(await (await fetch(`${seeder.url}/${fileHash}.torrentinfo`)).text());
  const own = [catalogKey('catalog-1').publicKey];
  const false1 = await serve(t, 'false-1', [
    { kind: 'torrentinfo', text: printTorrentInfo(signTorrentInfo(torrentInfo, catalogKey('false-1'))) },
    { kind: 'narinfo', fileHash, text: other.narInfo.text.replace(/^URL: .*$/m, `URL: ${url}`) },
  ]);
  const mirror = await lab.mirror('m', [seeder.url, false1.url], { catalogKeys: [own, false1.keys] });
  await until(async () => mirror.status().held.files === 2);
  await until(async () => mirror.status().catalogs.every(({ records }) => records > 0));
  const get = async (path: string): Promise<Buffer> =>
    Buffer.from(await (await fetch(`${mirror.url}/${path}`)).arrayBuffer());
  t.match((await get(`of/false-1/${other.narInfoName}`)).toString(), url);
  t.ok((await get(`of/false-1/${url}`)).equals(other.narFile));
  t.ok((await get(url)).equals(good.narFile));
  t.ok((await get(`of/catalog-1/${url}`)).equals(good.narFile));
});
