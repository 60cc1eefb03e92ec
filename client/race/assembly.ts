/**
 * One NAR file as it is put together from its first byte to its last, and how far of it may be read by others.
 *
 * SHA-256 over the whole is compared with FileHash before the last piece is released. With a torrent every piece was
 * checked before, and only the last is held back; without one the last 64 KiB are, and so small files as a whole. While a torrent is being
 * looked up, all of it may be held for a moment.
 */

import { createHash } from 'node:crypto';
import { isNarswarmError, NarswarmError } from '../../nar/errors.ts';
import { type Sha256, sha256FromDigest } from '../../nar/hash.ts';
import type { NarFileWriter } from '../../store/nar-file-store.ts';
import { type HashThread, hashInPlace, type RunningSha256 } from '../../swarm/fetch/hash-thread.ts';
import { ReaderPace } from './reader-pace.ts';

/** Held back until FileHash is known to match when no torrent says what the bytes should be. */
export const heldBackBytes = 64 * 1024;

/** What came last stays in memory, so that readers who keep up cost no disk access. 25 fetches take 50 MiB at most. */
const recentBytes = 2 * 1024 * 1024;

/** Writes that may be under way, so that the source does not wait for the disk, nor memory grow when the disk is slow. */
const unwrittenMaxBytes = 8 * 1024 * 1024;

/** What a file may still need when the disk takes no more of it: then it goes on in memory, and is not kept. */
export const withoutDiskMaxBytes = 16 * 1024 * 1024;

export interface AssemblyOptions {
  writer: NarFileWriter;
  fileHash: Sha256;
  /** FileSize, when it is known. */
  sizeBytes: number | undefined;
  /** What it has at most, whoever says what of its size. */
  mostBytes: number;
  /** True if only bytes of checked pieces will be appended. */
  checked: boolean;
  /** Hashes large files, and has memory that is used again. */
  hashes?: HashThread | undefined;
}

/** From this size on a file is hashed beside the thread that serves: below, to hand it over takes longer. */
export const hashAsideBytes = 8 * 1024 * 1024;

/** What came in one go. */
interface Chunk {
  readonly start: number;
  readonly bytes: Buffer;
  /** Reads that were lent a part of it and have not given it back. */
  lent: number;
  /** It was given to somebody who may keep it. */
  given: boolean;
}

export class Assembly {
  readonly writer: NarFileWriter;
  readonly #options: AssemblyOptions;
  /** From the first bytes on. */
  #hash: RunningSha256 | undefined;
  #hashed = 0;
  #finishing: Promise<void> | undefined;
  #checked: boolean;
  #appended = 0;
  #released = 0;
  #complete = false;
  /** Nothing more is released by mere progress. */
  #held = false;
  /** Ascending without gaps up to `#appended`. What is not written yet is always among them. */
  readonly #recent: Chunk[] = [];
  #recentStart = 0;
  /** Of which chunk each part is that is lent. */
  readonly #lent = new WeakMap<Uint8Array, Chunk>();
  /** Of whom `lend` gives to. */
  readonly #readers = new ReaderPace();
  #keptMs = 0;
  #written = 0;
  #hasRoom: (() => void) | undefined;
  #writeError: unknown;

  constructor(options: AssemblyOptions) {
    this.writer = options.writer;
    this.#options = options;
    this.#checked = options.checked;
  }

  /** Where the next source goes on. */
  get appended(): number {
    return this.#appended;
  }

  /** Bytes from the start that may be read by others. */
  get released(): number {
    return this.#released;
  }

  /** Bytes from the start that may be read by others and are known to be those of the torrent. */
  get checkedBytes(): number {
    return this.#checked || this.#complete ? this.#released : 0;
  }

  /** Milliseconds that sources were kept waiting for a reader. */
  get keptMs(): number {
    return this.#keptMs;
  }

  /** True once FileHash was found to match: every byte is released. */
  get complete(): boolean {
    return this.#complete;
  }

  /**
   * Throws file-size-mismatch when it would become too long, file-hash-mismatch when it is whole and wrong. `right`: these are all bytes of
   * it, and were compared with FileHash.
   */
  async append(bytes: Buffer, right = false): Promise<void> {
    const { sizeBytes, mostBytes } = this.#options;
    const most = Math.min(sizeBytes ?? mostBytes, mostBytes);
    if (this.#appended + bytes.length > most)
      throw new NarswarmError('file-size-mismatch', `more than ${most} bytes`);
    this.#keptMs += await this.#readers.follow(this.#released, bytes.length);
    this.#throwIfDiskIsNeeded();
    if (!right) void this.#update(bytes);
    void this.#write(bytes);
    this.#recent.push({ start: this.#appended, bytes, lent: 0, given: false });
    this.#appended += bytes.length;
    this.#forgetOld();
    while (!right && this.#isFull) await this.#room();
    this.#throwIfDiskIsNeeded();
    if (right) this.#finished();
    else if (this.#appended === sizeBytes) await this.finish();
    else this.#release();
  }

  /** Nothing more is released before `letGo`, `rightTo`, `trust` or FileHash. */
  hold(): void {
    if (!this.#checked) this.#held = true;
  }

  letGo(): void {
    this.#held = false;
    this.#release();
  }

  /** Up to that byte, which is not the last, it has turned out to be right. What follows is held. */
  rightTo(byte: number): void {
    this.hold();
    this.#released = Math.max(this.#released, byte);
  }

  #release(): void {
    // The last bytes are released by nothing but FileHash.
    if (this.#held || this.#appended === this.#options.sizeBytes) return;
    const heldBack = this.#checked ? 0 : heldBackBytes;
    this.#released = Math.max(this.#released, this.#appended - heldBack);
  }

  /** The source says that this is all. Throws file-size-mismatch or file-hash-mismatch. */
  finish(): Promise<void> {
    this.#finishing ??= this.#finish();
    return this.#finishing;
  }

  async #finish(): Promise<void> {
    const { sizeBytes, fileHash } = this.#options;
    if (sizeBytes !== undefined && this.#appended !== sizeBytes) {
      throw new NarswarmError('file-size-mismatch', `${this.#appended} bytes, not ${sizeBytes}`);
    }
    const found = sha256FromDigest(await this.#digest());
    if (found !== fileHash)
      throw new NarswarmError('file-hash-mismatch', `FileHash is ${found}, not ${fileHash}`);
    this.#finished();
  }

  /** A thread that has died knows nothing any more: all of it is hashed again, here. */
  async #digest(): Promise<Buffer> {
    try {
      return await this.#sha256().digest();
    } catch (error) {
      if (!isNarswarmError(error, 'verify-crashed')) throw error;
    }
    const running = createHash('sha256');
    for (let at = 0; at < this.#appended; ) {
      const part = await this.#read(at, Math.min(recentBytes, this.#appended - at), false);
      running.update(part);
      at += part.length;
    }
    return running.digest();
  }

  #finished(): void {
    this.#released = this.#appended;
    this.#complete = true;
  }

  #sha256(): RunningSha256 {
    const { hashes, sizeBytes = 0 } = this.#options;
    const aside = sizeBytes >= hashAsideBytes && hashes?.usable ? hashes : undefined;
    this.#hash ??= aside?.sha256() ?? hashInPlace(createHash('sha256'));
    return this.#hash;
  }

  /** All that was appended has turned out to be right, piece by piece, and so will be what follows. */
  trust(): void {
    this.#checked = true;
    this.letGo();
  }

  /** Released bytes; at least one and at most `lengthBytes`. `position` must have been released. */
  read(position: number, lengthBytes: number): Promise<Buffer> {
    return this.#read(position, Math.min(lengthBytes, this.#released - position), false);
  }

  /** The same for who gives the bytes back by `release` once nobody reads them any more, so that their memory is used again. */
  lend(position: number, lengthBytes: number): Promise<Buffer> {
    const length = Math.min(lengthBytes, this.#released - position);
    this.#readers.took(position + length, this.#released);
    return this.#read(position, length, true);
  }

  /** Whether the byte at `position` is in memory. */
  remembers(position: number): boolean {
    return position >= this.#recentStart && position < this.#appended;
  }

  /** Bytes that were not lent are ignored. */
  release(bytes: Uint8Array): void {
    const chunk = this.#lent.get(bytes);
    if (chunk === undefined) return;
    this.#lent.delete(bytes);
    chunk.lent--;
    if (chunk.start < this.#recentStart) this.#reuse(chunk);
  }

  /** A copy of all of these bytes, released or not: their own memory is used again from here. They must have been appended. */
  async readAppended(position: number, lengthBytes: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let at = position; at < position + lengthBytes; at += parts.at(-1)?.length ?? 0) {
      parts.push(await this.#read(at, position + lengthBytes - at, false));
    }
    return Buffer.concat(parts);
  }

  async #read(position: number, length: number, lend: boolean): Promise<Buffer> {
    if (position < this.#recentStart) {
      return this.writer.read(position, Math.min(length, this.#recentStart - position));
    }
    let [low, high] = [0, this.#recent.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#recent[middle]?.start ?? 0) <= position) low = middle;
      else high = middle - 1;
    }
    const chunk = this.#recent[low];
    if (chunk === undefined) return Buffer.alloc(0);
    const part = chunk.bytes.subarray(position - chunk.start, position - chunk.start + length);
    if (!lend) chunk.given = true;
    else {
      chunk.lent++;
      this.#lent.set(part, chunk);
    }
    return part;
  }

  /** Throws store-failed when a write failed and the rest is too much for memory: what is not written is never forgotten. */
  #throwIfDiskIsNeeded(): void {
    const { sizeBytes = Number.POSITIVE_INFINITY } = this.#options;
    if (this.#writeError !== undefined && sizeBytes - this.#written > withoutDiskMaxBytes)
      throw this.#writeError;
  }

  /** So much waits for the disk or the hash that no more is taken; for less than all of it, or the one would stand still while the other works. */
  get #isFull(): boolean {
    if (this.#writeError !== undefined) return false;
    // A disk that takes nothing is noticed before much was given out.
    const mostBytes = this.#written === 0 ? unwrittenMaxBytes / 2 : unwrittenMaxBytes;
    return this.#appended - Math.min(this.#written, this.#hashed) > mostBytes;
  }

  #room(): Promise<void> {
    return new Promise((resolve) => {
      this.#hasRoom = resolve;
    });
  }

  /** Never rejects: a failure is thrown by the next `append` that needs the disk, and by the writer's `commit`. */
  async #write(bytes: Buffer): Promise<void> {
    try {
      await this.writer.write(bytes);
      this.#written += bytes.length;
    } catch (error) {
      this.#writeError ??= error;
    }
    this.#hasRoom?.();
  }

  /** Never rejects: a failure is that of the digest. */
  async #update(bytes: Buffer): Promise<void> {
    await this.#sha256()
      .update(bytes)
      .catch(() => undefined);
    this.#hashed += bytes.length;
    this.#hasRoom?.();
  }

  #reuse({ bytes, lent, given }: Chunk): void {
    if (lent === 0 && !given) this.#options.hashes?.memory.giveBack(bytes);
  }

  #forgetOld(): void {
    for (let first = this.#recent[0]; first !== undefined; first = this.#recent[0]) {
      const end = first.start + first.bytes.length;
      if (this.#appended - end < recentBytes || end > this.#written || end > this.#hashed) return;
      if (this.#readers.needs(end)) return;
      this.#recent.shift();
      this.#recentStart = end;
      this.#reuse(first);
    }
  }
}
