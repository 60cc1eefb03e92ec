/** Remembers for a while which source gave wrong bytes, or none, for which NAR file, so that a retry does not ask it again, or wait as long. */

import type { Sha256 } from '../../nar/hash.ts';
import { isWithin } from '../waiting.ts';

/** Remembered at most; the oldest goes first. */
const badSourcesMax = 1_000;

export class BadSources {
  /** Since when, by the clock. */
  readonly #since = new Map<string, number>();
  /** The same of each source, for whichever file it was last. */
  readonly #last = new Map<string, number>();
  readonly #clock: () => number;
  readonly #badMs: number;

  constructor(clock: () => number, badMs: number) {
    this.#clock = clock;
    this.#badMs = badMs;
  }

  note(fileHash: Sha256, source: string): void {
    this.#since.set(`${fileHash} ${source}`, this.#clock());
    // There are no more of them than upstreams and catalogs.
    this.#last.set(source, this.#clock());
    const oldest = this.#since.keys().next();
    if (this.#since.size > badSourcesMax && !oldest.done) this.#since.delete(oldest.value);
  }

  /** Whether it was noted for any file within so many milliseconds. */
  lately(source: string, ms: number): boolean {
    const last = this.#last.get(source);
    return last !== undefined && isWithin(this.#clock() - last, ms);
  }

  has(fileHash: Sha256, source: string): boolean {
    const since = this.#since.get(`${fileHash} ${source}`);
    return since !== undefined && isWithin(this.#clock() - since, this.#badMs);
  }
}
