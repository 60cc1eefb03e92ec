import t from 'tap';
import { readTap, type TestFile } from '../../scripts/read-tap.ts';

async function read(text: string) {
  const files: TestFile[] = [];
  async function* lines() {
    yield* text.split('\n');
  }
  const run = await readTap(lines(), (file) => files.push(file));
  return { run, files };
}

const good = `TAP version 14
1..1
# Subtest: tests/a.test.ts
    # Subtest: outer
        # Subtest: inner one
            ok 1 - should be equal
            ok 2 - should be equal
            1..2
        ok 1 - inner one # time=1ms
        # Subtest: inner two
            ok 1 - should be equal
            1..1
        ok 2 - inner two # time=1ms
        1..2
    ok 1 - outer # time=3ms
    ok 2 - needs a program # SKIP it is not installed
    1..2
    # time=5ms
ok 1 - tests/a.test.ts # time=5ms
# time=9ms`;

t.test('innermost tests are counted, and skipped ones are named with their reason', async (t) => {
  const { run, files } = await read(good);
  t.same(run, {
    passed: 2,
    failed: 0,
    skipped: ['tests/a.test.ts > needs a program (it is not installed)'],
    failures: [],
  });
  t.match(files, [{ name: 'tests/a.test.ts', time: '5ms', passed: 2 }]);
});

t.test('a failure is counted once, where it happened, with its diagnostics', async (t) => {
  const { run, files } = await read(`# Subtest: tests/b.test.ts
    # Subtest: keeps its promise
        ok 1 - should be equal
        not ok 2 - should match
          ---
          diff: |
            ok 7 - this is only quoted
          ...
        1..2
    not ok 1 - keeps its promise # time=1ms
      ---
      at: b.test.ts
      ...
    # Subtest: keeps another
        ok 1 - should be equal
        1..1
    ok 2 - keeps another # time=1ms
    1..2
not ok 1 - tests/b.test.ts # time=5ms
  ---
  exitCode: 1
  ...`);
  t.match(run, { passed: 1, failed: 1, failures: ['tests/b.test.ts > keeps its promise'] });
  t.match(files[0]?.trouble.join('\n'), /should match\n.*---\n.*diff/);
});

t.test('a file that dies, hangs or is cut off is a failure though no test in it failed', async (t) => {
  const died = await read(`# Subtest: tests/c.test.ts
    # Subtest: fine
        ok 1 - should be equal
        1..1
    ok 1 - fine # time=1ms
    1..1
not ok 1 - tests/c.test.ts # time=5ms
  ---
  signal: SIGKILL
  ...`);
  t.match(died.run, { passed: 1, failed: 1, failures: ['tests/c.test.ts'] });
});

t.test('a file without named tests is one test, and one that is all skipped is none', async (t) => {
  const bare = await read(
    '# Subtest: tests/d.test.ts\n    ok 1 - should be equal\n    1..1\nok 1 - tests/d.test.ts # time=5ms',
  );
  t.match(bare.run, { passed: 1, failed: 0 });
  const skipped = await read(
    '# Subtest: tests/e.test.ts\n    ok 1 - x # SKIP\n    1..1\nok 1 - tests/e.test.ts # time=5ms',
  );
  t.match(skipped.run, { passed: 0, failed: 0, skipped: ['tests/e.test.ts > x'] });
});

t.test('what is expected to fail does not count as failed', async (t) => {
  const { run } = await read(
    '# Subtest: tests/f.test.ts\n    not ok 1 - later # TODO\n    1..1\nok 1 - tests/f.test.ts',
  );
  t.match(run, { failed: 0 });
});

t.test('nothing at all is nothing passed', async (t) => {
  const { run } = await read('TAP version 14\n1..0\n');
  t.match(run, { passed: 0, failed: 0 });
});
