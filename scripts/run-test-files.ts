/**
 * Runs the test files that it is given, several at once, and prints what they say as tap does: `run-test-files.ts FILE…`.
 *
 * Not `tap run`: that has every process, and every one that a test starts, load what it measures coverage with, which took more of a run than the
 * tests did. The files and what runs them are tap's all the same; `npx tap` still runs them.
 */

import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** One more than there are cores on the smallest machines, as real programs spend much of their time waiting. */
const filesAtOnce = 3;
/** One file, and one test in it: several times what the longest takes on a busy machine. */
const timeoutSeconds = 300;

const files = process.argv.slice(2);
const env = {
  ...process.env,
  NO_COLOR: '1',
  TAP_CWD: root,
  TAP_TIMEOUT: String(timeoutSeconds),
  // Else each process strips the types and compiles all that it imports anew.
  NODE_COMPILE_CACHE: join(root, '.tap', 'compiled'),
};

t.setTimeout(0);
t.plan(files.length);
t.jobs = filesAtOnce;
for (const file of files) {
  // tap puts its loader into NODE_OPTIONS; `env` takes it out again.
  const args = ['-u', 'NODE_OPTIONS', process.execPath, file];
  t.spawn('env', args, {
    cwd: root,
    name: file,
    env,
    buffered: true,
    timeout: timeoutSeconds * 1_000,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}
