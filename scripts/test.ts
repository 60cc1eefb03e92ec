/**
 * `npm test`: makes the machine ready as far as it can, runs all tests, and ends with a line `N passed, N failed`.
 *
 * Arguments go to tap: `npm test -- tests/cli`. NARSWARM_TEST_INSTALL=no keeps it from installing anything.
 */

import { spawn } from 'node:child_process';
import { createWriteStream, mkdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { buildTapIfNeeded } from './build-tap.ts';
import { installPrograms } from './install-programs.ts';
import { readTap, type TestFile, type TestRun } from './read-tap.ts';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** Test files at once: one more than there are cores on the smallest machines, as real programs spend much of their time waiting. */
const jobs = 3;
/** Everything that the tests said. */
const outputFile = join(root, '.tap', 'output.tap');

if (process.env.NARSWARM_TEST_INSTALL !== 'no') await installPrograms((text) => console.log(text));
await buildTapIfNeeded(root, (text) => console.log(text));
const { run, status } = await runTap(process.argv.slice(2));
process.exitCode = report(run, status);

async function runTap(args: readonly string[]): Promise<{ run: TestRun; status: number }> {
  mkdirSync(dirname(outputFile), { recursive: true });
  const output = createWriteStream(outputFile);
  const tap = spawn('tap', ['run', '--reporter=tap', `--jobs=${jobs}`, ...args.map(filesOf)], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, PATH: `${join(root, 'node_modules', '.bin')}:${process.env.PATH ?? ''}` },
  });
  const ended = new Promise<number>((resolve) => {
    tap.once('error', (error) => {
      console.error(`tap does not start: ${error.message}`);
      resolve(1);
    });
    tap.once('close', (code) => resolve(code ?? 1));
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => tap.kill(signal));
  const lines = createInterface({ input: tap.stdout });
  lines.on('line', (line) => output.write(`${line}\n`));
  const run = await readTap(lines, showFile);
  const status = await ended;
  output.end();
  return { run, status };
}

/** tap takes files and patterns; a directory stands for the tests in it. */
function filesOf(argument: string): string {
  return statSync(argument, { throwIfNoEntry: false })?.isDirectory()
    ? join(argument, '**', '*.test.ts')
    : argument;
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
