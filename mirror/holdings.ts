/**
 * The NAR files that a mirror holds: on disk, in its account and in its state, always the same in all three.
 *
 * A file is on disk under its name before it has a row, and has one only once it was verified. So after a kill a file without a row is one
 * that was not verified to its end: it counts against the quota, and is verified and taken in when its catalog is known.
 */

import { statfs } from 'node:fs/promises';
import { parseNarFileName } from '../nar/compression.ts';
import { NarswarmError } from '../nar/errors.ts';
import type { InfoHash, Sha256 } from '../nar/hash.ts';
import { storedFilePath } from '../store/directory-store.ts';
import { versionOf } from '../store/file-version.ts';
import type { NarFileHandle, NarFileStore } from '../store/nar-file-store.ts';
import type { Logger } from '../web/log.ts';
import type { Ledger } from './ledger.ts';
import type { HeldFile, MirrorState, NarUrls } from './state.ts';

/** Why a NAR file is no longer held. */
export type Loss = 'evicted' | 'revoked' | 'damaged' | 'lost';

export interface HoldingsOptions {
  store: NarFileStore;
  /** Where the store lies. */
  storeDir: string;
  state: MirrorState;
  ledger: Ledger;
  logger: Logger;
}

export class Holdings {
  readonly #options: HoldingsOptions;
  /** On disk without a row, by FileHash; `wasHeld`: it had one. */
  readonly #unclaimed = new Map<Sha256, { name: string; sizeBytes: number; wasHeld: boolean }>();
  /** What is being read. */
  readonly #handles = new Map<Sha256, Set<OpenHeldFile>>();
  readonly #listeners = new Set<(file: HeldFile, held: boolean) => void>();
  readonly #losses: Record<Loss, number> = { evicted: 0, revoked: 0, damaged: 0, lost: 0 };

  constructor(options: HoldingsOptions) {
    this.#options = options;
    options.ledger.addHeld(options.state.totals().bytes);
  }

  /** Calls back when a file begins or ceases to be held. */
  onChange(listener: (file: HeldFile, held: boolean) => void): void {
    this.#listeners.add(listener);
  }

  /** Finds what is on disk without a row, and what has a row but is gone or was changed. Takes its time; calls may come meanwhile. */
  async recover(signal: AbortSignal): Promise<void> {
    const { store, state, ledger } = this.#options;
    for await (const { name, sizeBytes } of store.list()) {
      if (signal.aborted) return;
      const fileHash = parseNarFileName(name)?.fileHash;
      const row = fileHash && state.held(fileHash);
      if (fileHash === undefined || row?.name === name) continue;
      if (row !== undefined || this.#unclaimed.has(fileHash)) {
        await store.remove(name);
        continue;
      }
      this.#unclaimed.set(fileHash, { name, sizeBytes, wasHeld: false });
      ledger.addHeld(sizeBytes);
    }
    for (let after: Sha256 | undefined; ; ) {
      const page = state.page(after);
      for (const file of page) {
        if (signal.aborted) return;
        await this.#isUnchanged(file);
      }
      const last = page.at(-1);
      if (last === undefined) return;
      after = last.fileHash;
    }
  }

  /** What was found on disk and waits to be verified. */
  unclaimed(): Sha256[] {
    return [...this.#unclaimed.keys()];
  }

  isUnclaimed(fileHash: Sha256): boolean {
    return this.#unclaimed.has(fileHash);
  }

  /** The path of a file that was found, for whoever verifies it. */
  unclaimedPath(fileHash: Sha256): string | undefined {
    const found = this.#unclaimed.get(fileHash);
    return found && this.pathOf(found.name);
  }

  pathOf(name: string): string {
    return storedFilePath(this.#options.storeDir, name);
  }

  /** Bytes that the file system has free for us. Throws store-failed. */
  async diskFreeBytes(): Promise<number> {
    try {
      const { bavail, bsize } = await statfs(this.#options.storeDir);
      return bavail * bsize;
    } catch (cause) {
      throw new NarswarmError('store-failed', 'how much of the disk is free cannot be told', { cause });
    }
  }

  /** A verified file of which the account was told by a reservation under its name, or that was found. */
  keep(file: HeldFile, urls: NarUrls): void {
    const { state, ledger } = this.#options;
    state.put(file, urls);
    if (!this.#unclaimed.delete(file.fileHash)) ledger.keep(file.name);
    this.#tell(file, true);
  }

  /** Removes a file that was found and is of no use. */
  async dropUnclaimed(fileHash: Sha256): Promise<void> {
    const found = this.#unclaimed.get(fileHash);
    if (found === undefined) return;
    await this.#options.store.remove(found.name);
    if (!this.#unclaimed.delete(fileHash)) return;
    if (found.wasHeld) this.#losses.damaged++;
    this.#options.ledger.removeHeld(found.sizeBytes);
  }

  mayHold(infoHash: InfoHash): boolean {
    return this.#options.state.hasInfoHash(infoHash);
  }

  /** Opens a held file, if it still is what was verified. One that is not is taken out, or verified anew. */
  async open(file: HeldFile): Promise<NarFileHandle | undefined> {
    if (!(await this.#isUnchanged(file))) return undefined;
    const handle = await this.#options.store.open(file.name);
    if (handle === undefined || !this.#options.state.isHeld(file.fileHash)) {
      await handle?.close();
      return undefined;
    }
    const open = new OpenHeldFile(handle, () => this.#closed(file.fileHash, open));
    const others = this.#handles.get(file.fileHash) ?? new Set();
    this.#handles.set(file.fileHash, others.add(open));
    return open;
  }

  /** From now on it is not held: nobody reads another byte of it, and the disk has its room again. */
  async takeOut(fileHash: Sha256, why: Loss): Promise<void> {
    const { store, state, ledger } = this.#options;
    const file = state.held(fileHash);
    if (file === undefined) return;
    state.drop(fileHash);
    this.#losses[why]++;
    for (const handle of this.#handles.get(fileHash) ?? []) handle.revoke();
    this.#tell(file, false);
    try {
      await store.remove(file.name);
    } finally {
      // Also when it could not be removed: it is found again at the next start.
      ledger.removeHeld(file.sizeBytes);
    }
  }

  status() {
    return { ...this.#options.state.totals(), unverified: this.#unclaimed.size, gone: { ...this.#losses } };
  }

  async #isUnchanged(file: HeldFile): Promise<boolean> {
    const version = await versionOf(this.pathOf(file.name));
    if (version?.isFile === true && version.sizeBytes === file.sizeBytes && version.mtimeNs === file.mtimeNs)
      return true;
    // It may have been taken out, or verified anew, while it was looked at.
    if (this.#options.state.held(file.fileHash)?.mtimeNs !== file.mtimeNs) return false;
    if (version?.isFile === true && version.sizeBytes === file.sizeBytes) {
      this.#setAside(file);
      return false;
    }
    const why = version === undefined ? 'lost' : 'damaged';
    this.#options.logger.warn(`held-file-${why}`, { fileHash: file.fileHash });
    await this.takeOut(file.fileHash, why);
    return false;
  }

  /** Not held until it was verified again: whoever brings back a backup brings back all of it with other times. */
  #setAside(file: HeldFile): void {
    const { fileHash, name, sizeBytes } = file;
    this.#options.logger.warn('held-file-changed', { fileHash });
    this.#options.state.drop(fileHash);
    this.#unclaimed.set(fileHash, { name, sizeBytes, wasHeld: true });
    for (const handle of this.#handles.get(fileHash) ?? []) handle.revoke();
    this.#tell(file, false);
  }

  #closed(fileHash: Sha256, handle: OpenHeldFile): void {
    const handles = this.#handles.get(fileHash);
    handles?.delete(handle);
    if (handles?.size === 0) this.#handles.delete(fileHash);
  }

  #tell(file: HeldFile, held: boolean): void {
    for (const listener of this.#listeners) listener(file, held);
  }
}

class OpenHeldFile implements NarFileHandle {
  readonly sizeBytes: number;
  readonly #handle: NarFileHandle;
  readonly #onClose: () => void;
  #revoked = false;

  constructor(handle: NarFileHandle, onClose: () => void) {
    this.sizeBytes = handle.sizeBytes;
    this.#handle = handle;
    this.#onClose = onClose;
  }

  revoke(): void {
    this.#revoked = true;
  }

  async read(position: number, lengthBytes: number): Promise<Buffer> {
    if (this.#revoked) throw new NarswarmError('not-held', 'the NAR file is no longer held');
    const bytes = await this.#handle.read(position, lengthBytes);
    if (this.#revoked) throw new NarswarmError('not-held', 'the NAR file is no longer held');
    return bytes;
  }

  async close(): Promise<void> {
    this.#onClose();
    await this.#handle.close();
  }
}
