/**
 * Keeps what Node makes of the program's TypeScript and its packages: stripping the types and compiling take half of the CPU time
 * of a start, and again in each worker thread and child process.
 */

import module from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';

/**
 * Below systemd's CacheDirectory= when it is set, else where the XDG rules put caches: not in Node's default, the shared temporary
 * directory, where another user could put code. `undefined` where the user has no home.
 */
export function compileCacheDir(env: Readonly<Record<string, string | undefined>>): string | undefined {
  const cacheDir = env.CACHE_DIRECTORY?.split(':')[0];
  if (cacheDir) return join(cacheDir, 'compiled');
  const base = env.XDG_CACHE_HOME || join(env.HOME || homedir(), '.cache');
  return base.startsWith('/') ? join(base, 'narswarm', 'compiled') : undefined;
}

/**
 * To be called before the large modules are imported. Node compares what it kept with the source, does without where the directory
 * cannot be written, and obeys NODE_COMPILE_CACHE and NODE_DISABLE_COMPILE_CACHE.
 */
export function keepCompiled(env: NodeJS.ProcessEnv): void {
  const directory = env.NODE_COMPILE_CACHE || compileCacheDir(env);
  // Older than Node 22 has none.
  if (directory === undefined || typeof module.enableCompileCache !== 'function') return;
  module.enableCompileCache(directory);
  // Threads and children only look here.
  env.NODE_COMPILE_CACHE = directory;
}
