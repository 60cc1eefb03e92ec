/** Many files as one torrent, and the few of them that are open. */

import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { NarswarmError } from '../../nar/errors.ts';
import { infoHashFromDigest } from '../../nar/hash.ts';
import {
  heldPieces,
  type JoinedFiles,
  type JoinedPart,
  joinedHandle,
} from '../../swarm/seed/joined-files.ts';
import { OpenFiles, type ReadableFile } from '../../swarm/seed/open-files.ts';
import { pieceCount, type Torrent } from '../../swarm/torrent/torrent.ts';

const pieceLength = 64;

/** Files in memory: of those that are gone, opening fails; of those that became shorter, reading. */
class Files implements JoinedFiles {
  readonly torrent: Torrent;
  readonly bytes: Buffer;
  readonly gone = new Set<number>();
  readonly shorter = new Set<number>();
  readonly #starts: number[] = [];
  readonly #sizes: readonly number[];
  open = 0;
  mostOpen = 0;
  opened = 0;

  constructor(sizes: readonly number[]) {
    this.#sizes = sizes;
    let length = 0;
    for (const size of sizes) {
      this.#starts.push(length);
      length += size;
    }
    this.bytes = randomBytes(length);
    const infoHash = infoHashFromDigest(Buffer.alloc(20));
    this.torrent = { infoHash, name: 'files', length, pieceLength, pieces: Buffer.alloc(0) };
  }

  parts(from: number, to: number): JoinedPart[] {
    const parts: JoinedPart[] = [];
    for (const [index, offset] of this.#starts.entries()) {
      const sizeBytes = this.#sizes[index] ?? 0;
      // Pages of three.
      if (offset + sizeBytes <= from || offset >= to || parts.length === 3) continue;
      const open = { open: () => this.#openFile(index) };
      parts.push({ offset, sizeBytes, key: `${index}`, ...(this.gone.has(-index - 1) ? {} : open) });
    }
    return parts;
  }

  async #openFile(index: number): Promise<ReadableFile> {
    this.open++;
    this.opened++;
    this.mostOpen = Math.max(this.mostOpen, this.open);
    await null;
    if (this.gone.has(index)) {
      this.open--;
      throw new NarswarmError('not-held', 'gone');
    }
    const start = this.#starts[index] ?? 0;
    return {
      read: async (position, lengthBytes) => {
        await null;
        if (this.shorter.has(index)) throw new NarswarmError('not-held', 'shorter');
        return this.bytes.subarray(start + position, start + position + lengthBytes);
      },
      close: async () => {
        await null;
        this.open--;
      },
    };
  }
}

function handleOf(files: Files, max = 4) {
  const openFiles = new OpenFiles(max);
  return { openFiles, ...joinedHandle(files, undefined, openFiles, async () => {}) };
}

const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 300 })), {
  minLength: 1,
  maxLength: 40,
});

t.test('any range is read as if it were one file, with few of them open', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      sizes,
      fc.integer({ min: 1, max: 4 }),
      fc.array(fc.tuple(fc.nat(), fc.nat())),
      async (all, max, ranges) => {
        const files = new Files(all);
        const { read, openFiles } = handleOf(files, max);
        const { length } = files.bytes;
        const reads = [[0, length], ...ranges].map(async ([a = 0, b = 0]) => {
          const from = a % length;
          const lengthBytes = 1 + (b % (length - from));
          const memory = b % 2 === 0 ? Buffer.alloc(length) : undefined;
          const bytes = await read(from, lengthBytes, memory);
          if (!bytes.equals(files.bytes.subarray(from, from + lengthBytes))) throw new Error('wrong bytes');
        });
        await Promise.all(reads);
        if (files.mostOpen > max) throw new Error(`${files.mostOpen} files were open`);
        await openFiles.closeIdle();
        if (files.open !== 0) throw new Error('a file stayed open');
      },
    ),
    { numRuns: 150 },
  );
  t.pass('always');
});

t.test('what is gone takes the pieces with it that overlap it, and no others', async (t) => {
  const files = new Files([10, 50, 3, 1, 200, 5, 5, 90]);
  t.equal(await heldPieces(files), undefined, 'all is there');
  t.equal(files.open, 0);
  const missing = async (...gone: number[]): Promise<number[]> => {
    files.gone.clear();
    for (const index of gone) files.gone.add(index);
    const pieces = await heldPieces(files);
    const all = Array.from({ length: pieceCount(files.torrent) }, (_, index) => index);
    const lost = all.filter((index) => pieces?.has(index) === false);
    t.equal(pieces?.count, all.length - lost.length);
    return lost;
  };
  t.same(await missing(0), [0]);
  // 3 bytes from 60 to 62, then the last byte of piece 0.
  t.same(await missing(2, 3), [0]);
  t.same(await missing(4), [1, 2, 3, 4]);
  // Known without opening it: -1 - index.
  t.same(await missing(-6), [4]);
  t.same(await missing(7), [4, 5]);
  t.equal(files.open, 0);
});

t.test('a read of what is gone fails and leaves nothing open; the next one tries again', async (t) => {
  const files = new Files([10, 50, 30]);
  const { read, openFiles } = handleOf(files);
  files.shorter.add(1);
  await t.rejects(read(0, 90), { code: 'not-held' });
  t.ok((await read(0, 10)).equals(files.bytes.subarray(0, 10)));
  files.shorter.clear();
  t.ok((await read(0, 90)).equals(files.bytes));
  files.gone.add(1);
  t.ok((await read(0, 90)).equals(files.bytes), 'one that is open still has its bytes');
  files.gone.add(-2);
  await t.rejects(read(0, 90), { code: 'not-held' }, 'but not one that is known to be gone');
  await openFiles.closeIdle();
  await t.rejects(read(5, 20), { code: 'not-held' });
  await openFiles.closeIdle();
  t.equal(files.open, 0);
});

t.test('bytes that no file holds are never sent', async (t) => {
  const files = new Files([10, 50, 30]);
  const parts = files.parts.bind(files);
  files.parts = (from, to) => parts(from, to).filter(({ key }) => key !== '1');
  const { read } = handleOf(files);
  await t.rejects(read(0, 90), { code: 'catalog-corrupt' });
  await t.rejects(read(20, 5), { code: 'catalog-corrupt' });
});

t.test('the same file is opened once for many reads, the least recently used is closed', async (t) => {
  const files = new Files([10, 10, 10, 10, 10]);
  const { read, openFiles } = handleOf(files, 2);
  for (let round = 0; round < 5; round++) await read(0, 20);
  t.equal(files.opened, 2);
  await read(20, 10);
  await read(10, 10);
  t.equal(files.opened, 3, 'the second was used after the first');
  await read(0, 10);
  t.equal(files.opened, 4);
  await openFiles.closeIdle();
  t.equal(files.open, 0);
});
