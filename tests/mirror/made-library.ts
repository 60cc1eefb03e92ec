/** Catalogs in memory: NAR files that reference each other without circles, with sizes. */

import fc from 'fast-check';
import type { Library } from '../../mirror/plan.ts';

export interface MadeLibrary extends Library {
  readonly sizes: readonly number[];
  readonly references: readonly (readonly number[])[];
}

export function libraryOf(
  sizes: readonly number[],
  references: readonly (readonly number[])[],
  forbidden: ReadonlySet<number> = new Set(),
): MadeLibrary {
  return {
    items: sizes.length,
    sizes,
    references,
    sizeOf: (item) => sizes[item] ?? 0,
    referencesOf(item) {
      const own = references[item] ?? [];
      return forbidden.has(item) || own.some((reference) => forbidden.has(reference)) ? undefined : own;
    },
  };
}

/** Each item references itself or some of those before it. */
export const anyLibrary = fc
  .integer({ min: 1, max: 30 })
  .chain((items) =>
    fc
      .tuple(
        fc.array(fc.integer({ min: 1, max: 100 }), { minLength: items, maxLength: items }),
        fc.tuple(
          ...Array.from({ length: items }, (_, item) => fc.uniqueArray(fc.nat(item), { maxLength: 4 })),
        ),
      )
      .map(([sizes, references]) => libraryOf(sizes, references)),
  );

/** True when everything that `items` reference is among them. */
export function isWhole(library: MadeLibrary, items: ReadonlySet<number>): boolean {
  return [...items].every((item) =>
    (library.references[item] ?? []).every((reference) => items.has(reference)),
  );
}

export function bytesOf(library: MadeLibrary, items: Iterable<number>): number {
  let bytes = 0;
  for (const item of items) bytes += library.sizeOf(item);
  return bytes;
}
