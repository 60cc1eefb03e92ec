/**
 * In memory: the narinfos that were given out lately, of more of them that they need not be written down again, and the store paths that nobody had
 * a moment ago.
 */

import type { StoreHash } from '../../nar/store-path.ts';
import type { ClientLimits } from '../config.ts';
import type { GivenNarInfo } from '../state/state.ts';
import { isWithin } from '../waiting.ts';

/** Where an answer came from that is given again. */
export type ReadyKind = 'viewed' | 'cached';

/** What is known without asking anybody. */
export interface Ready {
  readonly kind: ReadyKind;
  readonly given: GivenNarInfo;
}

interface Kept extends Ready {
  /** Of the views: see there. */
  readonly version: number;
  /** When a source gave it, by the clock. */
  readonly atMs: number;
  /** `ClientState.inserts` when it was written. */
  readonly inserts: number;
}

/** One of a view that is not in memory any more: as long as the view is the same, it says the same again. */
type Written = Pick<Kept, 'version' | 'inserts'>;

/** Of the views, and when all sources said that they do not have it; `undefined` when it must be asked for. */
type Absent = { readonly version: number; readonly atMs: number } | undefined;

export interface NarInfoCacheOptions {
  limits: Pick<
    ClientLimits,
    | 'narInfoFreshMs'
    | 'narInfoAbsentMs'
    | 'narInfosInMemory'
    | 'narInfosInMemoryCharacters'
    | 'narInfosWritten'
    | 'absentPaths'
    | 'narInfos'
  >;
  clock: () => number;
  /** Of the views. */
  version(): number;
  /** Of the state. */
  inserts(): number;
}

export class NarInfoCache {
  readonly #options: NarInfoCacheOptions;
  /** The least recently used first. */
  readonly #kept = new Map<StoreHash, Kept>();
  #characters = 0;
  /** The oldest first. */
  readonly #written = new Map<StoreHash, Written>();
  readonly #absent = new Map<StoreHash, Absent>();

  constructor(options: NarInfoCacheOptions) {
    this.#options = options;
  }

  /** `absent` when all sources have just said so; `undefined` when it is not known here. */
  ready(storeHash: StoreHash): Ready | 'absent' | undefined {
    const kept = this.#kept.get(storeHash);
    if (kept === undefined) return this.#isAbsent(storeHash) ? 'absent' : undefined;
    const { version } = this.#options;
    const holds =
      kept.version === version() &&
      (kept.kind === 'viewed' || this.isFresh(kept.atMs)) &&
      this.#isRemembered(kept);
    this.#kept.delete(storeHash);
    if (!holds) {
      this.#characters -= kept.given.narInfo.text.length;
      return undefined;
    }
    this.#kept.set(storeHash, kept);
    return kept;
  }

  /** Given out and written down. `version`: of the views before they were looked at. */
  keep({ kind, given }: Ready, version: number, atMs: number): void {
    const { inserts, limits } = this.#options;
    this.forget(given.storeHash);
    this.#absent.delete(given.storeHash);
    const written = this.#written.get(given.storeHash);
    // Not when it was kept again, as it need not have been written again.
    const since =
      written !== undefined && this.isWritten(given.storeHash, version) ? written.inserts : inserts();
    this.#kept.set(given.storeHash, { kind, given, version, atMs, inserts: since });
    this.#characters += given.narInfo.text.length;
    while (
      this.#kept.size > limits.narInfosInMemory ||
      this.#characters > limits.narInfosInMemoryCharacters
    ) {
      const [oldest] = this.#kept.values();
      if (oldest === undefined) break;
      this.forget(oldest.given.storeHash);
      if (oldest.kind === 'viewed') this.#putWritten(oldest);
    }
  }

  /** Whether what a view says of a path was written down when this version of the views said it. */
  isWritten(storeHash: StoreHash, version: number): boolean {
    const written = this.#written.get(storeHash);
    return written?.version === version && this.#isRemembered(written);
  }

  /** All sources said that they do not have it. `version`: of the views before they were looked at. */
  keepAbsent(storeHash: StoreHash, version: number): void {
    this.#putAbsent(storeHash, { version, atMs: this.#options.clock() });
  }

  /** It turned out to be out of date: `mustAsk` until it is kept again. */
  distrust(storeHash: StoreHash): void {
    this.forget(storeHash);
    this.#written.delete(storeHash);
    this.#putAbsent(storeHash, undefined);
  }

  /** Whether what is on the disk is not to be believed either. */
  mustAsk(storeHash: StoreHash): boolean {
    return this.#absent.has(storeHash) && this.#absent.get(storeHash) === undefined;
  }

  /** False for a time that is yet to come as well: the clock was set back. */
  isFresh(atMs: number): boolean {
    return isWithin(this.#options.clock() - atMs, this.#options.limits.narInfoFreshMs);
  }

  forget(storeHash: StoreHash): void {
    const kept = this.#kept.get(storeHash);
    if (kept === undefined) return;
    this.#kept.delete(storeHash);
    this.#characters -= kept.given.narInfo.text.length;
  }

  /** What is used again and again is written again before the state forgets it. */
  #isRemembered({ inserts }: Written): boolean {
    return this.#options.inserts() - inserts <= this.#options.limits.narInfos / 4;
  }

  #putWritten({ given, version, inserts }: Kept): void {
    this.#written.delete(given.storeHash);
    this.#written.set(given.storeHash, { version, inserts });
    const oldest = this.#written.keys().next();
    if (this.#written.size > this.#options.limits.narInfosWritten && !oldest.done)
      this.#written.delete(oldest.value);
  }

  #isAbsent(storeHash: StoreHash): boolean {
    const absent = this.#absent.get(storeHash);
    if (absent === undefined) return false;
    const { clock, limits, version } = this.#options;
    return absent.version === version() && isWithin(clock() - absent.atMs, limits.narInfoAbsentMs);
  }

  #putAbsent(storeHash: StoreHash, absent: Absent): void {
    this.#absent.delete(storeHash);
    this.#absent.set(storeHash, absent);
    const oldest = this.#absent.keys().next();
    if (this.#absent.size > this.#options.limits.absentPaths && !oldest.done)
      this.#absent.delete(oldest.value);
  }
}
