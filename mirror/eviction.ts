/**
 * Which of the held NAR files go when there is no room. Pure.
 *
 * First what is not wanted any more and has most other seeds; closures stay whole, so that what is needed goes after what needs it. A
 * NAR file without any other seed is kept, and said so, unless the quota itself became smaller than what is held: a quota holds whatever
 * it costs. Then everything that others have goes first, wanted or not, and the last copies at the very end.
 */

export interface HeldItem {
  readonly item: number;
  readonly sizeBytes: number;
  /** By the present plan. */
  readonly wanted: boolean;
  /** As far as known; 0 makes it the last known copy. */
  readonly otherSeeds: number;
}

export interface EvictionWish {
  /** Everything that is held, and is not in use in a way that forbids it. */
  held: readonly HeldItem[];
  /** NAR files that it needs. */
  referencesOf(item: number): readonly number[];
  /** To be freed. */
  needBytes: number;
  /** The quota demands it: nothing is spared. */
  forced: boolean;
}

export interface Eviction {
  /** In this order. */
  readonly items: readonly HeldItem[];
  readonly freedBytes: number;
  /** Those among them that nobody else is known to have. */
  readonly lastCopies: readonly HeldItem[];
  /** Not wanted, and kept because nobody else is known to have them, or for the sake of one of those. */
  readonly keptFiles: number;
  readonly keptBytes: number;
}

export function planEviction({ held, referencesOf, needBytes, forced }: EvictionWish): Eviction {
  const candidates = new Map<number, HeldItem>();
  for (const each of held) if (forced || !each.wanted) candidates.set(each.item, each);
  const needed = new Map<number, number>();
  // What is wanted is wanted with its closure, so that only what is not wanted can need what is not wanted.
  for (const item of candidates.keys()) {
    for (const reference of referencesOf(item)) {
      if (reference !== item && candidates.has(reference))
        needed.set(reference, (needed.get(reference) ?? 0) + 1);
    }
  }
  const evicted: HeldItem[] = [];
  let freedBytes = 0;
  const isEnough = (): boolean => freedBytes >= needBytes;
  const free: Heap = new Heap();
  for (const each of candidates.values()) {
    if (each.otherSeeds > 0 && !needed.has(each.item)) free.push(each);
  }
  const evict = (each: HeldItem): void => {
    candidates.delete(each.item);
    evicted.push(each);
    freedBytes += each.sizeBytes;
    for (const reference of referencesOf(each.item)) {
      const count = needed.get(reference);
      if (count === undefined || reference === each.item) continue;
      if (count > 1) needed.set(reference, count - 1);
      else needed.delete(reference);
      const next = candidates.get(reference);
      if (count === 1 && next !== undefined && next.otherSeeds > 0) free.push(next);
    }
  };
  for (let each = free.pop(); each !== undefined && !isEnough(); each = free.pop()) {
    if (candidates.has(each.item)) evict(each);
  }
  // A closure that is broken can be mended from others; a last copy cannot.
  if (forced && !isEnough()) {
    for (const each of [...candidates.values()].sort(byRank)) {
      if (isEnough() || each.otherSeeds === 0) break;
      evict(each);
    }
  }
  const lastCopies: HeldItem[] = [];
  if (forced && !isEnough()) {
    for (const each of [...candidates.values()].sort(byRank)) {
      if (isEnough()) break;
      evict(each);
      lastCopies.push(each);
    }
  }
  let keptFiles = 0;
  let keptBytes = 0;
  if (!isEnough()) {
    for (const { sizeBytes } of candidates.values()) {
      keptFiles++;
      keptBytes += sizeBytes;
    }
  }
  return { items: evicted, freedBytes, lastCopies, keptFiles, keptBytes };
}

/** Negative when `a` goes before `b`: others have it, it is not wanted, most have it, it frees most. */
function byRank(a: HeldItem, b: HeldItem): number {
  return (
    Number(a.otherSeeds === 0) - Number(b.otherSeeds === 0) ||
    Number(a.wanted) - Number(b.wanted) ||
    b.otherSeeds - a.otherSeeds ||
    b.sizeBytes - a.sizeBytes
  );
}

/** The one that goes first is on top. */
class Heap {
  readonly #items: HeldItem[] = [];

  push(item: HeldItem): void {
    const items = this.#items;
    let at = items.push(item) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      const parent = items[above];
      if (parent === undefined || byRank(parent, item) <= 0) break;
      items[at] = parent;
      at = above;
    }
    items[at] = item;
  }

  pop(): HeldItem | undefined {
    const items = this.#items;
    const top = items[0];
    const last = items.pop();
    if (top === undefined || last === undefined || items.length === 0) return top;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      let child = items[below];
      const right = items[below + 1];
      if (child !== undefined && right !== undefined && byRank(right, child) < 0) {
        below++;
        child = right;
      }
      if (child === undefined || byRank(last, child) <= 0) break;
      items[at] = child;
      at = below;
    }
    items[at] = last;
    return top;
  }
}
