import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { dataLockName, lockDataDir } from '../../store/data-lock.ts';

const module = fileURLToPath(new URL('../../store/data-lock.ts', import.meta.url));

t.test('a data directory is made, and belongs to one holder until it lets go', async (t) => {
  const directory = join(t.testdir(), 'a', 'b');
  const first = lockDataDir(directory);
  t.throws(() => lockDataDir(directory), {
    code: 'store-failed',
    message: /used by another narswarm process/,
  });
  first.close();
  first.close();
  lockDataDir(directory).close();
});

t.test('the lock of a killed process is gone with it', async (t) => {
  const directory = t.testdir();
  const script = `
    const { lockDataDir } = await import(${JSON.stringify(module)});
    lockDataDir(${JSON.stringify(directory)});
    process.stdout.write('held');
    setInterval(() => undefined, 1_000);`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  await once(child.stdout, 'data');
  t.throws(() => lockDataDir(directory), { message: /used by another narswarm process/ });
  child.kill('SIGKILL');
  await exited;
  lockDataDir(directory).close();
});

t.test('a lock with something else in it is emptied, and had by one process only', async (t) => {
  const directory = t.testdir();
  const path = join(directory, dataLockName);
  const script = `
    const { lockDataDir } = await import(${JSON.stringify(module)});
    process.stdin.once('data', () => {
      try {
        lockDataDir(${JSON.stringify(directory)});
        process.stdout.write('held');
      } catch (error) {
        process.stdout.write(/another narswarm process/.test(error.message) ? 'refused' : error.message);
      }
    });
    process.stdin.once('end', () => process.exit());
    process.stdout.write('ready');`;
  const children = Array.from({ length: 5 }, () =>
    spawn(process.execPath, ['--input-type=module', '--eval', script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    }),
  );
  const said = async (): Promise<string[]> =>
    Promise.all(children.map(async ({ stdout }) => String((await once(stdout, 'data'))[0])));
  await said();
  await writeFile(path, Buffer.alloc(20_000, 'no lock'));
  const answers = said();
  for (const { stdin } of children) stdin.write('now');
  t.same((await answers).sort(), ['held', 'refused', 'refused', 'refused', 'refused']);
  await writeFile(path, 'no lock again, while it is held');
  t.throws(() => lockDataDir(directory), { message: /used by another narswarm process/ });
  await Promise.all(
    children.map((child) => {
      const exited = once(child, 'exit');
      child.stdin.end();
      return exited;
    }),
  );
  lockDataDir(directory).close();
  t.equal((await stat(path)).size, 0);
});

t.test('a directory that cannot be had is named', async (t) => {
  const directory = t.testdir();
  await writeFile(join(directory, 'file'), '');
  t.throws(() => lockDataDir(join(directory, 'file', 'x')), {
    code: 'store-failed',
    message: /cannot make the data directory .*file\/x: a file is where a directory should be/,
  });
  await mkdir(join(directory, 'lock.sqlite'));
  t.throws(() => lockDataDir(directory), {
    code: 'store-failed',
    message: /lock\.sqlite is a directory: move it away/,
  });
});
