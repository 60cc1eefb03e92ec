/** The catalog rows of made NAR files: hashes, torrents and both signatures are real, each row follows from its number. */
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AcceptedNarFile, NarFileEntry } from '../../catalog/catalog.ts';
import { signTorrentInfo } from '../../catalog/torrentinfo.ts';
import { printCacheInfo } from '../../nar/cache-info.ts';
import { narFileName } from '../../nar/compression.ts';
import { type InfoHash, infoHashFromDigest, sha256FromDigest } from '../../nar/hash.ts';
import { makeNarInfo } from '../../nar/narinfo.ts';
import { nix32Encode } from '../../nar/nix32.ts';
import { type SecretKey, secretKeyFromSeed, signNarInfo } from '../../nar/signature.ts';
import { parseStorePath, storePathName } from '../../nar/store-path.ts';
import { policyTag } from '../../seeder/ingest-source.ts';
import type { NarFiles } from '../../seeder/nar-files.ts';
import { printFingerprint } from '../../seeder/scan-fingerprint.ts';
import { makeTorrent, type Torrent } from '../../swarm/torrent/torrent.ts';
import { type MadeFile, MadeHasher, makeFile, readMadeFile } from './made-files.ts';

export const storeDir = '/nix/store';
export const sourceUrl = 'file:///srv/made-cache';
/** Of the cache, under the narinfos; and of the catalog, under the torrentinfos. */
export const cacheKey = keyOf('made-cache-1');
export const catalogKey = keyOf('made-catalog-1');

/** A NAR file's modification time is this plus its number. */
const firstMtimeNs = 1_700_000_000_000_000_000n;
const policy = policyTag({ trustedKeys: [cacheKey.publicKey], secretKey: catalogKey }, storeDir);

/** What `Catalog.accept` takes for NAR file `number`. */
export function acceptedOf(number: number, hasher: MadeHasher): AcceptedNarFile {
  const file = makeFile(number);
  const { fileTorrent, narTorrent, fileHash, narHash } = hashesOf(file, hasher);
  const { fileSize, narSize } = file;
  const compression = 'zstd';
  const path = `nar/${fileTorrent.name}`;
  const storePath = storePathOf(number);
  const narInfo = signNarInfo(
    makeNarInfo({
      storePath,
      url: path,
      compression,
      fileHash,
      fileSize,
      narHash,
      narSize,
      // What a path refers to was made before it.
      references: number === 0 ? [] : [storePathName(storePathOf(number >> 1))],
      deriver: `${storePathName(storePath)}.drv`,
      sigs: [],
    }),
    cacheKey,
  );
  const narInfoName = `${storePathName(storePath).slice(0, 32)}.narinfo`;
  const mtimeNs = firstMtimeNs + BigInt(number);
  const version = { mtimeNs, inode: BigInt(number), isFile: true };
  return {
    source: sourceUrl,
    narInfoName,
    fingerprint: printFingerprint({
      policy,
      narInfo: { ...version, sizeBytes: narInfo.text.length },
      nar: { ...version, sizeBytes: fileSize },
      narPath: path,
    }),
    narInfo,
    entry: {
      ...signTorrentInfo(
        {
          fileHash,
          fileSize,
          compression,
          narHash,
          narSize,
          infoHash: fileTorrent.infoHash,
          narInfoHash: narTorrent.infoHash,
        },
        catalogKey,
      ),
      location: { source: sourceUrl, path, sizeBytes: fileSize, mtimeNs },
    },
    filePieces: fileTorrent.pieces,
    narPieces: narTorrent.pieces,
  };
}

/** The torrent of NAR file `number`, as a peer that wants it knows it. */
export function madeTorrent(number: number, hasher: MadeHasher): Torrent {
  return hashesOf(makeFile(number), hasher).fileTorrent;
}

/** An infohash that is in no catalog. */
export function unknownInfoHash(number: number): InfoHash {
  return infoHashFromDigest(createHash('sha1').update(`unknown ${number}`).digest());
}

/** Makes the contents as they are read. */
export const madeNarFiles: NarFiles = {
  async open({ location, fileSize }: NarFileEntry) {
    const file = makeFile(Number(location.mtimeNs - firstMtimeNs));
    return {
      sizeBytes: fileSize,
      read: async (position, lengthBytes) => readMadeFile(file, position, lengthBytes),
      async close() {},
    };
  },
};

/** Made NAR files and their narinfos as a binary cache in a directory. */
export async function writeMadeCache(dir: string, numbers: { first: number; count: number }): Promise<void> {
  const hasher = new MadeHasher();
  await mkdir(join(dir, 'nar'));
  await writeFile(
    join(dir, 'nix-cache-info'),
    printCacheInfo({ storeDir, wantMassQuery: true, priority: 40 }),
  );
  for (let number = numbers.first; number < numbers.first + numbers.count; number++) {
    const { narInfo, narInfoName } = acceptedOf(number, hasher);
    const file = makeFile(number);
    await writeFile(join(dir, narInfo.url), readMadeFile(file, 0, file.fileSize));
    await writeFile(join(dir, narInfoName), narInfo.text);
  }
}

function hashesOf(file: MadeFile, hasher: MadeHasher) {
  const hashes = hasher.hash(file);
  const fileHash = sha256FromDigest(hashes.file);
  const narHash = sha256FromDigest(hashes.nar);
  const fileTorrent = makeTorrent({
    name: narFileName(fileHash, 'zstd'),
    length: file.fileSize,
    pieces: hashes.filePieces,
  });
  const narTorrent = makeTorrent({
    name: narFileName(narHash, 'none'),
    length: file.narSize,
    pieces: hashes.narPieces,
  });
  return { fileHash, narHash, fileTorrent, narTorrent };
}

function storePathOf(number: number) {
  const hash = createHash('sha1').update(`made path ${number}`).digest();
  return parseStorePath(`${storeDir}/${nix32Encode(hash)}-package-${number}-1.0`);
}

/** Benchmarks only: the key follows from its name. */
function keyOf(name: string): SecretKey {
  return secretKeyFromSeed(name, createHash('sha256').update(name).digest());
}
