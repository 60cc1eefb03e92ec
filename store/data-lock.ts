/**
 * A data directory belongs to one process: a second one would remove what the first is writing.
 *
 * Node has no flock; SQLite's lock on a database of its own is one of the system's, so that it goes with the process
 * however that ends, and nothing has to be cleaned up after a kill.
 */

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { NarswarmError } from '../nar/errors.ts';
import { diskError } from './disk-error.ts';

export const dataLockName = 'lock.sqlite';

/** SQLite's code for a database that another process has locked. */
const sqliteBusy = 5;

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
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(join(directory, dataLockName));
    // Without a journal on disk: nothing is ever written, only the lock is held.
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (cause) {
    database?.close();
    const busy = cause instanceof Error && 'errcode' in cause && cause.errcode === sqliteBusy;
    const why = busy ? 'is used by another narswarm process' : 'cannot be written';
    throw new NarswarmError('store-failed', `the data directory ${directory} ${why}`, { cause });
  }
  const held = database;
  let open = true;
  return {
    close() {
      if (!open) return;
      open = false;
      held.close();
    },
  };
}
