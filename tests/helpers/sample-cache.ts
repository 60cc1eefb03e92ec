/** A signed cache of real content, made by the commands that users have, and what its narinfos say. */

import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const main = join(import.meta.dirname, '../../cli/main.ts');

export interface SampleNarInfo {
  /** Of the file. */
  readonly name: string;
  readonly text: string;
}

export interface SampleCache {
  readonly dir: string;
  readonly narInfos: readonly SampleNarInfo[];
  /** `--trusted-key`, with the key that signed it. */
  readonly trusted: readonly string[];
  /** Runs a command to its end; gives what it prints. */
  narswarm(...args: string[]): Promise<string>;
}

/** In `dir`/cache, beside its key. `flags`: further ones of `narswarm sample-cache`. */
export async function makeSampleCache(
  dir: string,
  paths: number,
  median: string,
  flags: readonly string[] = [],
): Promise<SampleCache> {
  const narswarm = async (...args: string[]): Promise<string> =>
    (await promisify(execFile)(process.execPath, [main, ...args], { cwd: dir })).stdout;
  await narswarm('keygen', 'cache.test-1', '--out', dir);
  const cacheDir = join(dir, 'cache');
  await narswarm(
    ...['sample-cache', cacheDir, '--paths', `${paths}`, '--median', median],
    ...['--secret-key', join(dir, 'cache.test-1.secret'), ...flags],
  );
  const names = (await readdir(cacheDir)).filter((name) => name.endsWith('.narinfo'));
  const narInfos = await Promise.all(
    names.map(async (name) => ({ name, text: await readFile(join(cacheDir, name), 'utf8') })),
  );
  const trusted = ['--trusted-key', join(dir, 'cache.test-1.public')];
  return { dir: cacheDir, narInfos, trusted, narswarm };
}

/** The value of a line of a narinfo. */
export function fieldOf({ text }: SampleNarInfo, name: string): string {
  return new RegExp(`^${name}: (.*)$`, 'm').exec(text)?.[1] ?? '';
}

/** Its store path without the store directory, as References name it. */
export function baseNameOf(narInfo: SampleNarInfo): string {
  return fieldOf(narInfo, 'StorePath').slice('/nix/store/'.length);
}
