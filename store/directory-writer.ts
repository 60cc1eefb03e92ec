/** A NAR file of a directory that grows beside the others and takes its place among them when it is whole. */

import { type FileHandle, mkdir, open, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { NarswarmError } from '../nar/errors.ts';
import { diskError, errorCode } from './disk-error.ts';
import { type CommitOptions, checkReadRange, type ResumedWriter, writerClosed } from './nar-file-store.ts';
import { readExactly } from './read-exactly.ts';

/** Chunks that one system call writes: Linux takes 1,024. */
const vectorMax = 1_024;

export interface WriterTarget {
  readonly temporary: string;
  readonly path: string;
  /** What is in it already. */
  readonly sizeBytes: number;
  /** Keeps so many bytes of it for later; missing where nothing unfinished is kept. */
  readonly leave: ((sizeBytes: number) => void) | undefined;
}

export class DirectoryWriter implements ResumedWriter {
  readonly #file: FileHandle;
  readonly #target: WriterTarget;
  readonly #open: Set<() => Promise<void>>;
  readonly #abort = (): Promise<void> => this.abort();
  #sizeBytes = 0;
  /** growing → committing → committed; growing → aborted; a failed commit ends in aborted. */
  #state: 'growing' | 'committing' | 'committed' | 'aborted' = 'growing';
  #failure: NarswarmError | undefined;
  /** What came while something was written, and is written together: each write takes a turn of another thread, and a busy machine is slow to give one. */
  #waiting: Uint8Array[] = [];
  #writingWaiting: Promise<void> | undefined;
  /** Ends when all writes so far have. Never rejects. */
  #writes: Promise<void> = Promise.resolve();
  #ending: Promise<void> | undefined;

  constructor(file: FileHandle, target: WriterTarget, open: Set<() => Promise<void>>) {
    this.#file = file;
    this.#target = target;
    this.#sizeBytes = target.sizeBytes;
    this.#open = open;
    open.add(this.#abort);
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  async write(chunk: Uint8Array): Promise<void> {
    if (this.#state !== 'growing') throw writerClosed();
    this.#waiting.push(chunk);
    this.#writingWaiting ??= this.#afterOthers();
    await this.#writingWaiting;
  }

  #afterOthers(): Promise<void> {
    const written = this.#writes.then(() => {
      const chunks = this.#waiting;
      this.#waiting = [];
      this.#writingWaiting = undefined;
      return this.#append(chunks);
    });
    this.#writes = written.catch(() => undefined);
    return written;
  }

  async read(position: number, lengthBytes: number): Promise<Buffer> {
    checkReadRange(position, lengthBytes, this.#sizeBytes);
    if (this.#state === 'aborted') throw writerClosed();
    if (this.#state !== 'committed') return readExactly(this.#file, position, lengthBytes, this.#target.path);
    let file: FileHandle;
    try {
      file = await open(this.#target.path, 'r');
    } catch (cause) {
      throw new NarswarmError('not-held', 'the NAR file was removed while it was read', { cause });
    }
    try {
      return await readExactly(file, position, lengthBytes, this.#target.path);
    } finally {
      await file.close();
    }
  }

  commit({ durable = true }: CommitOptions = {}): Promise<void> {
    if (this.#state === 'aborted') return Promise.reject(this.#failure ?? writerClosed());
    if (this.#state === 'growing') {
      this.#state = 'committing';
      this.#ending = this.#commit(durable);
    }
    return this.#ending ?? Promise.resolve();
  }

  abort(): Promise<void> {
    if (this.#state === 'growing') {
      this.#state = 'aborted';
      this.#ending = this.#discard();
    }
    // A commit under way is let finish; whether it succeeded is for its own caller.
    return (this.#ending ?? Promise.resolve()).catch(() => undefined);
  }

  async cut(sizeBytes: number): Promise<void> {
    if (this.#state !== 'growing') throw writerClosed();
    try {
      await this.#file.truncate(sizeBytes);
      this.#sizeBytes = sizeBytes;
    } catch (cause) {
      throw diskError(`cut ${this.#target.path}`, cause);
    }
  }

  suspend(): Promise<void> {
    const { leave } = this.#target;
    if (leave === undefined || this.#state !== 'growing') return this.abort();
    this.#state = 'aborted';
    this.#ending = this.#leave(leave);
    return this.#ending.catch(() => undefined);
  }

  async #leave(leave: (sizeBytes: number) => void): Promise<void> {
    await this.#writes;
    try {
      await this.#file.close();
      leave(this.#sizeBytes);
    } finally {
      this.#open.delete(this.#abort);
    }
  }

  async #append(chunks: readonly Uint8Array[]): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      let left = chunks.filter(({ length }) => length > 0);
      while (left.length > 0) {
        const { bytesWritten } = await this.#file.writev(left.slice(0, vectorMax), this.#sizeBytes);
        this.#sizeBytes += bytesWritten;
        left = without(bytesWritten, left);
      }
    } catch (cause) {
      this.#failure = diskError(`write ${this.#target.path}`, cause);
      throw this.#failure;
    }
  }

  async #commit(durable: boolean): Promise<void> {
    await this.#writes;
    try {
      if (this.#failure !== undefined) throw this.#failure;
      if (durable) {
        await this.#file.sync();
        await makeDurableDirectory(dirname(this.#target.path));
      }
      await renameInto(this.#target.temporary, this.#target.path);
      if (durable) await syncDirectory(dirname(this.#target.path));
      this.#state = 'committed';
      await this.#file.close();
    } catch (cause) {
      const failure = diskError(`finish ${this.#target.path}`, cause);
      this.#failure = failure;
      if (this.#state !== 'committed') {
        this.#state = 'aborted';
        await this.#discard().catch(() => undefined);
      }
      throw failure;
    } finally {
      this.#open.delete(this.#abort);
    }
  }

  async #discard(): Promise<void> {
    await this.#writes;
    try {
      await this.#file.close();
      await unlink(this.#target.temporary);
    } finally {
      this.#open.delete(this.#abort);
    }
  }
}

/** What is left of `chunks` after so many bytes. */
function without(bytes: number, chunks: readonly Uint8Array[]): Uint8Array[] {
  let before = bytes;
  const left: Uint8Array[] = [];
  for (const chunk of chunks) {
    if (before < chunk.length) left.push(before > 0 ? chunk.subarray(before) : chunk);
    before = Math.max(0, before - chunk.length);
  }
  return left;
}

/** The directory is there, but for the first file in it. */
async function renameInto(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
    await mkdir(dirname(to), { recursive: true });
    await rename(from, to);
  }
}

/** A rename survives a power cut only when the directory is written as well. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

async function makeDurableDirectory(path: string): Promise<void> {
  const made = await mkdir(path, { recursive: true });
  if (made !== undefined) await syncDirectory(join(path, '..'));
}
