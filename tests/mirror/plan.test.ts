import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { inTurns, makePlan, type Plan, type PlannedRule } from '../../mirror/plan.ts';
import { anyLibrary, bytesOf, isWhole, libraryOf, type MadeLibrary } from './made-library.ts';

function planOf(library: MadeLibrary, rules: readonly PlannedRule[], quotaBytes: number): Plan {
  const work = makePlan(library, rules, quotaBytes);
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
  }
}

t.test('closures are whole, in an order that keeps them so, within the quota and every share', async () => {
  const anyCase = anyLibrary.chain((library) =>
    fc.record({
      library: fc.constant(library),
      rules: fc.array(
        fc.record({
          roots: fc.array(fc.nat(library.items - 1), { maxLength: 20 }),
          shareBytes: fc.option(fc.nat(600), { nil: undefined }),
        }),
        { maxLength: 4 },
      ),
      quotaBytes: fc.nat(2_000),
    }),
  );
  fc.assert(
    fc.property(anyCase, ({ library, rules, quotaBytes }) => {
      const plan = planOf(library, rules, quotaBytes);
      const taken = new Set<number>();
      for (const item of plan.order) {
        taken.add(item);
        assert.ok(isWhole(library, taken), 'whole after each of them');
      }
      assert.equal(bytesOf(library, taken), plan.bytes);
      assert.ok(plan.bytes <= quotaBytes);
      assert.deepEqual(
        [...plan.wanted],
        [...taken].sort((a, b) => a - b),
      );
      const shared = rules.reduce((sum, { shareBytes = 0 }) => sum + shareBytes, 0);
      let commonBytes = 0;
      for (const [index, { bytes }] of plan.rules.entries()) {
        const share = rules[index]?.shareBytes;
        if (share === undefined) commonBytes += bytes;
        else assert.ok(bytes <= share, 'a rule stays within its share');
      }
      assert.ok(
        commonBytes <= Math.max(0, quotaBytes - shared),
        'and those without one leave the shares alone',
      );
    }),
  );
});

t.test('with room for everything, everything is wanted', async () => {
  fc.assert(
    fc.property(anyLibrary, (library) => {
      const roots = library.sizes.keys();
      return planOf(library, [{ roots, shareBytes: undefined }], 1e9).wanted.size === library.items;
    }),
  );
  t.pass();
});

t.test('what does not fit is passed over for what does', async (t) => {
  const library = libraryOf([10, 50, 10, 5], [[], [0], [], []]);
  const plan = planOf(library, [{ roots: [1, 2, 3], shareBytes: undefined }], 20);
  t.same([...plan.order], [2, 3]);
  t.match(plan.rules, [{ files: 2, bytes: 15, skippedRoots: 1 }]);
});

t.test('what may not be kept takes with it what needs it', async (t) => {
  const library = libraryOf([1, 1, 1, 1], [[], [0], [1], []], new Set([0]));
  t.same([...planOf(library, [{ roots: [0, 1, 2, 3], shareBytes: undefined }], 100).order], [3]);
});

t.test('a circle of references ends', async (t) => {
  const library = libraryOf([1, 1], [[1], [0]]);
  t.equal(planOf(library, [{ roots: [0], shareBytes: undefined }], 100).bytes, 2);
});

t.test('others have their turn meanwhile', async (t) => {
  const items = 2_000;
  const library = libraryOf(
    Array.from({ length: items }, () => 1),
    Array.from({ length: items }, (_, item) => (item === 0 ? [] : [item - 1])),
  );
  let turns = 0;
  const plan = await inTurns(
    makePlan(library, [{ roots: [items - 1], shareBytes: undefined }], 1e6),
    async () => {
      turns++;
    },
  );
  t.equal(plan.wanted.size, items, 'however long the chain');
  t.ok(turns > 50);
});
