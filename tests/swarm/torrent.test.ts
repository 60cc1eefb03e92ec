import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import createTorrent from 'create-torrent';
import fc from 'fast-check';
import parseTorrent from 'parse-torrent';
import t from 'tap';
import { isNarswarmError } from '../../nar/errors.ts';
import { sha256FromDigest } from '../../nar/hash.ts';
import { bencode } from '../../swarm/bencode.ts';
import {
  infoDictionary,
  infoDictionaryMaxBytes,
  makeTorrent,
  parseInfoDictionary,
  pieceCount,
  pieceLengthFor,
  pieceSize,
  type Torrent,
  TorrentHasher,
  torrentLengthMaxBytes,
} from '../../swarm/torrent/torrent.ts';
import { magnetLink, parseTorrentFile, torrentFile } from '../../swarm/torrent/torrent-file.ts';
import { indexPieces, wordsContent } from './vector-content.ts';

interface TorrentVector {
  content: 'words' | 'indexes';
  length: number;
  name: string;
  pieceLength: number;
  pieceCount: number;
  piecesSha1: string;
  infoHash: string;
  infoDictionary?: string;
}

interface Vectors {
  torrents: TorrentVector[];
  refused: { why: string; infoDictionary: string }[];
}

const vectorsFile = new URL('../../docs/vectors/torrents.json', import.meta.url);
const vectors = JSON.parse(readFileSync(vectorsFile, 'utf8')) as Vectors;

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

const name = `${sha256FromDigest(createHash('sha256').update('name').digest())}.nar.xz`;

function hashWhole(bytes: Buffer, torrentName = name): Torrent {
  const hasher = new TorrentHasher(bytes.length);
  hasher.write(bytes);
  return hasher.finish(torrentName);
}

function sha1Hex(bytes: Uint8Array): string {
  return createHash('sha1').update(bytes).digest('hex');
}

t.test('the golden vectors come out of their contents', async (t) => {
  const longest = Math.max(...vectors.torrents.filter((v) => v.content === 'words').map((v) => v.length));
  const bytes = wordsContent(longest);
  for (const vector of vectors.torrents) {
    const torrent =
      vector.content === 'words'
        ? hashWhole(bytes.subarray(0, vector.length), vector.name)
        : makeTorrent({
            name: vector.name,
            length: vector.length,
            pieces: indexPieces(Math.ceil(vector.length / pieceLengthFor(vector.length))),
          });
    t.match(vector, {
      pieceLength: torrent.pieceLength,
      pieceCount: pieceCount(torrent),
      piecesSha1: sha1Hex(torrent.pieces),
      infoHash: torrent.infoHash,
    });
    const info = infoDictionary(torrent);
    t.equal(sha1Hex(info), vector.infoHash);
    t.strictSame(parseInfoDictionary(info), torrent);
    if (vector.infoDictionary !== undefined) t.equal(info.toString('base64'), vector.infoDictionary);
    if (vector.content === 'words') {
      const hash = sha256FromDigest(createHash('sha256').update(bytes.subarray(0, vector.length)).digest());
      t.ok(vector.name.startsWith(`${hash}.nar`), 'the name is the hash of the content');
    }
  }
});

const libtorrentMissing =
  spawnSync('/usr/bin/python3', ['-c', 'import libtorrent']).status === 0
    ? false
    : 'python3-libtorrent is not installed';

t.test('libtorrent makes the golden vectors too', { skip: libtorrentMissing }, async (t) => {
  const script = new URL('libtorrent-torrents.py', import.meta.url).pathname;
  const output = execFileSync('/usr/bin/python3', [script], {
    input: JSON.stringify(vectors.torrents),
    maxBuffer: 16 * MiB,
    timeout: 100_000,
  });
  const made = JSON.parse(output.toString()) as { infoHash: string; infoDictionary?: string }[];
  for (const [index, vector] of vectors.torrents.entries()) {
    t.equal(made[index]?.infoHash, vector.infoHash, `${vector.length} bytes`);
    if (vector.infoDictionary) t.equal(made[index]?.infoDictionary, vector.infoDictionary);
  }
});

t.test('info dictionaries that are not canonical are refused', async (t) => {
  for (const { why, infoDictionary } of vectors.refused) {
    t.throws(
      () => parseInfoDictionary(Buffer.from(infoDictionary, 'base64')),
      { code: 'torrent-invalid' },
      why,
    );
  }
  t.throws(() => parseInfoDictionary(Buffer.alloc(infoDictionaryMaxBytes + 1)), { code: 'torrent-invalid' });
});

t.test('an info dictionary with a byte changed is refused or is another torrent', async () => {
  const info = infoDictionary(hashWhole(wordsContent(100_000)));
  fc.assert(
    fc.property(fc.nat({ max: info.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const changed = Buffer.from(info);
      changed[at] = (changed[at] ?? 0) ^ flip;
      try {
        const torrent = parseInfoDictionary(changed);
        return infoDictionary(torrent).equals(changed) && torrent.infoHash === sha1Hex(changed);
      } catch (error) {
        return isNarswarmError(error, 'torrent-invalid');
      }
    }),
    { numRuns: 2000 },
  );
});

t.test('the infohash does not depend on how the bytes come in', async () => {
  const bytes = wordsContent(300_001);
  const whole = hashWhole(bytes);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 200_000 }), { maxLength: 20 }), (sizes) => {
      const hasher = new TorrentHasher(bytes.length);
      let position = 0;
      for (const size of [...sizes, bytes.length]) {
        hasher.write(bytes.subarray(position, position + size));
        position = Math.min(position + size, bytes.length);
      }
      return hasher.finish(name).infoHash === whole.infoHash;
    }),
  );
});

t.test('piece lengths follow from the length', async (t) => {
  const lengths: [number, number][] = [
    [1, 64 * KiB],
    [64 * KiB, 64 * KiB],
    [64 * MiB, 64 * KiB],
    [64 * MiB + 1, 128 * KiB],
    [128 * MiB, 128 * KiB],
    [128 * MiB + 1, 256 * KiB],
    [2 * GiB, 2 * MiB],
    [2 * GiB + 1, 4 * MiB],
    [4 * GiB + 1, 4 * MiB],
    [torrentLengthMaxBytes, 4 * MiB],
  ];
  for (const [length, pieceLength] of lengths)
    t.equal(pieceLengthFor(length), pieceLength, `${length} bytes`);
  for (const length of [0, -1, 0.5, Number.NaN, torrentLengthMaxBytes + 1, Number.POSITIVE_INFINITY]) {
    t.throws(() => pieceLengthFor(length), { code: 'torrent-invalid' }, `${length} bytes`);
  }
  fc.assert(
    fc.property(fc.integer({ min: 1, max: torrentLengthMaxBytes }), (length) => {
      const pieceLength = pieceLengthFor(length);
      const count = pieceCount({ length, pieceLength });
      const last = pieceSize({ length, pieceLength }, count - 1);
      const smallest = pieceLength === 64 * KiB || Math.ceil(length / (pieceLength / 2)) > 1024;
      const enough = pieceLength === 4 * MiB || count <= 1024;
      return smallest && enough && last >= 1 && last + (count - 1) * pieceLength === length;
    }),
  );
});

t.test('too few or too many bytes make no torrent', async (t) => {
  const hasher = new TorrentHasher(10);
  hasher.write(Buffer.alloc(9));
  t.throws(() => hasher.finish(name), { code: 'torrent-invalid' });
  t.throws(() => hasher.write(Buffer.alloc(2)), { code: 'torrent-invalid' });
  hasher.write(Buffer.alloc(1));
  t.equal(
    hasher.finish(name).infoHash,
    hashWhole(Buffer.alloc(10)).infoHash,
    'what was refused left no trace',
  );
  t.throws(() => new TorrentHasher(0), { code: 'torrent-invalid' });
});

t.test('a torrent is only made of parts that belong together', async (t) => {
  const pieces = Buffer.alloc(20);
  t.doesNotThrow(() => makeTorrent({ name, length: 5, pieces }));
  t.throws(() => makeTorrent({ name: '../etc/passwd', length: 5, pieces }), { code: 'torrent-invalid' });
  t.throws(() => makeTorrent({ name, length: 70_000, pieces }), { code: 'torrent-invalid' });
});

t.test('create-torrent makes the same infohash', async (t) => {
  for (const length of [1, 65_537, 70 * MiB]) {
    const bytes = wordsContent(length);
    const torrent = hashWhole(bytes);
    const named = Object.assign(Buffer.from(bytes), { name });
    const file = await new Promise<Uint8Array>((resolve, reject) => {
      const options = { name, pieceLength: torrent.pieceLength, announceList: [] };
      createTorrent(named, options, (error, made) => (error ? reject(error) : resolve(made)));
    });
    t.equal((await parseTorrent(file)).infoHash, torrent.infoHash);
  }
});

t.test('parse-torrent reads our torrent files and magnet links', async (t) => {
  const torrent = hashWhole(wordsContent(200_000));
  const announce = 'http://seeder.example:8421/announce';
  const webSeed = `http://seeder.example:8421/nar/${name}`;
  const parsed = await parseTorrent(torrentFile(torrent, { announce, webSeeds: [webSeed] }));
  t.match(parsed, {
    infoHash: torrent.infoHash,
    name,
    length: torrent.length,
    pieceLength: torrent.pieceLength,
    announce: [announce],
    urlList: [webSeed],
    files: [{ path: name, length: torrent.length }],
  });
  t.strictSame(Buffer.from((parsed.pieces ?? []).join(''), 'hex'), torrent.pieces);
  const magnet = await parseTorrent(magnetLink(torrent, { trackers: [`${announce}?a=1&b=2`] }));
  t.match(magnet, { infoHash: torrent.infoHash, dn: name, announce: [`${announce}?a=1&b=2`] });
});

t.test('a torrent file depends on nothing but its arguments, and is read back', async (t) => {
  const torrent = hashWhole(wordsContent(200_000));
  const bytes = torrentFile(torrent, { announce: 'http://a/announce', webSeeds: ['http://a/x'] });
  t.match(
    bytes.toString('latin1'),
    /^d8:announce17:http:\/\/a\/announce4:infod6:length.*8:url-listl10:http:\/\/a\/xee$/s,
  );
  t.strictSame(parseTorrentFile(bytes), torrent);
  t.strictSame(parseTorrentFile(torrentFile(torrent)), torrent);
  const info = { length: 200_000, name, 'piece length': torrent.pieceLength, pieces: torrent.pieces };
  t.strictSame(
    parseTorrentFile(bencode({ 'created by': 'x', info, nodes: [] })),
    torrent,
    'what stands beside is ignored',
  );
  t.throws(() => parseTorrentFile(Buffer.from('de')), { code: 'torrent-invalid' });
  t.throws(() => parseTorrentFile(Buffer.from('le')), { code: 'torrent-invalid' });
  t.throws(() => parseTorrentFile(bencode({ info: { name: 'x' } })), { code: 'torrent-invalid' });
  t.throws(() => parseTorrentFile(Buffer.from('junk')), { code: 'torrent-invalid' });
});

t.test('memory does not grow with the stream', async (t) => {
  const chunk = wordsContent(MiB - 1);
  const chunks = 256;
  const hasher = new TorrentHasher(chunk.length * chunks);
  hasher.write(chunk);
  const before = process.memoryUsage();
  for (let i = 1; i < chunks; i++) hasher.write(chunk);
  const after = process.memoryUsage();
  t.equal(pieceCount(hasher.finish(name)), 1024);
  t.ok(after.rss - before.rss < 64 * MiB, `${(after.rss - before.rss) / MiB} MiB more`);
});
