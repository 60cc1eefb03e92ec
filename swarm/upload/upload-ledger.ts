/**
 * What is remembered of the torrents that are being uploaded: in memory while they are used and a while longer, in a database always.
 *
 * A torrent that nobody asks for is not here, and one that was never uploaded has no row either. Changes are written together, now and
 * then, so that counting costs nothing; a kill loses what came after the last write.
 */
import type { InfoHash } from '../../nar/hash.ts';
import type { UploadLimits } from './upload-limits.ts';
import { neverUploaded, type UploadRecord } from './upload-policy.ts';

/** Where records outlive the process. Synchronous: microseconds for one, milliseconds for many. */
export interface UploadRecords {
  load(infoHash: InfoHash): UploadRecord | undefined;
  /**
   * All of them or none. Gives false, and wrote none, when somebody else is writing and it is not told to `wait` for them.
   */
  save(records: readonly (readonly [InfoHash, UploadRecord])[], how: { wait: boolean }): boolean;
}

export class UploadLedger {
  readonly #records: UploadRecords | undefined;
  readonly #limits: UploadLimits;
  /** The least recently used first. */
  readonly #known = new Map<InfoHash, UploadRecord>();
  readonly #unsaved = new Set<InfoHash>();

  constructor(records: UploadRecords | undefined, limits: UploadLimits) {
    this.#records = records;
    this.#limits = limits;
  }

  /** Torrents in memory. */
  get size(): number {
    return this.#known.size;
  }

  get(infoHash: InfoHash): UploadRecord {
    const known = this.#known.get(infoHash) ?? this.#records?.load(infoHash) ?? neverUploaded;
    this.#known.delete(infoHash);
    this.#known.set(infoHash, known);
    this.#forget();
    return known;
  }

  set(infoHash: InfoHash, record: UploadRecord): void {
    if (this.#known.get(infoHash) === record) return;
    this.#known.delete(infoHash);
    this.#known.set(infoHash, record);
    if (this.#records !== undefined) this.#unsaved.add(infoHash);
    this.#forget();
  }

  /**
   * Writes what changed, so many records at most, or all of them at the end, which is worth waiting for; otherwise they wait while somebody else is
   * writing. Throws what the database throws, and then nothing is lost.
   */
  flush(last = false): void {
    const most = last ? Number.POSITIVE_INFINITY : this.#limits.flushRecords;
    const changed: (readonly [InfoHash, UploadRecord])[] = [];
    for (const infoHash of this.#unsaved) {
      if (changed.length >= most) break;
      const record = this.#known.get(infoHash);
      if (record !== undefined) changed.push([infoHash, record]);
    }
    if (changed.length === 0) return;
    if (this.#records?.save(changed, { wait: last }) !== true) return;
    for (const [infoHash] of changed) this.#unsaved.delete(infoHash);
  }

  #forget(): void {
    for (const infoHash of this.#known.keys()) {
      const over = this.#known.size - this.#limits.rememberedTorrents;
      if (over <= 0) return;
      // It is written first, and the next flush makes room; but a disk that takes nothing does not fill the memory.
      if (this.#unsaved.has(infoHash) && over <= this.#limits.rememberedTorrents) return;
      this.#unsaved.delete(infoHash);
      this.#known.delete(infoHash);
    }
  }
}
