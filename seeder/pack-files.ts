/** The `packs` directory of a seeder: what a pack has beside its NAR files, one file for each. NAR files are never copied. */

import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { NarswarmError } from '../nar/errors.ts';
import type { InfoHash } from '../nar/hash.ts';
import { parseInfoHash } from '../nar/hash.ts';
import { diskError, errorCode } from '../store/disk-error.ts';
import type { ReadableFile } from '../swarm/seed/open-files.ts';

const suffix = '.meta';
/** Of the pack that is being closed; there is one at a time. */
const unfinishedName = 'next.tmp';

export class PackFiles {
  readonly #dir: string;

  private constructor(dir: string) {
    this.#dir = dir;
  }

  /** `dir` is made if it is missing. */
  static async open(dir: string): Promise<PackFiles> {
    await mkdir(dir, { recursive: true });
    return new PackFiles(dir);
  }

  /** Writes nix-cache-info and narinfos of a pack. On disk once it has been named; whole or not there. Throws store-failed. */
  async write(meta: Buffer): Promise<{ nameIt(infoHash: InfoHash): Promise<void> }> {
    const path = join(this.#dir, unfinishedName);
    try {
      await using file = await open(path, 'w');
      await file.writeFile(meta);
      await file.sync();
    } catch (cause) {
      throw diskError('write the narinfos of a pack', cause);
    }
    return {
      nameIt: async (infoHash) => {
        try {
          await rename(path, this.#path(infoHash));
          await using dir = await open(this.#dir, 'r');
          await dir.sync();
        } catch (cause) {
          throw diskError(`name the narinfos of pack ${infoHash}`, cause);
        }
      },
    };
  }

  async has(infoHash: InfoHash, sizeBytes: number): Promise<boolean> {
    try {
      return (await stat(this.#path(infoHash))).size === sizeBytes;
    } catch (cause) {
      if (errorCode(cause) === 'ENOENT') return false;
      throw diskError(`look at pack ${infoHash}`, cause);
    }
  }

  /** Throws `not-held` when the file is gone or has another size. */
  async openMeta(infoHash: InfoHash, sizeBytes: number): Promise<ReadableFile> {
    let file: FileHandle;
    try {
      file = await open(this.#path(infoHash), 'r');
    } catch (cause) {
      if (errorCode(cause) !== 'ENOENT') throw diskError(`open pack ${infoHash}`, cause);
      throw new NarswarmError('not-held', `the narinfos of pack ${infoHash} are gone`, { cause });
    }
    if ((await file.stat()).size !== sizeBytes) {
      await file.close();
      throw new NarswarmError('not-held', `the narinfos of pack ${infoHash} are not what they were`);
    }
    return {
      read: (position, lengthBytes) => readAt(file, position, lengthBytes),
      close: () => file.close(),
    };
  }

  /** Removes what is of no pack, as a killed process leaves it. */
  async sweep(isKept: (infoHash: InfoHash) => boolean): Promise<void> {
    for (const name of await readdir(this.#dir)) {
      const infoHash = name.endsWith(suffix) ? infoHashOf(name.slice(0, -suffix.length)) : undefined;
      const ours = infoHash !== undefined || name === unfinishedName;
      if (ours && (infoHash === undefined || !isKept(infoHash)))
        await rm(join(this.#dir, name), { force: true });
    }
  }

  #path(infoHash: InfoHash): string {
    return join(this.#dir, infoHash + suffix);
  }
}

async function readAt(file: FileHandle, position: number, lengthBytes: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(lengthBytes), 0, lengthBytes, position);
  if (bytesRead !== lengthBytes)
    throw new NarswarmError('not-held', 'the narinfos of a pack became shorter while they were read');
  return buffer;
}

function infoHashOf(text: string): InfoHash | undefined {
  return /^[0-9a-f]{40}$/.test(text) ? parseInfoHash(text) : undefined;
}
