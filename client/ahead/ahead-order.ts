/** In which order Nix will ask for NAR files. Pure. */

import type { Sha256 } from '../../nar/hash.ts';
import type { StoreHash } from '../../nar/store-path.ts';

/** A NAR file that Nix may ask for. */
export interface Awaited {
  readonly storeHash: StoreHash;
  /** Of the paths that it references. */
  readonly references: readonly StoreHash[];
  readonly fileHash: Sha256;
  readonly sizeBytes: number;
}

/**
 * A path comes after all that it references, as Nix makes paths valid in that order; among those that could come next the small ones go first.
 * Paths that reference each other in a circle, which no real ones do, come last.
 */
export function aheadOrder<A extends Awaited>(awaited: readonly A[]): A[] {
  const byStoreHash = new Map(awaited.map((each) => [each.storeHash, each]));
  const referrers = new Map<StoreHash, A[]>();
  const missing = new Map<A, number>();
  for (const each of byStoreHash.values()) {
    let count = 0;
    for (const reference of new Set(each.references)) {
      if (reference === each.storeHash || !byStoreHash.has(reference)) continue;
      count++;
      const others = referrers.get(reference);
      if (others === undefined) referrers.set(reference, [each]);
      else others.push(each);
    }
    missing.set(each, count);
  }
  const ordered: A[] = [];
  let level = [...byStoreHash.values()].filter((each) => missing.get(each) === 0);
  while (level.length > 0) {
    level.sort((a, b) => a.sizeBytes - b.sizeBytes);
    const next: A[] = [];
    for (const each of level) {
      ordered.push(each);
      missing.delete(each);
      for (const referrer of referrers.get(each.storeHash) ?? []) {
        const left = (missing.get(referrer) ?? 0) - 1;
        missing.set(referrer, left);
        if (left === 0) next.push(referrer);
      }
    }
    level = next;
  }
  return [...ordered, ...missing.keys()];
}
