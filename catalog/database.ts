/**
 * Opens the SQLite file of a catalog: checks that it is one, brings its schema up to date, sets how it is written.
 */

import { DatabaseSync } from 'node:sqlite';
import { type ErrorCode, isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { migrations } from './schema.ts';

/** "narw" in the header of the file, so that a database of another program is never taken for a catalog. */
export const catalogApplicationId = 0x6e617277;

/**
 * Pages that SQLite keeps in memory: enough for the inner pages of what a handshake looks up, at 10 million NAR files. What is missing is one
 * read from the system's own cache; with twice as much, a seeder of a million NAR files took 30 MiB more.
 */
export const catalogCacheBytes = 16 * 1024 * 1024;

/**
 * Pages of 8 KiB in the write-ahead log before they are moved into the database: 32 MiB. With SQLite's default, 1000
 * pages, the same pages are written so often that one row a transaction is a quarter slower.
 */
export const catalogLogPages = 4000;

/** The same where another thread moves them, 512 MiB: only reached when that one fails. */
export const catalogLogPagesElsewhere = 64_000;

/** The write-ahead log is cut back to this after a large transaction, so that it does not keep the disk. */
export const catalogLogMaxBytes = 64 * 1024 * 1024;

/** How long a write waits for another process, such as a backup, that holds the database. */
export const catalogBusyMs = 5000;

/** A narinfo is 2 KB on average, of which a page of 4 KiB would hold only one. */
const pageBytes = 8192;

/** What a database file is for: the number in its header, its tables, and what messages call it. */
export interface DatabaseKind {
  readonly applicationId: number;
  readonly migrations: readonly string[];
  readonly name: string;
}

const catalogKind: DatabaseKind = { applicationId: catalogApplicationId, migrations, name: 'catalog' };

export interface DatabaseOptions {
  /** A seeder's catalog by default. */
  kind?: DatabaseKind;
  /** Who moves pages from the log into the database: whoever writes, or a checkpointer. */
  checkpoints?: 'here' | 'elsewhere';
}

/**
 * Throws catalog-incompatible for a database that is no catalog or has a newer schema, and leaves it as it was;
 * catalog-corrupt or store-failed when it cannot be read.
 */
export function openDatabase(path: string, options: DatabaseOptions = {}): DatabaseSync {
  const { kind = catalogKind } = options;
  const db = attempt(`opening the ${kind.name}`, () => new DatabaseSync(path, { timeout: catalogBusyMs }));
  try {
    return attempt(`opening the ${kind.name} ${path}`, () => {
      const version = readVersion(db, path, kind);
      if (version === 0) db.exec(`PRAGMA page_size = ${pageBytes}`);
      // The log makes a transaction one sequential write. NORMAL: after a power cut the last transactions may be
      // missing, which a scan makes good; the file is consistent always.
      db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY');
      db.exec(
        `PRAGMA journal_size_limit = ${catalogLogMaxBytes}; PRAGMA cache_size = ${-catalogCacheBytes / 1024}`,
      );
      const logPages = options.checkpoints === 'elsewhere' ? catalogLogPagesElsewhere : catalogLogPages;
      db.exec(`PRAGMA wal_autocheckpoint = ${logPages}`);
      if (version < kind.migrations.length) migrate(db, kind);
      return db;
    });
  } catch (error) {
    db.close();
    throw error;
  }
}

/** Runs `action` and turns what SQLite throws into errors of our own. */
export function attempt<T>(what: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (isNarswarmError(error)) throw error;
    const code = codeOf(error);
    if (code === undefined) throw error;
    throw new NarswarmError(code, `${what}: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    });
  }
}

/** `attempt` for an action that waits. */
export async function attemptAsync<T>(what: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    return attempt(what, () => {
      throw error;
    });
  }
}

/** Begins a transaction that writes, if nobody else is writing: by itself SQLite sleeps, in the thread that asks, until they are done. */
export function beginIfFree(db: DatabaseSync): boolean {
  db.exec('PRAGMA busy_timeout = 0');
  try {
    db.exec('BEGIN IMMEDIATE');
    return true;
  } catch (error) {
    if (isBusy(error)) return false;
    throw error;
  } finally {
    db.exec(`PRAGMA busy_timeout = ${catalogBusyMs}`);
  }
}

/** Whether SQLite threw this because somebody else is writing. */
export function isBusy(error: unknown): boolean {
  return kindOf(error) === sqliteBusy;
}

const sqliteBusy = 5;
const sqliteCorrupt = 11;
const sqliteNotADatabase = 26;

function codeOf(error: unknown): ErrorCode | undefined {
  const kind = kindOf(error);
  if (kind === undefined) return undefined;
  if (kind === sqliteNotADatabase) return 'catalog-incompatible';
  return kind === sqliteCorrupt ? 'catalog-corrupt' : 'store-failed';
}

/** The low byte of SQLite's code is the kind, the rest says more about it. */
function kindOf(error: unknown): number | undefined {
  if (!(error instanceof Error && 'errcode' in error && typeof error.errcode === 'number')) return undefined;
  return error.errcode & 0xff;
}

function readVersion(
  db: DatabaseSync,
  path: string,
  { applicationId: own, migrations, name }: DatabaseKind,
): number {
  const applicationId = readNumber(db, 'SELECT application_id AS value FROM pragma_application_id');
  const version = readNumber(db, 'SELECT user_version AS value FROM pragma_user_version');
  const objects = readNumber(db, 'SELECT count(*) AS value FROM sqlite_schema');
  if (applicationId === 0 && version === 0 && objects === 0) return 0;
  if (applicationId !== own) {
    throw new NarswarmError(
      'catalog-incompatible',
      `${path} is a database of another program, not a ${name}`,
    );
  }
  if (version > migrations.length) {
    throw new NarswarmError(
      'catalog-incompatible',
      `${path} was written by a newer narswarm: its schema is ${version}, this one knows up to ${migrations.length}`,
    );
  }
  return version;
}

/**
 * Runs the missing migrations in one transaction. The version is read again inside it: another process may have been
 * first.
 */
function migrate(db: DatabaseSync, { applicationId, migrations }: DatabaseKind): void {
  db.exec('BEGIN IMMEDIATE');
  try {
    const version = readNumber(db, 'SELECT user_version AS value FROM pragma_user_version');
    for (const statements of migrations.slice(version)) db.exec(statements);
    db.exec(`PRAGMA application_id = ${applicationId}; PRAGMA user_version = ${migrations.length}`);
    db.exec('COMMIT');
  } catch (error) {
    db.exec('ROLLBACK');
    throw error;
  }
}

function readNumber(db: DatabaseSync, sql: string): number {
  return Number(db.prepare(sql).get()?.value);
}
