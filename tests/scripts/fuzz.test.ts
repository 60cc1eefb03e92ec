/** What fuzzing ever found stays mended, and every target goes on being fuzzed a little with each run of the tests. */

import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { mutate } from '../../scripts/fuzz/mutate.ts';
import { Random } from '../../scripts/fuzz/random.ts';
import { inputOf, replay, runTarget } from '../../scripts/fuzz/run.ts';
import { holds, type Target } from '../../scripts/fuzz/target.ts';
import { targets } from '../../scripts/fuzz/targets.ts';

const corpus = fileURLToPath(new URL('../fuzz-corpus', import.meta.url));
const inputsEach = 500;

for (const name of readdirSync(corpus)) {
  t.test(`inputs that were kept: ${name}`, async (t) => {
    const target = targets[name];
    if (target === undefined) throw new Error(`no target is called ${name}`);
    for (const file of readdirSync(`${corpus}/${name}`)) {
      const input = readFileSync(`${corpus}/${name}/${file}`);
      // However its chunks end.
      for (let seed = 1; seed <= 20; seed++) t.doesNotThrow(() => replay(target, input, seed), file);
    }
  });
}

for (const [name, target] of Object.entries(targets)) {
  t.test(`${inputsEach} inputs for ${name}, some of which are taken`, async (t) => {
    const seed = 20_000;
    // On a busy machine only a run of its own can judge the time.
    const all = runTarget({ name, target, seed, from: 0, inputs: inputsEach, ms: 60_000, timed: false });
    t.same(
      all.failures.map((failure) => `case ${failure.case}: ${failure.error}`),
      [],
    );
    t.equal(all.inputs, inputsEach);
    t.ok(all.accepted > 0 && all.refused > 0, `${all.accepted} taken, ${all.refused} refused`);
  });
}

t.test('the same seed and case give the same input, others give others', async (t) => {
  for (const target of Object.values(targets)) {
    const make = (seed: number, number: number): string =>
      inputOf(target, seed, number).input.toString('hex');
    t.equal(make(1, 7), make(1, 7));
    t.not([1, 2, 3].map((each) => make(1, each)).join(), [1, 2, 3].map((each) => make(2, each)).join());
  }
});

t.test(
  'a target that breaks is reported with its case, one that keeps memory or is slow as well',
  async (t) => {
    const once = (run: Target['run']): Target => ({ words: ['x'], make: (random) => random.bytes(10), run });
    const options = { name: 'broken', seed: 3, from: 0, inputs: 2_000, ms: 60_000, timed: true };
    const broken = once((input) => {
      holds(input[0] !== 0x41, 'no input begins with A');
      return 'accepted';
    });
    const { failures } = runTarget({ ...options, target: broken });
    const [first] = failures;
    t.match(first, { target: 'broken', error: { message: 'broken: no input begins with A' } });
    t.equal(inputOf(broken, 3, first?.case ?? 0).input[0], 0x41);
    const slow = once(() => {
      for (const endMs = performance.now() + 60; performance.now() < endMs; );
      return 'accepted';
    });
    t.match(runTarget({ ...options, target: slow, inputs: 1 }).failures, [{ error: /ms for one input/ }]);
    const kept: Buffer[] = [];
    const greedy = once(() => {
      kept.push(Buffer.alloc(20 * 1024 * 1024));
      return 'accepted';
    });
    t.match(runTarget({ ...options, target: greedy, inputs: 1 }).failures, [
      { error: /bytes for one input/ },
    ]);
  },
);

t.test('mutation changes most inputs and bounds them all', async (t) => {
  let changed = 0;
  for (let number = 0; number < 500; number++) {
    const random = new Random(1, number, 0);
    const input = random.bytes(random.below(200));
    const spoilt = mutate(random, input, ['word']);
    t.ok(spoilt.length <= 4_096);
    if (!spoilt.equals(input)) changed++;
  }
  t.ok(changed > 400, `${changed} of 500`);
});
