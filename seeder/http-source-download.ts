/** Downloads NAR files into the seeder's own store, hashing them on the way. */

import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { type Compression, narFileName } from '../nar/compression.ts';
import { NarswarmError } from '../nar/errors.ts';
import { type Sha256, sha256FromDigest } from '../nar/hash.ts';
import type { NarInfo } from '../nar/narinfo.ts';
import { fanOutCharacters } from '../store/directory-store.ts';
import type { NarFileStore, NarFileWriter } from '../store/nar-file-store.ts';

/** Compression can make a NAR larger by so much at most: 1/16 and 64 KiB. For narinfos without FileSize. */
const growthDivisor = 16;
const growthBytes = 64 * 1024;
/** Bytes copied at once. */
const copyBytes = 256 * 1024;

/** Where the directory store keeps a NAR file, relative to its directory. */
export function storedPath(name: string): string {
  return join(name.slice(0, fanOutCharacters), name);
}

/**
 * Stores `body` under its FileHash, which it returns. Nothing is stored when it differs from what the narinfo says: then throws
 * `file-size-mismatch` or `file-hash-mismatch`.
 */
export async function download(
  store: NarFileStore,
  body: AsyncIterable<Buffer>,
  narInfo: NarInfo,
  compression: Compression,
  signal: AbortSignal,
): Promise<Sha256> {
  const maxBytes =
    narInfo.fileSize ?? narInfo.narSize + Math.ceil(narInfo.narSize / growthDivisor) + growthBytes;
  // Without a FileHash the name is known at the end only; until then the file goes by its NarHash, and is copied after that.
  const expected = narInfo.fileHash;
  const writer = await store.create(narFileName(expected ?? narInfo.narHash, compression));
  try {
    const hasher = createHash('sha256');
    for await (const chunk of body) {
      if (signal.aborted) throw new NarswarmError('aborted', 'the download was given up');
      if (writer.sizeBytes + chunk.length > maxBytes) {
        throw new NarswarmError('file-size-mismatch', `more than ${maxBytes} bytes come`);
      }
      hasher.update(chunk);
      await writer.write(chunk);
    }
    if (narInfo.fileSize !== undefined && writer.sizeBytes !== narInfo.fileSize) {
      const { sizeBytes } = writer;
      throw new NarswarmError(
        'file-size-mismatch',
        `FileSize is ${narInfo.fileSize}, ${sizeBytes} bytes came`,
      );
    }
    const fileHash = sha256FromDigest(hasher.digest());
    if (expected !== undefined && fileHash !== expected) {
      throw new NarswarmError('file-hash-mismatch', `FileHash is ${expected}, the bytes have ${fileHash}`);
    }
    if (expected === undefined) await copy(writer, await store.create(narFileName(fileHash, compression)));
    else await writer.commit();
    return fileHash;
  } finally {
    // Does nothing after a commit.
    await writer.abort();
  }
}

async function copy(from: NarFileWriter, to: NarFileWriter): Promise<void> {
  try {
    for (let position = 0; position < from.sizeBytes; position += copyBytes) {
      await to.write(await from.read(position, Math.min(copyBytes, from.sizeBytes - position)));
    }
    await to.commit();
  } finally {
    await to.abort();
  }
}
