/**
 * A data directory belongs to one process: a second one would remove what the first is writing.
 *
 * Node has no flock; SQLite's lock on a database of its own is one of the system's, so that it goes with the process
 * however that ends, and nothing has to be cleaned up after a kill.
 */

import { lstatSync, mkdirSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { NarswarmError } from '../nar/errors.ts';
import { diskError, obstacleAt, withObstacle } from './disk-error.ts';

export const dataLockName = 'lock.sqlite';

/** SQLite's code for a database that another process has locked, and those for what is none or damaged. */
const sqliteBusy = 5;
const sqliteDamaged: readonly unknown[] = [11, 26];

export interface DataLock {
  /** May be called twice. */
  close(): void;
}

/** Makes the directory if it is missing. Throws store-failed when it cannot be written, or when another process has it. */
export function lockDataDir(directory: string): DataLock {
  try {
    mkdirSync(directory, { recursive: true });
  } catch (cause) {
    throw diskError(`make the data directory ${directory}`, cause);
  }
  const path = join(directory, dataLockName);
  const held = attemptLock(directory, path);
  let open = true;
  return {
    close() {
      if (!open) return;
      open = false;
      held.close();
    },
  };
}

function attemptLock(directory: string, path: string): DatabaseSync {
  for (let emptied = false; ; emptied = true) {
    const database = withObstacle(path, () => new DatabaseSync(path));
    try {
      // Without a journal on disk: nothing is ever written, only the lock is held.
      database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
      return database;
    } catch (cause) {
      database.close();
      const code = cause instanceof Error && 'errcode' in cause ? cause.errcode : undefined;
      if (sqliteDamaged.includes(code) && !emptied) {
        empty(path);
        continue;
      }
      if (code === sqliteBusy)
        throw new NarswarmError(
          'store-failed',
          `the data directory ${directory} is used by another narswarm process`,
          { cause },
        );
      const why = obstacleAt(path) ?? `${path} cannot be locked`;
      throw new NarswarmError('store-failed', `the data directory ${directory} cannot be used: ${why}`, {
        cause,
      });
    }
  }
}

/**
 * What is in the lock is of no use to anybody. SQLite looks at it only with a lock of its own, so that nobody holds this one; and the file stays, so
 * that whoever locks it meanwhile has locked what everybody will: a new one in its place could be had by a second process.
 */
function empty(path: string): void {
  if (!lstatSync(path).isFile())
    throw new NarswarmError('store-failed', `${path} is no ordinary file: move it away`);
  truncateSync(path);
}
