import { execFileSync, spawnSync } from 'node:child_process';
import fc from 'fast-check';
import parseTorrent from 'parse-torrent';
import t from 'tap';
import { packFiles, packName, parsePack } from '../../catalog/pack.ts';
import { isNarswarmError } from '../../nar/errors.ts';
import { bencode, parseBencode } from '../../swarm/bencode.ts';
import {
  isPackInfo,
  makePackTorrent,
  PackHasher,
  packInfoMaxBytes,
  packPieceLength,
  packTorrentFilesMax,
  packTorrentMaxBytes,
  parsePackInfo,
} from '../../swarm/torrent/pack-torrent.ts';
import { infoDictionary, pieceCount } from '../../swarm/torrent/torrent.ts';
import { parseInfo, parseTorrentFile, torrentFile } from '../../swarm/torrent/torrent-file.ts';
import { sha256 } from '../helpers/cache-builder.ts';
import { type PackVector, packVectors } from '../helpers/pack-vectors.ts';
import { wordsContent } from './vector-content.ts';

/** The bytes of all files of a vector, as its page says they are made. */
function contentsOf({ manifest, cacheInfo, narInfos }: PackVector): { path: string; bytes: Buffer }[] {
  return packFiles(parsePack(manifest)).map(({ path, sizeBytes, narInfo, narFile }) => {
    const text = narInfo === undefined ? cacheInfo : narInfos[narInfo.storeHash];
    const bytes = narFile === undefined ? Buffer.from(text ?? '') : wordsContent(sizeBytes);
    return { path: path.join('/'), bytes };
  });
}

function torrentOf(vector: PackVector, chunkBytes = Number.POSITIVE_INFINITY) {
  const pack = parsePack(vector.manifest);
  const hasher = new PackHasher(packName(pack), packFiles(pack));
  const bytes = Buffer.concat(contentsOf(vector).map((file) => file.bytes));
  for (let at = 0; at < bytes.length; at += chunkBytes) hasher.write(bytes.subarray(at, at + chunkBytes));
  return hasher.finish();
}

t.test('the golden vectors are made again from their manifest and files', async (t) => {
  for (const vector of packVectors.packs) {
    const torrent = torrentOf(vector);
    t.match(torrent, { infoHash: vector.infoHash, name: vector.name, length: vector.length });
    t.equal(pieceCount(torrent), vector.pieceCount);
    t.equal(infoDictionary(torrent).toString('base64'), vector.infoDictionary);
    t.equal(torrent.info?.lengthBytes, infoDictionary(torrent).length);
    t.ok(torrent.length > vector.pieceCount, 'in whatever chunks the bytes come');
    t.equal(torrentOf(vector, 777).infoHash, vector.infoHash);
    // The general encoder makes the same bytes.
    const value = parseBencode(infoDictionary(torrent));
    t.ok(bencode(value).equals(infoDictionary(torrent)));
  }
});

t.test('an info dictionary is parsed to the files of the manifest, also out of a .torrent', async (t) => {
  for (const { infoDictionary: text, manifest, infoHash } of packVectors.packs) {
    const bytes = Buffer.from(text, 'base64');
    const { torrent, files } = parsePackInfo(bytes);
    t.strictSame(
      files,
      packFiles(parsePack(manifest)).map(({ path, sizeBytes }) => ({ path, sizeBytes })),
    );
    t.ok(infoDictionary(torrent).equals(bytes));
    t.equal(parseInfo(bytes).infoHash, infoHash);
    const options = { announce: 'http://tracker.example/announce', webSeeds: ['http://x.example/'] };
    const file = torrentFile(torrent, options);
    t.equal(parseTorrentFile(file).infoHash, infoHash);
    t.match(await parseTorrent(file), {
      infoHash,
      announce: [options.announce],
      pieceLength: packPieceLength,
    });
  }
});

const libtorrentMissing =
  spawnSync('/usr/bin/python3', ['-c', 'import libtorrent']).status === 0
    ? false
    : 'python3-libtorrent is not installed';

t.test('libtorrent makes the golden vectors too, and reads ours', { skip: libtorrentMissing }, async (t) => {
  const script = new URL('libtorrent-pack.py', import.meta.url).pathname;
  const input = packVectors.packs.map((vector) => ({
    name: vector.name,
    pieceLength: packPieceLength,
    files: contentsOf(vector).map(({ path, bytes }) => ({ path, bytes: bytes.toString('base64') })),
    torrentFile: torrentFile(torrentOf(vector)).toString('base64'),
  }));
  const output = execFileSync('/usr/bin/python3', [script], {
    input: JSON.stringify(input),
    maxBuffer: 2 ** 24,
    timeout: 60_000,
  });
  const made = JSON.parse(output.toString()) as (PackVector & { read: PackVector & { files: unknown[] } })[];
  for (const [index, vector] of packVectors.packs.entries()) {
    t.equal(made[index]?.infoHash, vector.infoHash);
    t.equal(made[index]?.infoDictionary, vector.infoDictionary);
    t.equal(made[index]?.read.infoHash, vector.infoHash);
    const files = contentsOf(vector).map(({ path, bytes }) => [`${vector.name}/${path}`, bytes.length]);
    t.strictSame(made[index]?.read.files, files);
  }
});

t.test('what is not canonical is refused', async (t) => {
  for (const { why, infoDictionary: text } of packVectors.refusedInfo) {
    const bytes = Buffer.from(text, 'base64');
    t.throws(() => parsePackInfo(bytes), { code: 'torrent-invalid' }, why);
    t.throws(() => parseInfo(bytes), { code: 'torrent-invalid' }, why);
  }
});

t.test('an info dictionary with anything changed is refused, or a pack all the same', async (t) => {
  const whole = Buffer.from(packVectors.packs[0]?.infoDictionary ?? '', 'base64');
  const change = fc.tuple(fc.nat(whole.length - 1), fc.nat(3), fc.uint8Array({ maxLength: 3 }));
  fc.assert(
    fc.property(change, ([at, cut, put]) => {
      const bytes = Buffer.concat([whole.subarray(0, at), put, whole.subarray(at + cut)]);
      try {
        t.ok(infoDictionary(parseInfo(bytes)).equals(bytes));
      } catch (error) {
        if (!isNarswarmError(error, 'torrent-invalid')) throw error;
      }
    }),
    { numRuns: 2_000 },
  );
});

t.test('bounds: files, bytes and the info dictionary', async (t) => {
  const name = packVectors.packs[0]?.name ?? '';
  const hashes = Array.from({ length: packTorrentFilesMax }, (_, k) => sha256(Buffer.from(`${k}`)));
  const files = [
    { path: ['nix-cache-info'], sizeBytes: 51 },
    { path: [`${hashes[0]?.slice(-32)}.narinfo`], sizeBytes: 900 },
    ...hashes.slice(2).map((hash) => ({ path: ['nar', `${hash}.nar.zst`], sizeBytes: 120_000 })),
  ];
  const cut = (length: number) => Buffer.alloc(Math.ceil(length / packPieceLength) * 20);
  const length = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const last = { path: ['nar', `${hashes[1]}.nar.zst`], sizeBytes: packTorrentMaxBytes - length };
  const full = [...files.slice(0, -1), { ...last, sizeBytes: last.sizeBytes + 120_000 }];
  const torrent = makePackTorrent({ name, files: full, pieces: cut(packTorrentMaxBytes) });
  const info = infoDictionary(torrent);
  t.ok(info.length <= packInfoMaxBytes && info.length > packInfoMaxBytes / 2, `${info.length} bytes`);
  t.equal(parsePackInfo(info).files.length, packTorrentFilesMax);
  t.equal(parseTorrentFile(torrentFile(torrent)).infoHash, torrent.infoHash);
  const refuses = (parts: Parameters<typeof makePackTorrent>[0], why: string): void => {
    t.throws(() => makePackTorrent(parts), { code: 'torrent-invalid' }, why);
  };
  refuses({ name, files: [...full, last], pieces: cut(packTorrentMaxBytes) }, 'a file too many');
  const larger = [...full.slice(0, -1), { ...last, sizeBytes: last.sizeBytes + 120_001 }];
  refuses({ name, files: larger, pieces: cut(packTorrentMaxBytes + 1) }, 'a byte too many');
  refuses({ name, files: full, pieces: cut(packTorrentMaxBytes).subarray(20) }, 'a digest too few');
  t.throws(() => parsePackInfo(Buffer.alloc(packInfoMaxBytes + 1)), { code: 'torrent-invalid' });
});

t.test('no torrent of a NAR file looks like one of a pack', async (t) => {
  t.notOk(isPackInfo(Buffer.from('d6:lengthi1e4:name')));
  t.notOk(isPackInfo(Buffer.from('d5:file')));
  t.ok(isPackInfo(Buffer.from('d5:filesl')));
});
