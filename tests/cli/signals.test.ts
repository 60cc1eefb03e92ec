import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { drainLimitMs } from '../../cli/signals.ts';

const script = fileURLToPath(new URL('signals-child.ts', import.meta.url));

/** Started, sent one SIGINT, and draining for ever. */
async function drainingChild(t: Test, ...args: string[]): Promise<ChildProcess> {
  const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  child.kill('SIGINT');
  await once(child.stdout, 'data');
  return child;
}

t.test('a program that cannot drain ends all the same, with 0 because it was asked to', async (t) => {
  const startMs = performance.now();
  const child = await drainingChild(t, 'serving');
  await once(child, 'exit');
  t.equal(child.exitCode, 0);
  const tookMs = performance.now() - startMs;
  t.ok(tookMs >= drainLimitMs && tookMs < drainLimitMs + 3000, `${tookMs} ms`);
});

t.test('a command that was interrupted before it was done ends with 1', async (t) => {
  const child = await drainingChild(t);
  await once(child, 'exit');
  t.equal(child.exitCode, 1);
});

t.test('a second Ctrl-C ends it at once', async (t) => {
  const child = await drainingChild(t, 'serving');
  const startMs = performance.now();
  child.kill('SIGINT');
  await once(child, 'exit');
  t.equal(child.exitCode, 1);
  t.ok(performance.now() - startMs < drainLimitMs / 2);
});
