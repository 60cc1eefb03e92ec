/** The checks of a NAR file by itself: what its name says, that it decompresses, and that a NAR comes out. */

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Compression } from '../../nar/compression.ts';
import { NarswarmError } from '../../nar/errors.ts';
import { parseSha256, printSha256, type Sha256, sha256FromDigest } from '../../nar/hash.ts';
import { NarReader } from '../../nar/nar-reader.ts';
import { decompress } from '../../parts/decompress.ts';
import { torrentLengthMaxBytes } from '../../swarm/torrent/torrent.ts';
import { compressionOfFile } from '../compression-of.ts';
import { hashNarFile } from '../hash-nar-file.ts';
import { attempt, type Check, fails, holds, unknown } from './check.ts';

/** What compression gives in a large cache; only for choosing how to decompress. */
const usualRatio = 4;

export async function checkNarFile(file: string, signal: AbortSignal): Promise<Check[]> {
  const compression = await attempt('compression', () => compressionOfFile(file));
  if ('failure' in compression) return [compression.failure];
  const hashed = await attempt('torrent', () => hashNarFile(file, compression.value, signal));
  if ('failure' in hashed) return [hashed.failure];
  const { fileHash, torrent } = hashed.value;
  const nar = await attempt('NAR', () => readNar(file, compression.value, signal));
  return [
    holds('compression', compression.value),
    nameCheck(file, fileHash, 'failure' in nar ? undefined : nar.value.narHash),
    'failure' in nar
      ? nar.failure
      : holds('NAR', `${printSha256(nar.value.narHash)}, ${nar.value.narSize} bytes`),
    holds('infohash', torrent.infoHash),
  ];
}

/** Caches name NAR files by FileHash or, as Hydra has done since 2026, by NarHash. */
function nameCheck(file: string, fileHash: Sha256, narHash: Sha256 | undefined): Check {
  const [text = ''] = basename(file).split('.');
  let named: Sha256;
  try {
    named = parseSha256(text);
  } catch (error) {
    if (!(error instanceof NarswarmError)) throw error;
    return unknown('name', `holds no hash; FileHash is ${printSha256(fileHash)}`);
  }
  if (named === fileHash) return holds('name', `is the FileHash`);
  if (named === narHash) return holds('name', `is the NarHash; FileHash is ${printSha256(fileHash)}`);
  return fails('name', `is neither the FileHash, which is ${printSha256(fileHash)}, nor the NarHash`);
}

async function readNar(file: string, compression: Compression, signal: AbortSignal) {
  const { size } = await stat(file);
  const reader = new NarReader();
  const hasher = createHash('sha256');
  const input: AsyncIterable<Buffer> = createReadStream(file, { highWaterMark: 256 * 1024 });
  const limits = { expectedBytes: size * usualRatio, maxBytes: torrentLengthMaxBytes, signal };
  for await (const chunk of decompress(compression, input, limits)) {
    hasher.update(chunk);
    reader.write(chunk);
  }
  reader.end();
  return { narHash: sha256FromDigest(hasher.digest()), narSize: reader.offset };
}
