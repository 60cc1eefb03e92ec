/**
 * Gathers changes of the catalog into few transactions: a commit costs more than the rows of one NAR file. What comes in
 * one turn of the event loop, or a few, is written together, and each caller hears of its own change.
 *
 * The event loop stands still neither for many changes, which are written in turns, nor for the threads that publish the log and move it into the
 * database: while one of those is writing, the changes wait.
 */

import type { Catalog } from '../catalog/catalog.ts';
import { catalogBusyMs } from '../catalog/database.ts';
import { NarswarmError } from '../nar/errors.ts';

/** Changes of one transaction at most: more of them save nothing. */
export const batchMaxChanges = 64;
/** How long a change waits for others: less than what a reader notices, and enough for several small NAR files. */
export const batchWaitMs = 4;
/** Nothing more enters a transaction that has taken so long; in a catalog of a million, that is some thirty NAR files. */
const turnMs = 10;
/** How often it is looked whether whoever else writes is done: they leave the catalog free for as long at least. */
const busyRetryMs = 4;

interface Change {
  /** Inside the transaction; says what to do once that is on disk. */
  apply(): () => void;
  reject(error: unknown): void;
}

export class CatalogBatch {
  readonly #catalog: Catalog;
  #changes: Change[] = [];
  #timer: NodeJS.Timeout | undefined;
  #busySinceMs: number | undefined;

  constructor(catalog: Catalog) {
    this.#catalog = catalog;
  }

  /**
   * Resolves with what `change` returns, after the commit. Rejects with what it throws, in which case nothing of it
   * stays, and with the error of the commit. `change` must not wait for anything.
   */
  run<T>(change: () => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const apply = (): (() => void) => {
        try {
          const result = this.#catalog.transaction(change);
          return () => resolve(result);
        } catch (error) {
          return () => reject(error);
        }
      };
      this.#changes.push({ apply, reject });
      if (this.#changes.length === batchMaxChanges && this.#busySinceMs === undefined) this.#write();
      else this.#writeIn(batchWaitMs);
    });
  }

  #writeIn(ms: number): void {
    this.#timer ??= setTimeout(() => this.#write(), ms);
  }

  #write(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const changes = this.#changes.slice(0, batchMaxChanges);
    const ends: (() => void)[] = [];
    try {
      if (!this.#transaction(() => applyInTime(changes, ends))) {
        this.#writeIn(busyRetryMs);
        return;
      }
      this.#changes = this.#changes.slice(ends.length);
      for (const end of ends) end();
    } catch (error) {
      this.#changes = this.#changes.slice(changes.length);
      for (const { reject } of changes) reject(error);
    }
    if (this.#changes.length > 0) this.#writeIn(0);
  }

  /** Whether it was run. Throws store-failed when others are writing for longer than any thread of ours does. */
  #transaction(action: () => void): boolean {
    const nowMs = performance.now();
    const sinceMs = this.#busySinceMs ?? nowMs;
    this.#busySinceMs = undefined;
    if (this.#catalog.transactionIfFree(action) !== undefined) return true;
    if (nowMs - sinceMs >= catalogBusyMs) {
      throw new NarswarmError('store-failed', `changing the catalog: it was locked for ${catalogBusyMs} ms`);
    }
    this.#busySinceMs = sinceMs;
    return false;
  }
}

function applyInTime(changes: readonly Change[], ends: (() => void)[]): void {
  const beganMs = performance.now();
  for (const { apply } of changes) {
    ends.push(apply());
    if (performance.now() - beganMs >= turnMs) return;
  }
}
