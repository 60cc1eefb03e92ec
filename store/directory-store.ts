/**
 * NAR files in a directory: `<first two characters of the name>/<name>`, so that a million files make 1,024
 * directories of a thousand. Files grow in `tmp/` of the same file system and are renamed when they are whole.
 */

import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, opendir, rename, rm, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { NarswarmError } from '../nar/errors.ts';
import { diskError, errorCode } from './disk-error.ts';
import { type FileVersion, versionIn } from './file-version.ts';
import {
  type CommitOptions,
  checkNarFileName,
  checkReadRange,
  type NarFileHandle,
  type NarFileListing,
  type NarFileStore,
  type NarFileWriter,
  type ResumedWriter,
  storeClosed,
  writerClosed,
} from './nar-file-store.ts';
import { UnfinishedFiles } from './unfinished-files.ts';

/** Characters of a name that make its directory: two of nix32 give 1,024 directories. */
export const fanOutCharacters = 2;

const temporaryDirectory = 'tmp';

/** Chunks that one system call writes: Linux takes 1,024. */
const vectorMax = 1_024;

/** Where a committed file lies in a store in `directory`: for whoever verifies it by its path. */
export function storedFilePath(directory: string, name: string): string {
  return join(directory, name.slice(0, fanOutCharacters), name);
}

export interface DirectoryStoreOptions {
  /** Whether what a killed process left half-written, and a suspended writer leaves, is kept to be gone on with. */
  keepsUnfinished?: boolean;
}

/** Opens the store in `directory`, making it if needed, and removes what a killed process left half-written unless it is kept. */
export async function openDirectoryStore(
  directory: string,
  { keepsUnfinished = false }: DirectoryStoreOptions = {},
): Promise<NarFileStore> {
  const temporary = join(directory, temporaryDirectory);
  try {
    if (!keepsUnfinished || !(await isDirectory(temporary)))
      await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary, { recursive: true });
    return new DirectoryStore(directory, keepsUnfinished ? await UnfinishedFiles.open(temporary) : undefined);
  } catch (cause) {
    throw diskError(`prepare the store ${directory}`, cause);
  }
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false;
    throw error;
  }
}

class DirectoryStore implements NarFileStore {
  readonly #directory: string;
  /** What has to be closed before the store is. */
  readonly #open = new Set<() => Promise<void>>();
  readonly #unfinished: UnfinishedFiles | undefined;
  #closed = false;
  #writers = 0;

  constructor(directory: string, unfinished: UnfinishedFiles | undefined) {
    this.#directory = directory;
    this.#unfinished = unfinished;
  }

  async open(name: string): Promise<NarFileHandle | undefined> {
    this.#check(name);
    const path = this.#path(name);
    let file: FileHandle;
    try {
      // A symbolic link is never one of ours.
      file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    } catch (cause) {
      if (errorCode(cause) === 'ENOENT') return undefined;
      throw diskError(`open ${name}`, cause);
    }
    try {
      const version = versionIn(await file.stat({ bigint: true }));
      if (this.#closed) throw storeClosed();
      return new DirectoryHandle(file, name, version, this.#open);
    } catch (cause) {
      await file.close();
      throw diskError(`open ${name}`, cause);
    }
  }

  async create(name: string): Promise<NarFileWriter> {
    this.#check(name);
    this.#writers += 1;
    const temporary = join(this.#directory, temporaryDirectory, `${this.#writers}-${name}`);
    let file: FileHandle;
    try {
      file = await open(temporary, 'wx+', 0o644);
    } catch (cause) {
      throw diskError(`create ${name}`, cause);
    }
    return this.#writer(name, { file, temporary, sizeBytes: 0 });
  }

  async resume(name: string): Promise<ResumedWriter | undefined> {
    this.#check(name);
    const temporary = this.#unfinished?.take(name);
    if (temporary === undefined) return undefined;
    try {
      const file = await open(temporary, constants.O_RDWR | constants.O_NOFOLLOW);
      return await this.#writer(name, { file, temporary, sizeBytes: (await file.stat()).size });
    } catch (cause) {
      await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
      throw diskError(`go on with ${name}`, cause);
    }
  }

  async tidyUnfinished(olderThanMs: number): Promise<number> {
    return (await this.#unfinished?.tidy(olderThanMs)) ?? 0;
  }

  async #writer(
    name: string,
    { file, temporary, sizeBytes }: { file: FileHandle; temporary: string; sizeBytes: number },
  ): Promise<DirectoryWriter> {
    const unfinished = this.#unfinished;
    const leave = unfinished && ((left: number) => unfinished.add(name, temporary, left));
    const writer = new DirectoryWriter(
      file,
      { temporary, path: this.#path(name), sizeBytes, leave },
      this.#open,
    );
    if (this.#closed) {
      await writer.abort();
      throw storeClosed();
    }
    return writer;
  }

  async remove(name: string): Promise<void> {
    this.#check(name);
    try {
      await unlink(this.#path(name));
    } catch (cause) {
      if (errorCode(cause) !== 'ENOENT') throw diskError(`remove ${name}`, cause);
    }
  }

  async *list(): AsyncGenerator<NarFileListing> {
    if (this.#closed) throw storeClosed();
    try {
      for await (const group of await opendir(this.#directory)) {
        if (!group.isDirectory() || group.name.length !== fanOutCharacters) continue;
        for await (const entry of await opendir(join(this.#directory, group.name))) {
          if (!entry.isFile() || !entry.name.startsWith(group.name) || !isNarFileName(entry.name)) continue;
          const sizeBytes = await sizeOf(join(this.#directory, group.name, entry.name));
          if (sizeBytes !== undefined) yield { name: entry.name, sizeBytes };
        }
      }
    } catch (cause) {
      throw diskError('list the store', cause);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#open].map((close) => close()));
  }

  #check(name: string): void {
    checkNarFileName(name);
    if (this.#closed) throw storeClosed();
  }

  #path(name: string): string {
    return storedFilePath(this.#directory, name);
  }
}

class DirectoryHandle implements NarFileHandle {
  readonly sizeBytes: number;
  readonly version: FileVersion;
  readonly #file: FileHandle;
  readonly #name: string;
  readonly #open: Set<() => Promise<void>>;
  readonly #close = (): Promise<void> => this.close();
  #closing: Promise<void> | undefined;

  constructor(file: FileHandle, name: string, version: FileVersion, open: Set<() => Promise<void>>) {
    this.#file = file;
    this.#name = name;
    this.version = version;
    this.sizeBytes = version.sizeBytes;
    this.#open = open;
    open.add(this.#close);
  }

  async read(position: number, lengthBytes: number, memory?: Buffer): Promise<Buffer> {
    checkReadRange(position, lengthBytes, this.sizeBytes);
    return readExactly(this.#file, position, lengthBytes, this.#name, memory);
  }

  close(): Promise<void> {
    // FileHandle.close waits for the reads that are under way.
    this.#closing ??= this.#file.close().finally(() => this.#open.delete(this.#close));
    return this.#closing;
  }
}

interface WriterTarget {
  readonly temporary: string;
  readonly path: string;
  /** What is in it already. */
  readonly sizeBytes: number;
  /** Keeps so many bytes of it for later; missing where nothing unfinished is kept. */
  readonly leave: ((sizeBytes: number) => void) | undefined;
}

class DirectoryWriter implements ResumedWriter {
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

async function readExactly(
  file: FileHandle,
  position: number,
  lengthBytes: number,
  name: string,
  memory?: Buffer,
): Promise<Buffer> {
  const buffer = memory?.subarray(0, lengthBytes) ?? Buffer.allocUnsafe(lengthBytes);
  let filled = 0;
  while (filled < lengthBytes) {
    let bytesRead: number;
    try {
      ({ bytesRead } = await file.read(buffer, filled, lengthBytes - filled, position + filled));
    } catch (cause) {
      throw diskError(`read ${name}`, cause);
    }
    if (bytesRead === 0) throw new NarswarmError('not-held', `${name} has become shorter while it was read`);
    filled += bytesRead;
  }
  return buffer;
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

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return undefined;
    throw cause;
  }
}

function isNarFileName(name: string): boolean {
  try {
    checkNarFileName(name);
    return true;
  } catch {
    return false;
  }
}
