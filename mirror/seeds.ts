/** What the catalogs' servers said of the others' copies and of demand, for as long as they are there to say so. In memory. */

import type { CoverageAnswer } from '../parts/coverage.ts';
import type { MirrorCatalog } from './catalogs.ts';

/** Milliseconds: longer than a seeder needs for a restart. */
const distrustMs = 3_600_000;

export class SeedsKnown {
  readonly #answers = new Map<MirrorCatalog, Map<string, CoverageAnswer>>();
  readonly #onChange: () => void;
  readonly #clock: () => number;
  readonly #distrustedUntilMs = new Map<MirrorCatalog, number>();

  constructor(onChange: () => void, clock: () => number) {
    this.#onChange = onChange;
    this.#clock = clock;
  }

  /** Something that others were said to have could not be had: for a while nothing that is said counts. */
  distrust(catalog: MirrorCatalog): void {
    this.#distrustedUntilMs.set(catalog, this.#clock() + distrustMs);
    this.#answers.delete(catalog);
    this.#onChange();
  }

  set(catalog: MirrorCatalog, url: string, answer: CoverageAnswer): void {
    if (this.#clock() < (this.#distrustedUntilMs.get(catalog) ?? 0)) return;
    const answers = this.#answers.get(catalog) ?? new Map<string, CoverageAnswer>();
    const before = answers.get(url);
    this.#answers.set(catalog, answers.set(url, answer));
    if (before === undefined || !same(before, answer)) this.#onChange();
  }

  /** Nobody is there any more: what it said does not count, nor does what it had itself. */
  drop(catalog: MirrorCatalog, url: string): void {
    if (this.#answers.get(catalog)?.delete(url)) this.#onChange();
  }

  /** Other seeds, as the best-informed server says: they know of each other, so that sums would count twice. */
  seedsOf(catalog: MirrorCatalog, ordinal: number): number {
    let seeds = 0;
    for (const answer of this.#answers.get(catalog)?.values() ?? []) {
      seeds = Math.max(seeds, answer.seeds[ordinal] ?? 0);
    }
    return seeds;
  }

  demandOf(catalog: MirrorCatalog, ordinal: number): number {
    let demand = 0;
    for (const answer of this.#answers.get(catalog)?.values() ?? []) {
      demand = Math.max(demand, answer.demand[ordinal] ?? 0);
    }
    return demand;
  }
}

function same(a: CoverageAnswer, b: CoverageAnswer): boolean {
  return Buffer.compare(a.seeds, b.seeds) === 0 && Buffer.compare(a.demand, b.demand) === 0;
}
