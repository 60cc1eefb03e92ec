/** Turns what the file system says into words that an operator can act upon. */

import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { databaseFiles } from './database-files.ts';

const plainWords: Record<string, string> = {
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EROFS: 'the file system is read-only',
  EIO: 'the disk reports a hardware error',
  EACCES: 'permission is denied',
  EPERM: 'permission is denied',
  EMFILE: 'this process has too many open files',
  ENFILE: 'this machine has too many open files',
  ENOTDIR: 'a file is where a directory should be',
  EEXIST: 'a file is where a directory should be',
  EFBIG: 'the file is larger than the file system allows',
};

/** `attempt` completes the sentence "cannot …"; the original error is the cause. */
export function diskError(attempt: string, cause: unknown): NarswarmError {
  if (cause instanceof NarswarmError) return cause;
  const code = errorCode(cause);
  const why = plainWords[code ?? ''] ?? (cause instanceof Error ? cause.message : String(cause));
  return new NarswarmError('store-failed', `cannot ${attempt}: ${why}`, { cause });
}

/**
 * What keeps this process from having a file, or a directory, for reading and writing, and what to do about it: SQLite tells neither. `undefined` when the
 * file system has nothing against it. For the start alone: it waits for the disk.
 */
export function obstacleAt(path: string): string | undefined {
  const files = databaseFiles(path);
  try {
    const directory = files.find((each) => statSync(each, { throwIfNoEntry: false })?.isDirectory());
    if (directory !== undefined) return `${directory} is a directory: move it away`;
    for (const each of [dirname(path), ...files])
      if (existsSync(each)) accessSync(each, constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    const at = error instanceof Error && 'path' in error ? String(error.path) : path;
    const why = plainWords[errorCode(error) ?? ''] ?? String(error);
    const user = `the user ${process.getuid?.() ?? 'of this process'}`;
    return `${user} cannot read and write ${at}, ${why}: give it to that user, or start as its owner`;
  }
}

/** With those above it; one that is there is left as it is. Throws store-failed. */
export async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
  } catch (cause) {
    throw diskError(`make the directory ${path}`, cause);
  }
}

/**
 * Runs what opens a database, and says what to do when the file system has something against it; `damaged`: what to do when it is no database, or a
 * damaged one. Throws store-failed then.
 */
export function withObstacle<T>(path: string, open: () => T, damaged?: string): T {
  try {
    return open();
  } catch (cause) {
    const why =
      obstacleAt(path) ?? (damaged && isDamaged(cause) ? `${path} is damaged: ${damaged}` : undefined);
    if (why === undefined) throw cause;
    throw new NarswarmError('store-failed', why, { cause });
  }
}

/** SQLite's code for a write that found no room. */
const sqliteFull = 13;

/** True when the disk or a quota is full, whether a file or a database found out. */
export function isDiskFull(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = errorCode(error);
  if (code === 'ENOSPC' || code === 'EDQUOT') return true;
  return ('errcode' in error && error.errcode === sqliteFull) || isDiskFull(error.cause);
}

/** SQLite's codes for a table that is not there, for a page that holds what cannot be, and for a file that is no database. */
const sqliteDamaged: ReadonlySet<number> = new Set([1, 11, 26]);

/** True when a database, or a narinfo in one, is not what was written there. */
export function isDamaged(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ('errcode' in error && typeof error.errcode === 'number' && sqliteDamaged.has(error.errcode & 0xff))
    return true;
  return isNarswarmError(error, 'narinfo-corrupt') || isDamaged(error.cause);
}

/** The system's code for an error, such as `ENOENT`. */
export function errorCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
