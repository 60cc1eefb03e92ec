import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { type HeldItem, planEviction } from '../../mirror/eviction.ts';
import { makePlan } from '../../mirror/plan.ts';
import { anyLibrary, isWhole, type MadeLibrary } from './made-library.ts';

/** Everything of a library is held; what one root needs is wanted. */
function heldOf(library: MadeLibrary, root: number, seeds: readonly number[]): HeldItem[] {
  const work = makePlan(library, [{ roots: [root], shareBytes: undefined }], 1e9);
  let step = work.next();
  while (!step.done) step = work.next();
  const { wanted } = step.value;
  return library.sizes.map((sizeBytes, item) => ({
    item,
    sizeBytes,
    wanted: wanted.has(item),
    otherSeeds: seeds[item] ?? 0,
  }));
}

const anyCase = anyLibrary.chain((library) =>
  fc.record({
    library: fc.constant(library),
    root: fc.nat(library.items - 1),
    seeds: fc.array(fc.nat(3), { minLength: library.items, maxLength: library.items }),
    needBytes: fc.nat(3_000),
  }),
);

t.test('without force no last copy and nothing wanted goes, and closures stay whole', async () => {
  fc.assert(
    fc.property(anyCase, ({ library, root, seeds, needBytes }) => {
      const held = heldOf(library, root, seeds);
      const referencesOf = (item: number): readonly number[] => library.references[item] ?? [];
      const { items, freedBytes, lastCopies, keptFiles } = planEviction({
        held,
        referencesOf,
        needBytes,
        forced: false,
      });
      assert.deepEqual(lastCopies, []);
      const left = new Set(held.map(({ item }) => item));
      for (const each of items) {
        assert.ok(each.otherSeeds > 0 && !each.wanted);
        left.delete(each.item);
        assert.ok(isWhole(library, left), 'whole after each of them');
      }
      assert.ok(freedBytes - (items.at(-1)?.sizeBytes ?? 1) < needBytes, 'no more than is needed');
      assert.equal(
        freedBytes,
        items.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      );
      const unwanted = held.filter(({ item, wanted }) => !wanted && left.has(item));
      if (freedBytes < needBytes) {
        assert.equal(keptFiles, unwanted.length, 'what is kept is said');
        // Everything that is left is a last copy or needed by one.
        const needed = new Set<number>();
        const visit = (item: number): void => {
          if (needed.has(item)) return;
          needed.add(item);
          for (const reference of referencesOf(item)) visit(reference);
        };
        for (const { item, otherSeeds } of unwanted) if (otherSeeds === 0) visit(item);
        assert.ok(unwanted.every(({ item }) => needed.has(item)));
      }
    }),
  );
});

t.test('by force enough goes whatever it costs, and last copies only when nothing else is left', async () => {
  fc.assert(
    fc.property(anyCase, ({ library, root, seeds, needBytes }) => {
      const held = heldOf(library, root, seeds);
      const referencesOf = (item: number): readonly number[] => library.references[item] ?? [];
      const { items, freedBytes, lastCopies } = planEviction({
        held,
        referencesOf,
        needBytes,
        forced: true,
      });
      const all = held.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
      assert.ok(freedBytes >= Math.min(needBytes, all));
      assert.deepEqual(
        lastCopies.map(({ item }) => item),
        items.filter(({ otherSeeds }) => otherSeeds === 0).map(({ item }) => item),
        'each of them is said',
      );
      if (lastCopies.length > 0) {
        const gone = new Set(items.map(({ item }) => item));
        assert.ok(held.every(({ item, otherSeeds }) => otherSeeds === 0 || gone.has(item)));
      }
      assert.equal(new Set(items).size, items.length, 'nothing goes twice');
    }),
  );
});

t.test('what most others have goes first', async (t) => {
  const held = [1, 5, 3].map((otherSeeds, item) => ({ item, sizeBytes: 10, wanted: false, otherSeeds }));
  const { items } = planEviction({ held, referencesOf: () => [], needBytes: 20, forced: false });
  t.same(
    items.map(({ item }) => item),
    [1, 2],
  );
});
