/**
 * Which NAR files are wanted, and in which order they are fetched: closures whole, within the quota and each rule's share of it. Pure.
 *
 * NAR files are numbers here, by their place in the catalogs. A path is worth keeping only with all that it references, so that a
 * closure is taken as a whole or not at all, and is fetched from its leaves upwards: what is held is whole at every moment.
 */

import { Bitmap } from '../nar/bitmap.ts';

export interface Library {
  /** NAR files are numbered from 0 to one less. */
  readonly items: number;
  /** FileSize, in bytes. */
  sizeOf(item: number): number;
  /** NAR files of the paths that its paths reference; `undefined` when it or one of them may not be kept. */
  referencesOf(item: number): readonly number[] | undefined;
}

export interface PlannedRule {
  /** What is wanted, each with its closure, in this order. */
  readonly roots: Iterable<number>;
  /** Of the quota; without one, what the shares leave. */
  readonly shareBytes: number | undefined;
}

export interface RuleResult {
  /** NAR files that this rule added to those of the rules before it. */
  files: number;
  bytes: number;
  /** Roots whose closure did not fit. */
  skippedRoots: number;
}

export interface Plan {
  readonly wanted: Bitmap;
  /** What is wanted, references before what needs them. */
  readonly order: Uint32Array;
  readonly bytes: number;
  readonly rules: readonly RuleResult[];
}

/** Items looked at between two turns of others: 10 ms, as each takes a third of a millisecond with its references. */
const turnItems = 32;
/** Roots in a row that did not fit before a rule counts as full: smaller ones further on are not searched for ever. */
const missesMax = 1_000;

/** Yields now and then for others to have their turn; returns the plan. */
export function* makePlan(
  library: Library,
  rules: readonly PlannedRule[],
  quotaBytes: number,
): Generator<void, Plan> {
  const walk = new ClosureWalk(library);
  const shared = rules.reduce((sum, { shareBytes = 0 }) => sum + shareBytes, 0);
  let ownBytes = Math.max(0, quotaBytes);
  let commonBytes = Math.max(0, quotaBytes - shared);
  const results: RuleResult[] = [];
  for (const { roots, shareBytes } of rules) {
    const result: RuleResult = { files: 0, bytes: 0, skippedRoots: 0 };
    let leftBytes = Math.min(ownBytes, shareBytes ?? commonBytes);
    let misses = 0;
    for (const root of roots) {
      if (walk.wanted.has(root)) continue;
      const taken = yield* walk.take(root, leftBytes);
      if (taken === undefined) {
        result.skippedRoots++;
        if (++misses >= missesMax) break;
        continue;
      }
      misses = 0;
      leftBytes -= taken.bytes;
      result.files += taken.files;
      result.bytes += taken.bytes;
    }
    ownBytes -= result.bytes;
    if (shareBytes === undefined) commonBytes -= result.bytes;
    results.push(result);
  }
  const order = walk.order();
  return {
    wanted: walk.wanted,
    order,
    bytes: results.reduce((sum, { bytes }) => sum + bytes, 0),
    rules: results,
  };
}

/** The plan when everything fits: no closure needs to be looked at, which takes a third of a millisecond for each NAR file. */
export function planAll(
  library: Library & { mayKeep(item: number): boolean },
  rules: number,
  all: number,
): Plan {
  const wanted = new Bitmap(library.items);
  const results: RuleResult[] = Array.from({ length: rules }, () => ({
    files: 0,
    bytes: 0,
    skippedRoots: 0,
  }));
  let bytes = 0;
  for (let item = 0; item < library.items; item++) {
    if (!library.mayKeep(item)) continue;
    wanted.add(item);
    bytes += library.sizeOf(item);
  }
  const result = results[all];
  if (result !== undefined) Object.assign(result, { files: wanted.size, bytes });
  return { wanted, order: Uint32Array.from(wanted), bytes, rules: results };
}

/** Lets others have their turn while the plan is made. */
export async function inTurns<T>(work: Generator<void, T>, turn: () => Promise<unknown>): Promise<T> {
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
    await turn();
  }
}

/** What is wanted so far, and how the next closure is gathered. */
class ClosureWalk {
  readonly wanted: Bitmap;
  readonly #library: Library;
  readonly #order: number[] = [];
  /** Items that can never be taken: they or something they need may not be kept. */
  readonly #never: Bitmap;
  #looked = 0;

  constructor(library: Library) {
    this.#library = library;
    this.wanted = new Bitmap(library.items);
    this.#never = new Bitmap(library.items);
  }

  order(): Uint32Array {
    return Uint32Array.from(this.#order);
  }

  /** Takes what is missing of the closure of `root`, if it has at most `maxBytes`. */
  *take(root: number, maxBytes: number): Generator<void, { files: number; bytes: number } | undefined> {
    const library = this.#library;
    const found: number[] = [];
    const seen = new Set<number>([root]);
    // Depth first with a stack of our own: a chain of references may be long, and a hostile catalog may make it a circle.
    const stack: { item: number; references: readonly number[]; next: number }[] = [];
    let bytes = 0;
    const enter = (item: number): boolean => {
      const references = this.#never.has(item) ? undefined : library.referencesOf(item);
      if (references === undefined) return false;
      bytes += library.sizeOf(item);
      if (bytes > maxBytes) return false;
      stack.push({ item, references, next: 0 });
      return true;
    };
    let fits = enter(root);
    if (!fits && bytes === 0) this.#never.add(root);
    for (let top = stack.at(-1); fits && top !== undefined; top = stack.at(-1)) {
      if (++this.#looked % turnItems === 0) yield;
      const reference = top.references[top.next++];
      if (reference === undefined) {
        found.push(top.item);
        stack.pop();
      } else if (!seen.has(reference) && !this.wanted.has(reference)) {
        seen.add(reference);
        fits = enter(reference);
      }
    }
    if (!fits) return undefined;
    for (const item of found) {
      this.wanted.add(item);
      this.#order.push(item);
    }
    return { files: found.length, bytes };
  }
}
