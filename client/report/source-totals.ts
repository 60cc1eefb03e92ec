/** What each source gave since the client was started, out of the stories of the fetches. */

import type { LegEnd, NarStory } from '../story.ts';

/** Sources told apart: those that are configured, the swarm and packs. What comes on top counts as `others`. */
const sourcesMax = 64;

export interface SourceTotal {
  /** `swarm`, `pack`, or the URL of a cache. */
  source: string;
  /** NAR files that it gave something of, and those of them that it gave most of. */
  nars: number;
  mostOf: number;
  usedBytes: number;
  /** What others had given already. */
  unusedBytes: number;
  /** Times that it was asked, and how that ended. */
  asked: number;
  beaten: number;
  failed: number;
  absent: number;
  /**
   * Milliseconds that those of which it gave most took less than they would have over HTTP alone, as far as that is known; negative when they
   * took longer.
   */
  savedMs: number;
}

type Counted = Extract<LegEnd, 'beaten' | 'failed' | 'absent'>;

export class SourceTotals {
  readonly #totals = new Map<string, SourceTotal>();

  add({ legs, outcome, httpMs, tookMs }: NarStory): void {
    const gave = new Map<SourceTotal, number>();
    for (const { source, usedBytes, unusedBytes, end } of legs) {
      const total = this.#of(source);
      total.asked++;
      total.usedBytes += usedBytes;
      total.unusedBytes += unusedBytes;
      if (isCounted(end)) total[end]++;
      if (usedBytes > 0) gave.set(total, (gave.get(total) ?? 0) + usedBytes);
    }
    if (outcome !== 'fetched') return;
    const [most] = [...gave].sort(([, one], [, other]) => other - one);
    for (const total of gave.keys()) total.nars++;
    if (most === undefined) return;
    most[0].mostOf++;
    if (httpMs !== undefined) most[0].savedMs += Math.round(httpMs - tookMs);
  }

  /** Those that gave most first. */
  status(): SourceTotal[] {
    return [...this.#totals.values()].map((each) => ({ ...each })).sort((a, b) => b.usedBytes - a.usedBytes);
  }

  #of(source: string): SourceTotal {
    const name = this.#totals.has(source) || this.#totals.size < sourcesMax - 1 ? source : 'others';
    let total = this.#totals.get(name);
    if (total === undefined) {
      const nothing = {
        nars: 0,
        mostOf: 0,
        usedBytes: 0,
        unusedBytes: 0,
        asked: 0,
        beaten: 0,
        failed: 0,
        absent: 0,
      };
      total = { source: name, ...nothing, savedMs: 0 };
      this.#totals.set(name, total);
    }
    return total;
  }
}

function isCounted(end: LegEnd): end is Counted {
  return end === 'beaten' || end === 'failed' || end === 'absent';
}
