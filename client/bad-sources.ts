/** Remembers for a while which source gave wrong bytes for which NAR file, so that a retry does not ask it again. */

import type { Sha256 } from '../nar/hash.ts';

/** Remembered at most; the oldest goes first. */
const badSourcesMax = 1_000;

export class BadSources {
  readonly #until = new Map<string, number>();
  readonly #clock: () => number;
  readonly #badMs: number;

  constructor(clock: () => number, badMs: number) {
    this.#clock = clock;
    this.#badMs = badMs;
  }

  note(fileHash: Sha256, source: string): void {
    this.#until.set(`${fileHash} ${source}`, this.#clock() + this.#badMs);
    const oldest = this.#until.keys().next();
    if (this.#until.size > badSourcesMax && !oldest.done) this.#until.delete(oldest.value);
  }

  has(fileHash: Sha256, source: string): boolean {
    return this.#clock() < (this.#until.get(`${fileHash} ${source}`) ?? 0);
  }
}
