/** The order of NAR files in a pack: each after those that it refers to, so that a closure lies together. Pure. */

export interface Referring<T> {
  readonly item: T;
  /** Store hashes of the paths that it holds. */
  readonly storeHashes: readonly string[];
  /** Store hashes of the paths that those refer to; of others, too. */
  readonly references: readonly string[];
}

/**
 * Begins with the first of `items` and puts what it refers to right before it. Paths may refer to each other in a circle, as several paths
 * can have one NAR file: then one of them comes before what it refers to.
 */
export function packOrder<T>(items: readonly Referring<T>[]): T[] {
  const byStoreHash = new Map<string, Referring<T>>();
  for (const each of items) for (const storeHash of each.storeHashes) byStoreHash.set(storeHash, each);
  const begun = new Set<Referring<T>>();
  const ordered: T[] = [];
  for (const first of items) {
    // Chains of references are as long as a pack is large: no recursion.
    const stack: { each: Referring<T>; next: number }[] = [];
    const begin = (each: Referring<T> | undefined): void => {
      if (each === undefined || begun.has(each)) return;
      begun.add(each);
      stack.push({ each, next: 0 });
    };
    begin(first);
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const reference = top.each.references[top.next++];
      if (reference !== undefined) {
        begin(byStoreHash.get(reference));
      } else {
        ordered.push(top.each.item);
        stack.pop();
      }
    }
  }
  return ordered;
}
