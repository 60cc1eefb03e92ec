/**
 * What writers left unfinished, to be gone on with: when they were suspended, or their process ended. Its bytes may be anything: whoever goes on
 * compares them with what they should be.
 */

import { readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parseNarFileName } from '../nar/compression.ts';

interface Unfinished {
  readonly path: string;
  readonly sizeBytes: number;
  /** When it was written last, in milliseconds since 1970. */
  readonly atMs: number;
}

/** Before the name of a file that a process before this one has left. */
const leftPrefix = 'left';

export class UnfinishedFiles {
  /** By the name of the NAR file. */
  readonly #files = new Map<string, Unfinished>();

  /** Of what is in `directory` the largest for each name stays; all else there is removed. */
  static async open(directory: string): Promise<UnfinishedFiles> {
    const unfinished = new UnfinishedFiles();
    const entries = await readdir(directory, { withFileTypes: true });
    // First what has its name already: what comes after takes its place, or goes.
    entries.sort((a, b) => Number(isLeft(b.name)) - Number(isLeft(a.name)));
    for (const entry of entries) {
      const path = join(directory, entry.name);
      const name = /^(?:left|\d+)-(.*)$/.exec(entry.name)?.[1] ?? '';
      if (!entry.isFile() || parseNarFileName(name) === undefined) {
        await rm(path, { recursive: true, force: true });
        continue;
      }
      const left = join(directory, `${leftPrefix}-${name}`);
      const { size, mtimeMs } = await stat(path);
      if ((unfinished.#files.get(name)?.sizeBytes ?? -1) >= size) {
        await rm(path, { force: true });
        continue;
      }
      await rename(path, left);
      unfinished.#files.set(name, { path: left, sizeBytes: size, atMs: mtimeMs });
    }
    return unfinished;
  }

  add(name: string, path: string, sizeBytes: number): void {
    this.#files.set(name, { path, sizeBytes, atMs: Date.now() });
  }

  /** Its path; from now on it is somebody's again. */
  take(name: string): string | undefined {
    const path = this.#files.get(name)?.path;
    this.#files.delete(name);
    return path;
  }

  /** Removes those that were written last so long ago. Gives the bytes of the others. */
  async tidy(olderThanMs: number): Promise<number> {
    let bytes = 0;
    for (const [name, { path, sizeBytes, atMs }] of [...this.#files]) {
      if (Date.now() - atMs < olderThanMs) bytes += sizeBytes;
      else if (this.take(name) !== undefined) await rm(path, { force: true });
    }
    return bytes;
  }
}

function isLeft(name: string): boolean {
  return name.startsWith(`${leftPrefix}-`);
}
