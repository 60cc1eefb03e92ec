/** What is said when a database cannot be opened. */

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { openCatalog } from '../../catalog/catalog.ts';
import { obstacleAt, withObstacle } from '../../store/disk-error.ts';

const module = fileURLToPath(new URL('../../store/disk-error.ts', import.meta.url));
const isRoot = process.getuid?.() === 0;
const nobody = 65_534;

t.test('nothing is said of a file that can be had, or can be made', async (t) => {
  const dir = t.testdir({ 'a.sqlite': '' });
  t.equal(obstacleAt(join(dir, 'a.sqlite')), undefined);
  t.equal(obstacleAt(join(dir, 'b.sqlite')), undefined);
  t.throws(
    () =>
      withObstacle(join(dir, 'a.sqlite'), () => {
        throw new Error('another reason');
      }),
    { message: 'another reason' },
  );
});

t.test('a directory in its place, or beside it, is named', async (t) => {
  const dir = t.testdir({ 'a.sqlite': '' });
  mkdirSync(join(dir, 'a.sqlite-wal'));
  t.equal(obstacleAt(join(dir, 'a.sqlite')), `${join(dir, 'a.sqlite-wal')} is a directory: move it away`);
  t.match(obstacleAt(dir), /is a directory: move it away/);
});

t.test('another owner is named', { skip: isRoot ? false : 'needs root' }, async (t) => {
  const dir = t.testdir({ 'a.sqlite': '' });
  chmodSync(dir, 0o777);
  chmodSync(join(dir, 'a.sqlite'), 0o600);
  // To be read by anybody, wherever this checkout lies: the module is loaded before.
  const script = `
    const { obstacleAt } = await import(${JSON.stringify(module)});
    process.setuid(${nobody});
    console.log(obstacleAt(${JSON.stringify(join(dir, 'a.sqlite'))}));`;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '--eval', script], {
    encoding: 'utf8',
  });
  t.match(stdout, new RegExp(`the user ${nobody} cannot read and write .*permission is denied: give it`));
});

t.test("a seeder's catalog that is damaged is not made anew: others follow it", async (t) => {
  const path = join(t.testdir(), 'catalog.sqlite');
  writeFileSync(path, Buffer.alloc(20_000, 'no database'));
  t.throws(() => withObstacle(path, () => openCatalog(path), 'put a copy in its place'), {
    code: 'store-failed',
    message: `${path} is damaged: put a copy in its place`,
  });
});
