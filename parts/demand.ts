/** How often NAR files were asked for lately: in memory that does not grow, for mirrors that keep what is popular. */

import type { InfoHash } from '../nar/hash.ts';

export interface DemandLimits {
  /** Torrents that are remembered, 100 bytes each; the one asked for longest ago goes first. */
  torrents: number;
  /** Demand for one torrent counts once in so many milliseconds. */
  everyMs: number;
  /** Milliseconds in which demand halves: what a release brings in a day is seen, and last month's is not. */
  halfLifeMs: number;
}

export const demandLimits: Readonly<DemandLimits> = {
  torrents: 100_000,
  everyMs: 10_000,
  halfLifeMs: 3 * 24 * 3_600_000,
};

interface Asked {
  heat: number;
  atMs: number;
}

export class Demand {
  readonly #limits: DemandLimits;
  readonly #clock: () => number;
  readonly #asked = new Map<InfoHash, Asked>();

  constructor(clock: () => number, limits: Partial<DemandLimits> = {}) {
    this.#clock = clock;
    this.#limits = { ...demandLimits, ...limits };
  }

  /** Somebody wants this torrent. Cheap enough for every read of an upload. */
  note(infoHash: InfoHash): void {
    const now = this.#clock();
    const asked = this.#asked.get(infoHash);
    if (asked !== undefined && now - asked.atMs < this.#limits.everyMs) return;
    const heat = asked === undefined ? 0 : this.#heat(asked, now);
    this.#asked.delete(infoHash);
    this.#asked.set(infoHash, { heat: heat + 1, atMs: now });
    const oldest = this.#asked.keys().next();
    if (this.#asked.size > this.#limits.torrents && !oldest.done) this.#asked.delete(oldest.value);
  }

  /** A level of at least 1 for what was asked for: one more for about twice as often. */
  *levels(): Generator<readonly [InfoHash, number]> {
    const now = this.#clock();
    for (const [infoHash, asked] of this.#asked) {
      const level = Math.floor(Math.log2(this.#heat(asked, now) + 1)) + 1;
      yield [infoHash, level];
    }
  }

  #heat({ heat, atMs }: Asked, now: number): number {
    return heat * 2 ** (-(now - atMs) / this.#limits.halfLifeMs);
  }
}
