/** Turns what the file system says into words that an operator can act upon. */

import { isNarswarmError, NarswarmError } from '../nar/errors.ts';

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
  EFBIG: 'the file is larger than the file system allows',
};

/** `attempt` completes the sentence "cannot …"; the original error is the cause. */
export function diskError(attempt: string, cause: unknown): NarswarmError {
  if (cause instanceof NarswarmError) return cause;
  const code = errorCode(cause);
  const why = plainWords[code ?? ''] ?? (cause instanceof Error ? cause.message : String(cause));
  return new NarswarmError('store-failed', `cannot ${attempt}: ${why}`, { cause });
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
