/** The files of a catalog on the disk: segments and views, each under the name that follows from its bytes. */

import { createHash, randomUUID } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { type Sha256, sha256FromDigest } from '../nar/hash.ts';
import { parseSegmentName, segmentName } from './segment.ts';

/** The file name of the head, as in the URL. */
export const headName = 'head';
/** The end of the name of a file that is not whole yet. */
const partEnd = '.part';

export class CatalogFiles {
  readonly dir: string;

  private constructor(dir: string) {
    this.dir = dir;
  }

  /** Makes `dir` if it is missing, and removes what was left half written. One at a time. Throws store-failed. */
  static async open(dir: string): Promise<CatalogFiles> {
    return attempt(`opening ${dir}`, async () => {
      await mkdir(dir, { recursive: true });
      for (const name of await readdir(dir))
        if (name.endsWith(partEnd)) await rm(join(dir, name), { force: true });
      return new CatalogFiles(dir);
    });
  }

  path(sha256: Sha256): string {
    return join(this.dir, segmentName(sha256));
  }

  /** Bytes of the file; `undefined` when there is none. */
  async size(sha256: Sha256): Promise<number | undefined> {
    return attempt(`looking for ${segmentName(sha256)}`, async () => {
      const found = await stat(this.path(sha256)).catch(absentAsUndefined);
      return found?.size;
    });
  }

  /** For reading, by whoever closes it; `undefined` when there is none. */
  async open(sha256: Sha256): Promise<OpenCatalogFile | undefined> {
    return attempt(`opening ${segmentName(sha256)}`, async () => {
      const file = await open(this.path(sha256)).catch(absentAsUndefined);
      if (file === undefined) return undefined;
      const { size } = await file.stat();
      return new OpenCatalogFile(file, size);
    });
  }

  /** The same by its file name. */
  async openName(name: string): Promise<OpenCatalogFile | undefined> {
    const sha256 = parseSegmentName(name);
    return sha256 && this.open(sha256);
  }

  /**
   * Keeps a file, on the disk for good when this resolves. Throws segment-truncated and segment-mismatch when the chunks
   * are not the file that `expected` names, and keeps nothing then.
   */
  async put(
    chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    expected?: { sha256: Sha256; sizeBytes: number },
  ): Promise<{ sha256: Sha256; sizeBytes: number }> {
    const part = join(this.dir, `${randomUUID()}${partEnd}`);
    return attempt('keeping a file of the catalog', async () => {
      try {
        await using file = await open(part, 'wx');
        const sum = createHash('sha256');
        let sizeBytes = 0;
        for await (const chunk of chunks) {
          sizeBytes += chunk.length;
          if (expected !== undefined && sizeBytes > expected.sizeBytes)
            throw mismatch('is longer than its head says');
          sum.update(chunk);
          await file.writeFile(chunk);
        }
        const sha256 = sha256FromDigest(sum.digest());
        if (expected !== undefined && sizeBytes < expected.sizeBytes) {
          throw new NarswarmError(
            'segment-truncated',
            `${sizeBytes} bytes of a file of ${expected.sizeBytes}`,
          );
        }
        if (expected !== undefined && sha256 !== expected.sha256)
          throw mismatch('has other bytes than its head says');
        await file.datasync();
        await rename(part, this.path(sha256));
        await this.#syncDir();
        return { sha256, sizeBytes };
      } catch (error) {
        await rm(part, { force: true });
        throw error;
      }
    });
  }

  /** The head that is shown; `undefined` before the first. */
  async head(): Promise<string | undefined> {
    return attempt('reading the head', () =>
      readFile(join(this.dir, headName), 'latin1').catch(absentAsUndefined),
    );
  }

  /** In place of the one before, in one step: whoever reads has the one or the other. */
  async putHead(text: string): Promise<void> {
    const part = join(this.dir, `${randomUUID()}${partEnd}`);
    await attempt('keeping the head', async () => {
      try {
        await using file = await open(part, 'wx');
        await file.writeFile(text, 'latin1');
        await file.datasync();
        await rename(part, join(this.dir, headName));
        await this.#syncDir();
      } catch (error) {
        await rm(part, { force: true });
        throw error;
      }
    });
  }

  async remove(sha256: Sha256): Promise<void> {
    await attempt(`removing ${segmentName(sha256)}`, () => rm(this.path(sha256), { force: true }));
  }

  /** All that are there. */
  async list(): Promise<Sha256[]> {
    const names = await attempt(`reading ${this.dir}`, () => readdir(this.dir));
    return names.map(parseSegmentName).filter((sha256) => sha256 !== undefined);
  }

  /** A name is on the disk only once the directory is. */
  async #syncDir(): Promise<void> {
    await using dir = await open(this.dir);
    await dir.sync();
  }
}

export class OpenCatalogFile {
  readonly #file: FileHandle;
  readonly sizeBytes: number;

  constructor(file: FileHandle, sizeBytes: number) {
    this.#file = file;
    this.sizeBytes = sizeBytes;
  }

  /**
   * Exactly `lengthBytes` bytes, in `memory` if it is given. Throws store-failed when there are not so many, or the disk
   * fails.
   */
  async read(position: number, lengthBytes: number, memory?: Buffer): Promise<Buffer> {
    return attempt('reading a file of the catalog', async () => {
      const buffer = memory?.subarray(0, lengthBytes) ?? Buffer.allocUnsafeSlow(lengthBytes);
      let filled = 0;
      while (filled < lengthBytes) {
        const { bytesRead } = await this.#file.read(buffer, filled, lengthBytes - filled, position + filled);
        if (bytesRead === 0) throw new NarswarmError('store-failed', 'a file of the catalog became shorter');
        filled += bytesRead;
      }
      return buffer;
    });
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

function mismatch(what: string): NarswarmError {
  return new NarswarmError('segment-mismatch', `a file of the catalog ${what}`);
}

function absentAsUndefined(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined;
  throw error;
}

async function attempt<T>(what: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    if (isNarswarmError(cause) || !(cause instanceof Error) || !('code' in cause)) throw cause;
    throw new NarswarmError('store-failed', `${what}: ${cause.message}`, { cause });
  }
}
