/**
 * The port through which programs keep NAR files: a directory on disk, memory, or one day an object store.
 *
 * A file is known by its canonical name, `<hash in nix32>.nar` and the extension of its compression. Every adapter
 * refuses any other name with `path-escapes`, so a name taken from a URL can lead nowhere else. A file appears under its
 * name only when it is whole. One process at a time may use a store.
 */

import { parseNarFileName } from '../nar/compression.ts';
import { NarswarmError } from '../nar/errors.ts';
import type { FileVersion } from './file-version.ts';

export interface NarFileStore {
  /** Opens a committed file; `undefined` when the store has none of that name. */
  open(name: string): Promise<NarFileHandle | undefined>;
  /**
   * Starts a new file, invisible until its `commit`. Several writers of one name may be at work; as names are hashes
   * of content, it does not matter which of them commits last.
   */
  create(name: string): Promise<NarFileWriter>;
  /** Removes a file; handles that are open keep reading it. Nothing happens when there is none. */
  remove(name: string): Promise<void>;
  /** The committed files, in no particular order. Files that come or go meanwhile may be missed. */
  list(): AsyncIterable<NarFileListing>;
  /**
   * Goes on with a file that was left unfinished: what is in it may be anything, and is to be looked at and cut. `undefined` when there is none.
   * Missing where nothing unfinished is kept.
   */
  resume?(name: string): Promise<ResumedWriter | undefined>;
  /** Removes unfinished files that were written last so long ago. Gives the bytes of the others. */
  tidyUnfinished?(olderThanMs: number): Promise<number>;
  /** Aborts the writers and closes the handles that are still open. May be called twice. */
  close(): Promise<void>;
}

export interface NarFileListing {
  name: string;
  sizeBytes: number;
}

export interface CommitOptions {
  /**
   * Whether the file is there, and whole, also after the machine lost its power; it is by default. Without, it survives the end of the
   * process, costs a third of the time, and whoever finds it after a start of the machine must look whether it is what it was.
   */
  durable?: boolean;
}

/** A committed file, opened for reading. Reads may overlap. */
export interface NarFileHandle {
  readonly sizeBytes: number;
  /** The file as it was when it was opened, where something else than this store can change it. */
  readonly version?: FileVersion;
  /**
   * Exactly `lengthBytes` bytes from `position`. Throws `store-failed` when that range is not within the file, and
   * `not-held` when the file on disk has become shorter than it was. The bytes are in `memory`, which has room for them, or in memory of
   * their own.
   */
  read(position: number, lengthBytes: number, memory?: Buffer): Promise<Buffer>;
  /** Lets reads under way finish first. May be called twice. */
  close(): Promise<void>;
}

/** A file being written, from its first byte to its last. */
export interface NarFileWriter {
  /** Bytes written so far: those that `read` can give. */
  readonly sizeBytes: number;
  /** Appends. Calls that overlap are carried out in their order. The chunk may not be changed until it resolves. */
  write(chunk: Uint8Array): Promise<void>;
  /** As in `NarFileHandle`, over what is written so far; goes on working after `commit`. */
  read(position: number, lengthBytes: number): Promise<Buffer>;
  /** Makes the file durable and visible under its name. May be called twice; throws after a failed write. */
  commit(options?: CommitOptions): Promise<void>;
  /** Gives up, and leaves what was written to be gone on with, where that is possible. Otherwise as `abort`. */
  suspend?(): Promise<void>;
  /** Gives up and leaves no trace. Nothing happens after `commit`. May be called twice. */
  abort(): Promise<void>;
}

/** A writer that begins with what is there. */
export interface ResumedWriter extends NarFileWriter {
  /** Throws away what comes after so many bytes. Before anything is written. */
  cut(sizeBytes: number): Promise<void>;
}

/** Throws `path-escapes` unless `name` is the canonical name of a NAR file. */
export function checkNarFileName(name: string): void {
  if (parseNarFileName(name) === undefined) {
    throw new NarswarmError(
      'path-escapes',
      `not the name of a NAR file: ${JSON.stringify(name.slice(0, 100))}`,
    );
  }
}

/** Throws `store-failed` unless the range lies within a file of `sizeBytes`. */
export function checkReadRange(position: number, lengthBytes: number, sizeBytes: number): void {
  const valid = Number.isSafeInteger(position) && Number.isSafeInteger(lengthBytes);
  if (!valid || position < 0 || lengthBytes < 0 || position + lengthBytes > sizeBytes) {
    throw new NarswarmError(
      'store-failed',
      `${lengthBytes} bytes from ${position} asked of a file of ${sizeBytes} bytes`,
    );
  }
}

export function storeClosed(): NarswarmError {
  return new NarswarmError('store-failed', 'the store is closed');
}

export function writerClosed(): NarswarmError {
  return new NarswarmError('store-failed', 'the NAR file was given up and cannot be written any more');
}
