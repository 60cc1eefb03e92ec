/** Packs of a whole seeder: closed, served, found, and what happens when NAR files go. */

import { readdir, rm, utimes, writeFile } from 'node:fs/promises';
import t from 'tap';
import { packFiles, packLength, verifyPack } from '../../catalog/pack.ts';
import { packNarInfo } from '../../catalog/pack-narinfo.ts';
import type { Sha256 } from '../../nar/hash.ts';
import { remakePack } from '../../parts/remake-pack.ts';
import { pieceCount } from '../../swarm/torrent/torrent.ts';
import { get } from '../client/lab.ts';
import { type Built, sha256 } from '../helpers/cache-builder.ts';
import {
  addChain,
  catalogKey,
  download,
  fetchManifest,
  fetchTorrent,
  openPackLab,
  partsOf,
  resolvePacks,
} from './pack-lab.ts';

const kib = 1024;
const signal = new AbortController().signal;

function hashesOf(built: readonly Built[]): Sha256[] {
  return built.map(({ narFile }) => sha256(narFile));
}

/** Sizes of content: many tiny ones, some that have several pieces of 64 KiB. */
const mixed = Array.from({ length: 60 }, (_, index) =>
  index % 20 === 7 ? 150 * kib + index : 10 + index * 37,
);

t.test('a full pack is closed, served from the NAR files, and made again from its manifest', async (t) => {
  const { cache, start } = await openPackLab(t);
  const built = await addChain(cache, 'chain', mixed);
  const hostile = await cache.add({ name: 'query', values: { url: 'nar/x.nar?token=1' } });
  const large = await cache.add({
    name: 'large',
    tree: { data: Buffer.alloc(1100 * kib, 'x') },
    compression: 'none',
  });
  const seeder = await start({ sizeBytes: 400 * kib });
  await seeder.closePacks();
  const { packs } = seeder.status();
  t.match(packs, { closed: 1, failed: null, closing: null });
  t.equal(packs.nars + packs.unpacked.nars, 61, 'the one of more than 1 MiB is in none');
  const places = await resolvePacks(seeder, hashesOf([...built, large]));
  const infoHash = places.find((place) => place !== undefined)?.infoHash ?? '';
  t.equal(places.at(-1), undefined);

  const pack = await fetchManifest(seeder, infoHash);
  t.equal(verifyPack(pack, [seeder.publicKey]), catalogKey.name);
  const torrent = await fetchTorrent(seeder, infoHash);
  t.match(torrent, { infoHash: pack.infoHash, length: packLength(pack) });
  const bytes = await download(seeder.peersAddress, torrent);
  t.equal(bytes.length, torrent.length);
  const byHash = new Map(built.map((each) => [sha256(each.narFile), each]));
  const files = packFiles(pack);
  const texts = new Map(built.map(({ narInfo }) => [narInfo.storePath.slice(11, 43), narInfo.text]));
  for (const { offset, sizeBytes, narFile, narInfo, sha256: hash } of files) {
    const part = bytes.subarray(offset, offset + sizeBytes);
    t.equal(sha256(part), hash);
    if (narFile !== undefined) t.ok(part.equals(byHash.get(narFile.fileHash)?.narFile ?? hostile.narFile));
    else if (narInfo !== undefined)
      t.ok(
        [texts.get(narInfo.storeHash), inPack(hostile)].includes(part.toString()),
        'verbatim but for the URL',
      );
  }
  for (const [index, place] of places.entries()) {
    const fileHash = hashesOf([...built, large])[index];
    const file = files.find(({ narFile }) => narFile?.fileHash === fileHash);
    t.equal(place?.offset, file?.offset);
  }
  const order = files.flatMap(({ narFile }) => (narFile === undefined ? [] : [narFile.fileHash]));
  const chain = hashesOf(built);
  for (const [index, hash] of order.entries()) {
    const before = chain[chain.indexOf(hash) - 1];
    t.ok(before === undefined || order.indexOf(before) < index, 'after what it refers to');
  }

  const made = await remakePack(pack, partsOf(cache), signal);
  // The file of the hostile URL has another name in the cache.
  if (order.every((hash) => byHash.has(hash))) t.match(made, { torrent: { infoHash } });
  else t.match(made, { faults: [{ why: 'missing' }] });

  const range = { fromByte: files.at(-1)?.offset ?? 0, toByte: torrent.length };
  const tail = await download(seeder.peersAddress, torrent, range);
  t.ok(bytes.subarray(-tail.length).equals(tail), 'a range costs its pieces alone');
  t.ok(tail.length < (files.at(-1)?.sizeBytes ?? 0) + 2 * 64 * kib);
});

function inPack({ narInfo, narFile }: Built): string {
  return packNarInfo(narInfo.text, {
    fileHash: sha256(narFile),
    fileSize: narFile.length,
    compression: 'xz',
  });
}

t.test('what is too little waits until the oldest has waited long enough; 0 makes none', async (t) => {
  const { cache, start } = await openPackLab(t);
  const built = await addChain(cache, 'few', [100, 200, 300]);
  const patient = await start({ sizeBytes: 400 * kib, ageMs: 60 * 60_000 });
  await patient.closePacks();
  t.match(patient.status().packs, { closed: 0, unpacked: { nars: 3 } });
  const itemsOf = async (url: string, query = ''): Promise<number> => {
    const text = (await get(url, `feed.xml${query}`)).body.toString();
    return text.split('<item>').length - 1;
  };
  t.equal(await itemsOf(patient.url), 0, 'the feed does not name what will be in a pack');
  t.equal(await itemsOf(patient.url, '?kind=packs'), 0);
  t.equal(await itemsOf(patient.url, '?kind=nars'), 3);
  t.equal(await itemsOf(patient.url, '?kind=nars&items=2'), 2);
  for (const query of ['?kind=other', '?items=0', '?items=2001', '?items=x', '?kind=nars&kind=nars'])
    t.equal((await get(patient.url, `feed.xml${query}`)).status, 404, query);
  await patient.close();
  const without = await start({ sizeBytes: 0, ageMs: 0 });
  await without.closePacks();
  t.match(without.status().packs, { closed: 0, unpacked: { nars: 3 } });
  t.equal(await itemsOf(without.url), 3, 'without packs it names NAR files of any size');
  await without.close();
  const hasty = await start({ sizeBytes: 400 * kib, ageMs: 0 });
  await hasty.closePacks();
  t.match(hasty.status().packs, { closed: 1, nars: 3, unpacked: { nars: 0, bytes: 0, oldestMs: null } });
  const [place] = await resolvePacks(hasty, hashesOf(built));
  t.match(await remakePack(await fetchManifest(hasty, place?.infoHash ?? ''), partsOf(cache), signal), {
    torrent: { infoHash: place?.infoHash },
  });
  const feed = (await get(hasty.url, 'feed.xml')).body.toString();
  t.match(feed, `<title>pack ${place?.infoHash}, 3 NAR files</title>`);
  t.match(feed, `${place?.infoHash}.torrent`);
  t.notMatch(feed, /\.nar/, 'what is in it is not named by itself');
  const metrics = (await get(hasty.url, 'metrics')).body.toString();
  t.match(metrics, /^narswarm_catalog_packs 1$/m);
  t.match(metrics, /^narswarm_packed_nars 3$/m);
  t.match(metrics, /^narswarm_unpacked_nars 0$/m);
  await hasty.close();
  const again = await start({ sizeBytes: 400 * kib, ageMs: 0 });
  await again.closePacks();
  t.match(again.status().packs, { closed: 1 }, 'each NAR file is in one pack at most');
  const torrent = await fetchTorrent(again, place?.infoHash ?? '');
  t.equal((await download(again.peersAddress, torrent)).length, torrent.length, 'served after a restart');
});

t.test('one full pack after another, and the rest waits', async (t) => {
  const { cache, start } = await openPackLab(t);
  const built = await addChain(
    cache,
    'many',
    Array.from({ length: 24 }, () => 40 * kib),
  );
  const seeder = await start({ sizeBytes: 256 * kib });
  await seeder.closePacks();
  const { closed, nars, unpacked } = seeder.status().packs;
  t.ok(closed >= 3, `${closed} packs`);
  t.equal(nars + unpacked.nars, 24);
  t.ok(unpacked.bytes < 256 * kib);
  const places = await resolvePacks(seeder, hashesOf(built));
  const packed = new Set(places.flatMap((place) => place?.infoHash ?? []));
  t.equal(packed.size, closed);
  t.equal(places.filter((place) => place === undefined).length, unpacked.nars);
  for (const infoHash of packed) {
    const torrent = await fetchTorrent(seeder, infoHash);
    t.equal((await download(seeder.peersAddress, torrent)).length, torrent.length);
  }
});

t.test('the tracker knows packs and names the seeder, as an upload they are like others', async (t) => {
  const { cache, start } = await openPackLab(t);
  const built = await addChain(cache, 'few', [100, 300 * kib]);
  const seeder = await start({ sizeBytes: 256 * kib });
  await seeder.closePacks();
  const places = await resolvePacks(seeder, hashesOf(built));
  const infoHash = places.find((place) => place !== undefined)?.infoHash ?? '';
  const binary = [...Buffer.from(infoHash, 'hex')]
    .map((byte) => `%${byte.toString(16).padStart(2, '0')}`)
    .join('');
  const query = `info_hash=${binary}&peer_id=${'x'.repeat(20)}&port=7&uploaded=0&downloaded=0&left=9&compact=1`;
  const answer = (await get(seeder.url, `announce?${query}`)).body;
  const port = Number(seeder.peersAddress.split(':')[1]);
  const compact = Buffer.from([127, 0, 0, 1, port >> 8, port & 255]);
  t.ok(answer.includes(compact), answer.toString('latin1'));
  const torrent = await fetchTorrent(seeder, infoHash);
  // While there are others who seed it the first copies are free; one byte more, and it would be capped.
  for (const seed of ['a', 'b']) {
    const others = `peer_id=${seed.repeat(20)}&port=${seed.charCodeAt(0)}&uploaded=0&downloaded=0&left=0&compact=1`;
    await get(seeder.url, `announce?info_hash=${binary}&${others}`);
  }
  for (let copy = 0; copy < 3; copy++) await download(seeder.peersAddress, torrent);
  await seeder.close();
  const again = await start({ sizeBytes: 0 });
  t.match(again.status().catalog, { uploads: { capped: 1 } }, 'and that is remembered');
});

t.test('a NAR file that is removed or changed takes its pieces with it, and no others', async (t) => {
  const { cache, start } = await openPackLab(t);
  const built = await addChain(cache, 'chain', mixed);
  const seeder = await start({ sizeBytes: 400 * kib });
  await seeder.closePacks();
  const places = await resolvePacks(seeder, hashesOf(built));
  const infoHash = places.find((place) => place !== undefined)?.infoHash ?? '';
  const torrent = await fetchTorrent(seeder, infoHash);
  const whole = await download(seeder.peersAddress, torrent);
  const files = packFiles(await fetchManifest(seeder, infoHash));
  const inIt = built.filter((_, index) => places[index]?.infoHash === infoHash);
  const gone = inIt.find(({ narFile }) => narFile.length < 10 * kib) as Built;
  const changed = inIt.findLast(({ narFile }) => narFile.length > 100 * kib) as Built;
  await rm(cache.path(gone.narInfo.url));
  await writeFile(cache.path(changed.narInfo.url), changed.narFile);
  await utimes(cache.path(changed.narInfo.url), 1, 1);
  const missing = new Set<number>();
  for (const { narFile } of [gone, changed]) {
    const file = files.find((each) => each.narFile?.fileHash === sha256(narFile));
    if (file === undefined) throw new Error('not in the pack');
    const last = Math.floor((file.offset + file.sizeBytes - 1) / torrent.pieceLength);
    for (let index = Math.floor(file.offset / torrent.pieceLength); index <= last; index++)
      missing.add(index);
  }
  t.ok(
    missing.size < pieceCount(torrent) - 1,
    `${missing.size} of ${pieceCount(torrent)} pieces are missing`,
  );
  await seeder.close();
  const again = await start({ sizeBytes: 400 * kib });
  let served = 0;
  for (let index = 0; index < pieceCount(torrent); index++) {
    const [fromByte, toByte] = [index * torrent.pieceLength, (index + 1) * torrent.pieceLength];
    if (missing.has(index)) continue;
    const piece = await download(again.peersAddress, torrent, { fromByte, toByte });
    t.ok(piece.equals(whole.subarray(fromByte, toByte)));
    served++;
  }
  t.equal(served + missing.size, pieceCount(torrent));
  t.equal(again.status().swarm.readFailures, 0, 'peers were told what is there');
});

t.test('a NAR file that goes while its pack is served costs a connection, not a wrong byte', async (t) => {
  const { cache, start } = await openPackLab(t);
  const built = await addChain(cache, 'chain', [80 * kib, 80 * kib, 80 * kib, 80 * kib]);
  const seeder = await start({ sizeBytes: 256 * kib });
  await seeder.closePacks();
  const [place] = await resolvePacks(seeder, hashesOf(built));
  const torrent = await fetchTorrent(seeder, place?.infoHash ?? '');
  const [first] = built;
  await rm(cache.path(first?.narInfo.url ?? ''));
  await t.rejects(download(seeder.peersAddress, torrent), { code: 'swarm-exhausted' });
  t.equal(seeder.status().swarm.readFailures, 1);
  const last = { fromByte: torrent.length - 1, toByte: torrent.length };
  t.ok((await download(seeder.peersAddress, torrent, last)).length > 0);
  await t.rejects(download(seeder.peersAddress, torrent, { stallMs: 500 }), { code: 'swarm-stalled' });
  t.equal(seeder.status().swarm.readFailures, 1, 'the next peer is told what is there');
});

t.test('narinfos that are gone from the disk are missing pieces, too', async (t) => {
  const { cache, dir, start } = await openPackLab(t);
  const built = await addChain(cache, 'chain', [200 * kib, 200 * kib]);
  const seeder = await start({ sizeBytes: 256 * kib });
  await seeder.closePacks();
  const [place] = await resolvePacks(seeder, hashesOf(built));
  const infoHash = place?.infoHash ?? '';
  t.same(await readdir(`${dir}/data/packs`), [`${infoHash}.meta`]);
  const torrent = await fetchTorrent(seeder, infoHash);
  await seeder.close();
  await rm(`${dir}/data/packs/${infoHash}.meta`);
  const again = await start({ sizeBytes: 0 });
  const range = { fromByte: torrent.pieceLength, toByte: torrent.length };
  const rest = await download(again.peersAddress, torrent, range);
  t.equal(rest.length, torrent.length - torrent.pieceLength);
});
