/** Remembers for a while which source gave wrong bytes for which NAR file, so that a retry does not ask it again. */

import type { Sha256 } from '../nar/hash.ts';
import { isWithin } from './waiting.ts';

/** Remembered at most; the oldest goes first. */
const badSourcesMax = 1_000;

export class BadSources {
  /** Since when, by the clock. */
  readonly #since = new Map<string, number>();
  readonly #clock: () => number;
  readonly #badMs: number;

  constructor(clock: () => number, badMs: number) {
    this.#clock = clock;
    this.#badMs = badMs;
  }

  note(fileHash: Sha256, source: string): void {
    this.#since.set(`${fileHash} ${source}`, this.#clock());
    const oldest = this.#since.keys().next();
    if (this.#since.size > badSourcesMax && !oldest.done) this.#since.delete(oldest.value);
  }

  has(fileHash: Sha256, source: string): boolean {
    const since = this.#since.get(`${fileHash} ${source}`);
    return since !== undefined && isWithin(this.#clock() - since, this.#badMs);
  }
}
