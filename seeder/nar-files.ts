/** Opens the NAR files of the catalog where they lie: in a source directory, or in the seeder's own store. */

import { type FileHandle, open } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { NarFileEntry } from '../catalog/catalog.ts';
import { NarswarmError } from '../nar/errors.ts';
import { diskError, errorCode } from '../store/disk-error.ts';
import type { NarFileHandle } from '../store/nar-file-store.ts';

/** The port through which the seeder reads what it serves. */
export interface NarFiles {
  /**
   * Opens the NAR file of `entry` for reading, if it is still the file that was verified. Throws `not-held` when it is
   * another one or gone, and `store-failed` when that could not be told.
   */
  open(entry: NarFileEntry): Promise<NarFileHandle>;
}

/** The NAR files where they lie; those of the seeder's own store in `storeDir`. */
export function narFilesOnDisk(storeDir: string): NarFiles {
  return { open: (entry) => openNarFile(entry, storeDir) };
}

/** What the system says of a path at which there is no file for us; any other error says nothing about the file. */
const goneCodes: ReadonlySet<string | undefined> = new Set([
  'ENOENT',
  'ENOTDIR',
  'ELOOP',
  'EACCES',
  'EISDIR',
]);

/** A file whose size or modification time has changed since is not served: the next scan reads it again. */
async function openNarFile(entry: NarFileEntry, storeDir: string): Promise<NarFileHandle> {
  const path = narFilePath(entry, storeDir);
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (cause) {
    const attempt = `open NAR file ${entry.fileHash}`;
    if (!goneCodes.has(errorCode(cause))) throw diskError(attempt, cause);
    throw new NarswarmError('not-held', `cannot ${attempt}`, { cause });
  }
  try {
    const { size, mtimeNs } = await file.stat({ bigint: true });
    if (size !== BigInt(entry.fileSize) || mtimeNs !== entry.location.mtimeNs) {
      throw new NarswarmError('not-held', `NAR file ${entry.fileHash} has changed since it was verified`);
    }
  } catch (error) {
    await file.close();
    throw error;
  }
  return new VerifiedFile(file, entry.fileSize);
}

function narFilePath(entry: NarFileEntry, storeDir: string): string {
  const { source, path } = entry.location;
  return source.startsWith('file:') ? join(fileURLToPath(source), path) : resolve(storeDir, path);
}

class VerifiedFile implements NarFileHandle {
  readonly sizeBytes: number;
  readonly #file: FileHandle;

  constructor(file: FileHandle, sizeBytes: number) {
    this.#file = file;
    this.sizeBytes = sizeBytes;
  }

  async read(position: number, lengthBytes: number, memory?: Buffer): Promise<Buffer> {
    // A block of its own, which goes when it was sent: out of Node's pool of 64 KiB, whatever else lies there for longer would keep it.
    const buffer = memory?.subarray(0, lengthBytes) ?? Buffer.allocUnsafeSlow(lengthBytes);
    let filled = 0;
    while (filled < lengthBytes) {
      const { bytesRead } = await this.#file.read(buffer, filled, lengthBytes - filled, position + filled);
      if (bytesRead === 0)
        throw new NarswarmError('not-held', 'the NAR file became shorter while it was read');
      filled += bytesRead;
    }
    return buffer;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
