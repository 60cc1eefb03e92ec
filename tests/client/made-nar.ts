/** NAR files made up for the client's tests: it never looks into them, so any bytes will do. */

import { createHash, hash } from 'node:crypto';
import { printTorrentInfo, signTorrentInfo, type TorrentInfo } from '../../catalog/torrentinfo.ts';
import { type Compression, narFileName } from '../../nar/compression.ts';
import { type Sha256, sha256FromDigest } from '../../nar/hash.ts';
import { makeNarInfo, type NarInfo, type NarInfoValues } from '../../nar/narinfo.ts';
import { nix32Encode } from '../../nar/nix32.ts';
import { secretKeyFromSeed, signNarInfo } from '../../nar/signature.ts';
import { parseStorePath, type StoreHash, storeHashOf } from '../../nar/store-path.ts';
import { type Torrent, TorrentHasher } from '../../swarm/torrent/torrent.ts';

export const cacheKey = secretKeyFromSeed('cache.test-1', Buffer.alloc(32, 1));
export const catalogKey = secretKeyFromSeed('catalog.test-1', Buffer.alloc(32, 2));
export const strangerKey = secretKeyFromSeed('catalog.test-1', Buffer.alloc(32, 3));

export interface MadeNar {
  bytes: Buffer;
  fileHash: Sha256;
  storeHash: StoreHash;
  narInfo: NarInfo;
  torrent: Torrent;
  torrentInfo: TorrentInfo;
}

export interface MadeNarOptions {
  name: string;
  sizeBytes: number;
  compression?: Compression;
  storeDir?: string;
  /** Signed by `cacheKey` unless false. */
  signed?: boolean;
  /** Changes the narinfo before it is signed; `undefined` leaves a line out. */
  narInfo?: Partial<Record<'url' | 'fileHash' | 'fileSize', string | number | undefined>>;
}

export function madeNar(options: MadeNarOptions): MadeNar {
  const { name, sizeBytes, compression = 'xz', storeDir = '/nix/store', signed = true } = options;
  const bytes = pseudoRandom(name, sizeBytes);
  const fileHash = sha256FromDigest(hash('sha256', bytes, 'buffer'));
  const compressed = compression !== 'none';
  const narHash = compressed ? sha256FromDigest(hash('sha256', `nar of ${name}`, 'buffer')) : fileHash;
  const narSize = compressed ? sizeBytes * 3 : sizeBytes;
  const base = nix32Encode(hash('sha256', `path of ${name}`, 'buffer').subarray(0, 20));
  const values = {
    storePath: parseStorePath(`${storeDir}/${base}-${name}`),
    url: `nar/${narFileName(fileHash, compression)}`,
    compression,
    fileHash,
    fileSize: sizeBytes,
    narHash,
    narSize,
    references: [],
    sigs: [],
    ...options.narInfo,
  } as unknown as NarInfoValues;
  const unsigned = makeNarInfo(values);
  const hasher = new TorrentHasher(sizeBytes);
  hasher.write(bytes);
  const torrent = hasher.finish(narFileName(fileHash, compression));
  const narInfoHash = compressed ? strangeInfoHash(torrent) : torrent.infoHash;
  const unsignedInfo = { fileHash, fileSize: sizeBytes, compression, narHash, narSize, narInfoHash };
  return {
    bytes,
    fileHash,
    storeHash: storeHashOf(values.storePath),
    narInfo: signed ? signNarInfo(unsigned, cacheKey) : unsigned,
    torrent,
    torrentInfo: signTorrentInfo({ ...unsignedInfo, infoHash: torrent.infoHash }, catalogKey),
  };
}

export function torrentInfoText(nar: MadeNar): string {
  return printTorrentInfo(nar.torrentInfo);
}

/** Any other valid infohash. */
function strangeInfoHash(torrent: Torrent): Torrent['infoHash'] {
  return [...torrent.infoHash].reverse().join('') as Torrent['infoHash'];
}

/** Different bytes for every name, the same in every run. */
export function pseudoRandom(name: string, sizeBytes: number): Buffer {
  const stream = createHash('shake256', { outputLength: 4096 });
  const block = stream.update(name).digest();
  const bytes = Buffer.alloc(sizeBytes);
  for (let offset = 0; offset < sizeBytes; offset += block.length) {
    block.writeUInt32LE(offset >>> 0, 0);
    block.copy(bytes, offset);
  }
  return bytes;
}
