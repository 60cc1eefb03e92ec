/**
 * NAR files in a directory: `<first two characters of the name>/<name>`, so that a million files make 1,024
 * directories of a thousand. Files grow in `tmp/` of the same file system and are renamed when they are whole.
 */

import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, opendir, rm, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { DirectoryWriter } from './directory-writer.ts';
import { diskError, errorCode } from './disk-error.ts';
import { type FileVersion, versionIn } from './file-version.ts';
import {
  checkNarFileName,
  checkReadRange,
  type NarFileHandle,
  type NarFileListing,
  type NarFileStore,
  type NarFileWriter,
  type ResumedWriter,
  storeClosed,
} from './nar-file-store.ts';
import { readExactly } from './read-exactly.ts';
import { UnfinishedFiles } from './unfinished-files.ts';

/** Characters of a name that make its directory: two of nix32 give 1,024 directories. */
export const fanOutCharacters = 2;

const temporaryDirectory = 'tmp';

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
