/**
 * `npm test`: makes the machine ready as far as it can, runs all tests, and ends with a line `N passed, N failed`.
 *
 * `npm test -- tests/cli tests/nar/hash.test.ts`: only those. NARSWARM_TEST_INSTALL=no keeps it from installing anything.
 */

import { spawn } from 'node:child_process';
import { createWriteStream, mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { buildTapIfNeeded } from './build-tap.ts';
import { installPrograms } from './install-programs.ts';
import { readTap, type TestFile, type TestRun } from './read-tap.ts';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** Everything that the tests said. */
const outputFile = join(root, '.tap', 'output.tap');

if (process.env.NARSWARM_TEST_INSTALL !== 'no') await installPrograms((text) => console.log(text));
await buildTapIfNeeded(root, (text) => console.log(text));
const { run, status } = await runFiles(testFiles(process.argv.slice(2)));
process.exitCode = report(run, status);

async function runFiles(files: readonly string[]): Promise<{ run: TestRun; status: number }> {
  mkdirSync(dirname(outputFile), { recursive: true });
  const output = createWriteStream(outputFile);
  const tests = spawn(process.execPath, [join(root, 'scripts', 'run-test-files.ts'), ...files], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, PATH: `${join(root, 'node_modules', '.bin')}:${process.env.PATH ?? ''}` },
  });
  const ended = new Promise<number>((resolve) => {
    tests.once('error', (error) => {
      console.error(`the tests do not start: ${error.message}`);
      resolve(1);
    });
    tests.once('close', (code) => resolve(code ?? 1));
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => tests.kill(signal));
  const lines = createInterface({ input: tests.stdout });
  lines.on('line', (line) => output.write(`${line}\n`));
  const run = await readTap(lines, showFile);
  const status = await ended;
  output.end();
  return { run, status };
}

/** All, or those that are named; a directory stands for the tests in it. */
function testFiles(names: readonly string[]): string[] {
  return (names.length > 0 ? names : ['tests']).flatMap((name) => {
    const path = resolve(root, name);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) throw new Error(`there is no ${name}`);
    const paths = stat.isDirectory()
      ? readdirSync(path, { recursive: true, encoding: 'utf8' }).map((each) => join(path, each))
      : [path];
    return paths
      .filter((each) => each.endsWith('.test.ts'))
      .map((each) => relative(root, each))
      .sort();
  });
}

/** A line for each file; of one that failed, everything but what went well. */
function showFile(file: TestFile): void {
  const count = `${file.passed + file.failed} ${file.passed + file.failed === 1 ? 'test' : 'tests'}`;
  const skipped = file.skipped.length > 0 ? `, ${file.skipped.length} skipped` : '';
  console.log(`${file.failed > 0 ? 'FAIL' : 'ok  '}  ${file.name}  ${count}${skipped}  ${file.time}`);
  if (file.failed > 0) console.log(file.trouble.join('\n'));
}

function report(run: TestRun, status: number): number {
  // tap fails for more reasons than a failed test; none of them may look like success.
  const unexplained = status !== 0 && run.failed === 0 ? 1 : 0;
  if (unexplained > 0)
    console.log(`\ntap ended with status ${status} though no test failed; see ${outputFile}`);
  if (run.passed + run.failed === 0) console.log('\nno test ran at all');
  if (run.skipped.length > 0) console.log(`\nSkipped:\n${run.skipped.map((name) => `  ${name}`).join('\n')}`);
  if (run.failures.length > 0)
    console.log(`\nFailed:\n${run.failures.map((name) => `  ${name}`).join('\n')}`);
  const failed = run.failed + unexplained;
  const skipped = run.skipped.length > 0 ? `, ${run.skipped.length} skipped` : '';
  console.log(`\n${run.passed} passed, ${failed} failed${skipped}`);
  return failed === 0 && run.passed > 0 ? 0 : 1;
}
