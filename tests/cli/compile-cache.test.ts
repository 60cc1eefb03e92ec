import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { compileCacheDir } from '../../cli/compile-cache.ts';
import { runCommand } from './run-command.ts';

t.test('a start leaves compiled code where caches belong, and nowhere else', async (t) => {
  const base = t.testdir();
  const env = { XDG_CACHE_HOME: base, NODE_COMPILE_CACHE: '', CACHE_DIRECTORY: '', TMPDIR: base };
  const { status } = await runCommand(['status', '--help'], { env });
  t.equal(status, 0);
  t.same(readdirSync(base), ['narswarm']);
  t.not(readdirSync(join(base, 'narswarm', 'compiled')).length, 0);
});

t.test('a cache directory that cannot be written does not keep a command from running', async (t) => {
  const base = t.testdir({ file: '' });
  const env = { XDG_CACHE_HOME: join(base, 'file'), NODE_COMPILE_CACHE: '', CACHE_DIRECTORY: '' };
  const { status, errors } = await runCommand(['status', '--help'], { env });
  t.equal(status, 0);
  t.equal(errors, '');
});

t.test('systemd comes first, then XDG, then the home directory', async (t) => {
  const env = { CACHE_DIRECTORY: '/var/cache/a:/var/cache/b', XDG_CACHE_HOME: '/x', HOME: '/home/u' };
  t.equal(compileCacheDir(env), '/var/cache/a/compiled');
  t.equal(compileCacheDir({ ...env, CACHE_DIRECTORY: '' }), '/x/narswarm/compiled');
  t.equal(compileCacheDir({ HOME: '/home/u' }), '/home/u/.cache/narswarm/compiled');
  t.equal(compileCacheDir({ XDG_CACHE_HOME: 'relative' }), undefined);
});
