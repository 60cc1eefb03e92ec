/**
 * Gathers changes of the catalog into few transactions: a commit costs more than the rows of one NAR file. What comes in
 * one turn of the event loop, or a few, is written together, and each caller hears of its own change.
 */

import type { Catalog } from '../catalog/catalog.ts';

/** Changes of one transaction: 64 of them keep the event loop for about 10 ms. */
export const batchMaxChanges = 64;
/** How long a change waits for others: less than what a reader notices, and enough for several small NAR files. */
export const batchWaitMs = 4;

interface Change {
  /** Inside the transaction; says what to do once that is on disk. */
  apply(): () => void;
  reject(error: unknown): void;
}

export class CatalogBatch {
  readonly #catalog: Catalog;
  #changes: Change[] = [];
  #timer: NodeJS.Timeout | undefined;

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
      if (this.#changes.length >= batchMaxChanges) this.#write();
      else this.#timer ??= setTimeout(() => this.#write(), batchWaitMs);
    });
  }

  #write(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const changes = this.#changes;
    this.#changes = [];
    try {
      const ends = this.#catalog.transaction(() => changes.map(({ apply }) => apply()));
      for (const end of ends) end();
    } catch (error) {
      for (const { reject } of changes) reject(error);
    }
  }
}
