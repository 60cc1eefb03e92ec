/** Store paths made to measure: log-normal sizes, contents cut out of real files, so that they compress like real ones. */

import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { NarswarmError } from '../../nar/errors.ts';
import { SeededRandom } from './random.ts';
import { directoryOf, fileOf, type Tree } from './tree.ts';

/**
 * Deviation of the logarithm of the sizes. With it the mean is 2.3 times the median, as measured over the small and
 * middle NARs of a desktop closure.
 */
export const sizeSigma = 1.3;
/** The smallest NAR has 112 bytes; a path needs some content to differ from others. */
const pathMinBytes = 300;
const pathMaxBytes = 64 * 1024 * 1024;

/** Each path refers to so many others, until there are none left: every path is in the closure of the first. */
const childrenPerPath = 8;
/** Below this a path is a single file. */
const directoryMinBytes = 4096;
const filesMax = 32;
const sliceMinBytes = 4 * 1024;
const sliceMaxBytes = 64 * 1024;
/** Real files that are cut from: more would only take longer to list. */
const poolMaxFiles = 4000;

export interface MadePath {
  name: string;
  /** Positions of others in the plan; all come before this one. */
  references: number[];
  tree(references: readonly string[]): Tree;
}

export interface MadePathsOptions {
  /** Names start with it. */
  kind: string;
  count: number;
  medianBytes: number;
  seed: number;
  /** Of the first path in the whole plan. */
  firstPosition?: number;
  pool: ContentPool;
}

/** `count` paths, each after those it refers to; the last refers, over others, to all. */
export function planMadePaths(options: MadePathsOptions): MadePath[] {
  const { kind, count, medianBytes, seed, firstPosition = 0, pool } = options;
  const sizes = new SeededRandom('sizes', kind, seed);
  const numbers = Array.from({ length: count }, (_, index) => index);
  const drawn = numbers.map(() => Math.round(sizes.logNormal(medianBytes, sizeSigma)));
  // Position p in the list is number count - 1 - p in the tree, in which n refers to 8n + 1 … 8n + 8.
  return numbers.map((position) => {
    const number = count - 1 - position;
    const children = Array.from({ length: childrenPerPath }, (_, k) => number * childrenPerPath + 1 + k);
    const sizeBytes = Math.min(pathMaxBytes, Math.max(pathMinBytes, drawn[number] ?? medianBytes));
    return {
      name: `${kind}-${String(number).padStart(6, '0')}`,
      references: children.filter((child) => child < count).map((child) => firstPosition + count - 1 - child),
      tree: (references) => madeTree(sizeBytes, references, pool, `${kind}/${seed}/${number}`),
    };
  });
}

/** A tree whose NAR has about `sizeBytes`. */
function madeTree(sizeBytes: number, references: readonly string[], pool: ContentPool, seed: string): Tree {
  const file = (index: number, bytes: number): Tree => ({
    kind: 'file',
    sizeBytes: bytes,
    executable: index === 0,
    read: () => pool.cut(bytes, new SeededRandom('content', seed, index)),
  });
  if (sizeBytes < directoryMinBytes && references.length === 0) return file(1, sizeBytes - 150);
  const count = Math.min(filesMax, 1 + Math.floor(sizeBytes / (128 * 1024)));
  const each = Math.max(1, Math.round((sizeBytes - 600) / count) - 200);
  const files = Array.from({ length: count }, (_, index) => [`data-${index}`, file(index, each)] as const);
  return directoryOf([['references', fileOf(`${references.join('\n')}\n`)], ...files]);
}

/** Real files to cut from. */
export class ContentPool {
  readonly #files: readonly { path: string; sizeBytes: number }[];

  private constructor(files: readonly { path: string; sizeBytes: number }[]) {
    this.#files = files;
  }

  /** Of the files below `dir` that are not tiny. Throws store-failed when there is none. */
  static async open(dir: string): Promise<ContentPool> {
    const files: { path: string; sizeBytes: number }[] = [];
    const look = async (directory: string): Promise<void> => {
      const entries = await readdir(directory, { withFileTypes: true });
      for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
        if (files.length >= poolMaxFiles) return;
        const path = join(directory, entry.name);
        if (entry.isDirectory() && !entry.name.startsWith('.')) await look(path);
        if (!entry.isFile()) continue;
        const { size } = await stat(path);
        if (size >= sliceMinBytes) files.push({ path, sizeBytes: size });
      }
    };
    await look(dir);
    if (files.length === 0)
      throw new NarswarmError('store-failed', `${dir} has no files to make a sample cache of`);
    return new ContentPool(files);
  }

  /** `sizeBytes` bytes, slice after slice. */
  async *cut(sizeBytes: number, random: SeededRandom): AsyncGenerator<Buffer> {
    for (let left = sizeBytes; left > 0; ) {
      const file = this.#files[random.below(this.#files.length)];
      if (file === undefined) return;
      const wanted = Math.min(
        left,
        file.sizeBytes,
        sliceMinBytes + random.below(sliceMaxBytes - sliceMinBytes),
      );
      const slice = await readSlice(file.path, random.below(file.sizeBytes - wanted + 1), wanted);
      left -= slice.length;
      yield slice;
    }
  }
}

async function readSlice(path: string, position: number, lengthBytes: number): Promise<Buffer> {
  await using file = await open(path, 'r');
  const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(lengthBytes), 0, lengthBytes, position);
  if (bytesRead !== lengthBytes) throw new NarswarmError('store-failed', `${path} changed while it was read`);
  return buffer;
}
