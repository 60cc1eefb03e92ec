/** One pass over a NAR file as it lies there: FileHash and canonical torrent. */

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import { type Compression, narFileName } from '../nar/compression.ts';
import { NarswarmError } from '../nar/errors.ts';
import { type Sha256, sha256FromDigest } from '../nar/hash.ts';
import { type Torrent, TorrentHasher } from '../swarm/torrent/torrent.ts';

/** Bytes read at once; memory is flat in the size of the file. */
const readBytes = 1024 * 1024;

/** Throws what the disk throws. */
export async function sha256OfFile(file: string, signal: AbortSignal): Promise<Sha256> {
  const hasher = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: readBytes, signal }))
    hasher.update(chunk);
  return sha256FromDigest(hasher.digest());
}

/** Throws store-failed when the file cannot be read or changes meanwhile, torrent-invalid when it is empty. */
export async function hashNarFile(
  file: string,
  compression: Compression,
  signal: AbortSignal,
): Promise<{ fileHash: Sha256; torrent: Torrent }> {
  await using handle = await open(file, 'r');
  const { size } = await handle.stat();
  const hasher = createHash('sha256');
  const torrentHasher = new TorrentHasher(size);
  const buffer = Buffer.allocUnsafe(Math.min(readBytes, size));
  for (let position = 0; position < size; ) {
    signal.throwIfAborted();
    const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, size - position), position);
    if (bytesRead === 0)
      throw new NarswarmError('store-failed', `${basename(file)} became shorter while it was read`);
    position += bytesRead;
    const chunk = buffer.subarray(0, bytesRead);
    hasher.update(chunk);
    torrentHasher.write(chunk);
  }
  const fileHash = sha256FromDigest(hasher.digest());
  return { fileHash, torrent: torrentHasher.finish(narFileName(fileHash, compression)) };
}
