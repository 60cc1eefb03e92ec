/** Makes a pack again from its manifest and the files that it names, and finds those that are not what it says. */

import { createHash, hash } from 'node:crypto';
import {
  type Pack,
  type PackedNarFile,
  type PackFile,
  packCacheInfo,
  packFiles,
  packName,
} from '../catalog/pack.ts';
import { packNarInfo } from '../catalog/pack-narinfo.ts';
import { isNarswarmError } from '../nar/errors.ts';
import { type Sha256, sha256FromDigest } from '../nar/hash.ts';
import type { StoreHash } from '../nar/store-path.ts';
import { PackHasher } from '../swarm/torrent/pack-torrent.ts';
import type { Torrent } from '../swarm/torrent/torrent.ts';

/** Where the files come from: a downloaded pack, a cache, a store. */
export interface PackParts {
  /** A narinfo as the pack holds it or as the cache serves it, and which NAR file it is about. */
  narInfo(storeHash: StoreHash): Promise<{ text: string; fileHash?: Sha256 } | undefined>;
  /** The bytes of a NAR file. */
  narFile(narFile: PackedNarFile): Promise<AsyncIterable<Buffer> | undefined>;
}

export interface PackFault {
  readonly path: string;
  readonly why: 'missing' | 'another size' | 'another hash';
}

/** The torrent that the files make, of which the infohash is to be compared with the manifest's; or what is wrong with the files. */
export async function remakePack(
  pack: Pack,
  parts: PackParts,
  signal: AbortSignal,
): Promise<{ torrent: Torrent } | { faults: PackFault[] }> {
  const files = packFiles(pack);
  const narFiles = new Map(pack.narFiles.map((narFile) => [narFile.fileHash, narFile]));
  const hasher = new PackHasher(packName(pack), files);
  const faults: PackFault[] = [];
  const take = (chunk: Buffer): void => {
    // After the first fault the rest is only looked at.
    if (faults.length === 0) hasher.write(chunk);
  };
  for (const file of files) {
    signal.throwIfAborted();
    const bytes = await bytesOf(file, pack, narFiles, parts);
    const why = bytes === undefined ? 'missing' : await check(file, bytes, take);
    if (why !== undefined) faults.push({ path: file.path.join('/'), why });
  }
  return faults.length > 0 ? { faults } : { torrent: hasher.finish() };
}

async function bytesOf(
  { narInfo, narFile, sha256 }: PackFile,
  pack: Pack,
  narFiles: ReadonlyMap<Sha256, PackedNarFile>,
  parts: PackParts,
): Promise<AsyncIterable<Buffer> | Buffer[] | undefined> {
  if (narFile !== undefined) return parts.narFile(narFile);
  if (narInfo === undefined) return [Buffer.from(packCacheInfo(pack.storeDir))];
  const found = await parts.narInfo(narInfo.storeHash);
  if (found === undefined) return undefined;
  const text = Buffer.from(found.text);
  if (sha256FromDigest(hash('sha256', text, 'buffer')) === sha256) return [text];
  const about = found.fileHash && narFiles.get(found.fileHash);
  return [about === undefined ? text : Buffer.from(inPack(found.text, about))];
}

function inPack(text: string, about: PackedNarFile): string {
  try {
    return packNarInfo(text, about);
  } catch (error) {
    // Then it is not the one that was packed either.
    if (isNarswarmError(error, 'narinfo-corrupt')) return text;
    throw error;
  }
}

/** Nothing of a file goes on that is longer than it should be. */
async function check(
  file: PackFile,
  bytes: AsyncIterable<Buffer> | Buffer[],
  take: (chunk: Buffer) => void,
): Promise<PackFault['why'] | undefined> {
  const hasher = createHash('sha256');
  let size = 0;
  for await (const chunk of bytes) {
    size += chunk.length;
    if (size > file.sizeBytes) return 'another size';
    hasher.update(chunk);
    take(chunk);
  }
  if (size !== file.sizeBytes) return 'another size';
  return sha256FromDigest(hasher.digest()) === file.sha256 ? undefined : 'another hash';
}
