/**
 * The NAR files that are kept: verified ones only, within a size, the least recently used going first.
 *
 * A row is written before its file appears under its name. So after a kill a file without a row is an unfinished one,
 * and a row without a file is forgotten when it is asked for.
 *
 * Small files are not forced to the disk, which would take longer than all else about them. Those that were written before the machine was
 * started last are compared with their FileHash when they are first opened. docs/decisions/0013-packs-in-the-client.md.
 *
 * Large ones are compared when their size, time or inode is not that of the file that was compared last, before anything of them is given.
 */

import { createHash, hash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isNarswarmError } from '../../nar/errors.ts';
import { type Sha256, sha256FromDigest } from '../../nar/hash.ts';
import { printVersion } from '../../store/file-version.ts';
import { LateWriter } from '../../store/late-writer.ts';
import type { NarFileHandle, NarFileStore, NarFileWriter } from '../../store/nar-file-store.ts';
import type { Logger } from '../../web/log.ts';
import type { ClientState, HeldFile } from './state.ts';

/** Rows looked at in one step of an eviction. */
const evictionBatch = 64;

/** Freed at least when the disk is full, so that not every file that follows finds it full again. */
const roomMinBytes = 64 * 1024 * 1024;

/** Files up to this size are small: to read and hash one again takes 1 ms. An assembly keeps as much and more in memory. */
const smallBytes = 1024 * 1024;

/** Names of facts: the start of the machine that this client runs in, and the last row of those before it. */
const startFact = 'held-start';
const unsureFact = 'held-unsure-row';

export interface HeldFilesOptions {
  store: NarFileStore;
  state: ClientState;
  cacheSizeBytes: number;
  logger: Logger;
}

export class HeldFiles {
  readonly #store: NarFileStore;
  readonly #state: ClientState;
  readonly #cacheSizeBytes: number;
  readonly #logger: Logger;
  /** Open handles by FileHash: a file in use is not evicted. */
  readonly #inUse = new Map<Sha256, number>();
  /** Files whose row is there before they are. */
  readonly #appearing = new Set<Sha256>();
  #bytes: number;
  #files: number;
  #evicted = 0;
  /** Rows up to this one are of files that may not be what they were. */
  readonly #unsureRow: number;
  /** One eviction at a time. */
  #evicting: Promise<void> | undefined;

  constructor({ store, state, cacheSizeBytes, logger }: HeldFilesOptions) {
    this.#store = store;
    this.#state = state;
    this.#cacheSizeBytes = cacheSizeBytes;
    this.#logger = logger;
    ({ files: this.#files, bytes: this.#bytes } = state.heldTotals());
    this.#unsureRow = unsureRow(state);
  }

  /** Removes files without a row: what was unfinished when the client was killed. Shrinks to a smaller cache size. */
  async recover(): Promise<void> {
    const names = new Set<string>();
    for await (const { name } of this.#store.list()) names.add(name);
    for (const row of this.#state.heldFiles('oldest', this.#files)) {
      if (!names.delete(row.name)) this.#forget(row);
    }
    for (const name of names) await this.#store.remove(name);
    await this.#evict();
  }

  /** True for a file that will not be kept however much is evicted. */
  tooLarge(sizeBytes: number): boolean {
    return sizeBytes > this.#cacheSizeBytes;
  }

  /** Starts a file; it is held once `keep` has resolved. One that is known to be small gets to the disk by then, and not before. */
  async create(name: string, sizeBytes = Number.POSITIVE_INFINITY): Promise<NarFileWriter> {
    const create = (): Promise<NarFileWriter> => this.#store.create(name);
    return sizeBytes <= smallBytes ? new LateWriter(create) : create();
  }

  /**
   * Takes a verified file in, and opens it unless it is so small that whoever wrote it has all of it in memory. When this throws, or gives
   * `undefined`, it is not held.
   */
  async keep(file: HeldFile, writer: NarFileWriter): Promise<NarFileHandle | 'unopened' | undefined> {
    const small = file.sizeBytes <= smallBytes;
    const before = this.#state.held(file.fileHash);
    this.#appearing.add(file.fileHash);
    try {
      await this.#state.addHeld(file);
      await writer.commit({ durable: !small });
    } catch (error) {
      this.#state.dropHeld(file.fileHash);
      if (before !== undefined) this.#uncount(before);
      throw error;
    } finally {
      this.#appearing.delete(file.fileHash);
    }
    if (before !== undefined) {
      this.#uncount(before);
      if (before.name !== file.name) await this.#store.remove(before.name);
    }
    this.#files++;
    this.#bytes += file.sizeBytes;
    // Opened before room is made, so that it is not itself what goes.
    const handle = small ? 'unopened' : await this.#open(file.fileHash, { verified: true });
    if (this.#bytes > this.#cacheSizeBytes) await this.#evict();
    return handle;
  }

  /** Whether there should be one to open. */
  has(fileHash: Sha256): boolean {
    return this.#state.held(fileHash) !== undefined;
  }

  /** Opens a held file. One that is missing or of another size is dropped, and `undefined` given: it is fetched again. */
  open(fileHash: Sha256): Promise<NarFileHandle | undefined> {
    return this.#open(fileHash, { verified: false });
  }

  async #open(fileHash: Sha256, { verified }: { verified: boolean }): Promise<NarFileHandle | undefined> {
    const row = this.#appearing.has(fileHash) ? undefined : this.#state.held(fileHash);
    if (row === undefined) return undefined;
    this.#use(fileHash, 1);
    let handle: NarFileHandle | undefined;
    try {
      handle = await this.#store.open(row.name);
    } finally {
      if (handle === undefined) this.#use(fileHash, -1);
    }
    if (handle?.sizeBytes !== row.sizeBytes || !(await this.#isWhatItWas(row, handle, verified))) {
      this.#logger.warn('held-file-lost', { fileHash, sizeBytes: handle?.sizeBytes });
      await handle?.close();
      if (handle !== undefined) this.#use(fileHash, -1);
      if (this.#state.held(fileHash)?.sizeBytes === row.sizeBytes) {
        this.#forget(row);
        if (handle !== undefined) await this.#store.remove(row.name);
      }
      return undefined;
    }
    this.#state.touchHeld(fileHash);
    return new UsedFile(handle, () => {
      this.#use(fileHash, -1);
      if (this.#bytes > this.#cacheSizeBytes) void this.#evict();
    });
  }

  /** Lets a file go at once; who reads it reads on. Never rejects. */
  async drop(fileHash: Sha256): Promise<void> {
    const row = this.#state.held(fileHash);
    if (row === undefined) return;
    try {
      this.#forget(row);
      await this.#store.remove(row.name);
    } catch (error) {
      this.#logger.error('eviction-failed', { fileHash, error });
    }
  }

  status() {
    return {
      files: this.#files,
      bytes: this.#bytes,
      limitBytes: this.#cacheSizeBytes,
      evicted: this.#evicted,
    };
  }

  /**
   * The disk is full, whoever filled it: what is kept yields, the least recently used first, until there is room for
   * `sizeBytes` and some more. Never rejects.
   */
  async makeRoom(sizeBytes: number): Promise<void> {
    await this.#evicting;
    this.#evicting ??= this.#freeNow(Math.max(sizeBytes, roomMinBytes)).finally(() => {
      this.#evicting = undefined;
    });
    await this.#evicting;
  }

  /** Waits for a running eviction. */
  async close(): Promise<void> {
    await this.#evicting;
  }

  #evict(): Promise<void> {
    this.#evicting ??= this.#evictNow().finally(() => {
      this.#evicting = undefined;
    });
    return this.#evicting;
  }

  /** Never rejects: a file that cannot be let go of stays, and is tried again with the next. */
  async #evictNow(): Promise<void> {
    try {
      await this.#evictOldest();
    } catch (error) {
      this.#logger.error('eviction-failed', { error });
    }
  }

  async #evictOldest(): Promise<void> {
    let looked = 0;
    while (this.#bytes > this.#cacheSizeBytes && looked < this.#files) {
      const rows = this.#state.heldFiles('oldest', looked + evictionBatch).slice(looked);
      if (rows.length === 0) return;
      for (const row of rows) {
        if (this.#bytes <= this.#cacheSizeBytes) return;
        if (this.#inUse.has(row.fileHash)) {
          looked++;
          continue;
        }
        this.#forget(row);
        this.#evicted++;
        try {
          await this.#store.remove(row.name);
        } catch (error) {
          this.#logger.error('eviction-failed', { fileHash: row.fileHash, error });
        }
      }
    }
  }

  async #freeNow(wantedBytes: number): Promise<void> {
    let freed = 0;
    let files = 0;
    try {
      for (const row of this.#state.heldFiles('oldest', this.#files)) {
        if (freed >= wantedBytes) break;
        if (this.#inUse.has(row.fileHash)) continue;
        // The file first: the database needs room as well, to forget it.
        await this.#store.remove(row.name);
        this.#forget(row);
        freed += row.sizeBytes;
        files++;
      }
    } catch (error) {
      this.#logger.error('eviction-failed', { error });
    }
    this.#evicted += files;
    this.#logger.warn('disk-full', { freedBytes: freed, files });
  }

  /** Looks only when the machine may have lost what was written, or something else has written there. */
  async #isWhatItWas(row: HeldFile, handle: NarFileHandle, verified: boolean): Promise<boolean> {
    const { sizeBytes, fileHash, row: number = 0 } = row;
    if (sizeBytes > smallBytes) return this.#isUnchanged(row, handle, verified);
    if (number > this.#unsureRow) return true;
    try {
      const bytes = await handle.read(0, sizeBytes);
      if (sha256FromDigest(hash('sha256', bytes, 'buffer')) !== fileHash) return false;
      // In a new row, so that it is not looked at again. If it cannot be written, it is.
      await this.#state.addHeld(row).catch(() => undefined);
      return true;
    } catch {
      return false;
    }
  }

  /** `verified`: it was compared just now. */
  async #isUnchanged({ fileHash }: HeldFile, handle: NarFileHandle, verified: boolean): Promise<boolean> {
    const version = printVersion(handle.version);
    try {
      if (version === this.#state.heldVersion(fileHash)) return true;
      if (!verified && (await hashOf(handle)) !== fileHash) return false;
      this.#state.setHeldVersion(fileHash, version);
    } catch (error) {
      if (isNarswarmError(error)) return false;
      // It is right, and looked at again the next time.
      this.#logger.warn('state-failed', { error });
    }
    return true;
  }

  #forget(row: HeldFile): void {
    this.#state.dropHeld(row.fileHash);
    this.#uncount(row);
  }

  #uncount(row: HeldFile): void {
    this.#files--;
    this.#bytes -= row.sizeBytes;
  }

  #use(fileHash: Sha256, change: 1 | -1): void {
    const uses = (this.#inUse.get(fileHash) ?? 0) + change;
    if (uses === 0) this.#inUse.delete(fileHash);
    else this.#inUse.set(fileHash, uses);
  }
}

/** The last row of before the machine was started, or was first seen by this client. */
function unsureRow(state: ClientState): number {
  let start: string;
  try {
    start = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    // Where the system does not tell, each start of the client may be one of the machine.
    start = randomUUID();
  }
  if (state.fact(startFact) !== start) {
    state.setFact(unsureFact, `${state.lastHeldRow()}`);
    state.setFact(startFact, start);
  }
  return Number(state.fact(unsureFact) ?? 0);
}

async function hashOf(handle: NarFileHandle): Promise<Sha256> {
  const hash = createHash('sha256');
  const memory = Buffer.allocUnsafe(Math.min(handle.sizeBytes, smallBytes));
  for (let at = 0; at < handle.sizeBytes; at += memory.length)
    hash.update(await handle.read(at, Math.min(memory.length, handle.sizeBytes - at), memory));
  return sha256FromDigest(hash.digest());
}

class UsedFile implements NarFileHandle {
  readonly sizeBytes: number;
  readonly #handle: NarFileHandle;
  #onClose: (() => void) | undefined;

  constructor(handle: NarFileHandle, onClose: () => void) {
    this.sizeBytes = handle.sizeBytes;
    this.#handle = handle;
    this.#onClose = onClose;
  }

  read(...range: Parameters<NarFileHandle['read']>): Promise<Buffer> {
    return this.#handle.read(...range);
  }

  async close(): Promise<void> {
    const onClose = this.#onClose;
    this.#onClose = undefined;
    if (onClose === undefined) return;
    await this.#handle.close();
    onClose();
  }
}
