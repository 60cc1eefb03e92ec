/** A database of what is good to know and nothing depends on: one that is damaged, or of another version, is made anew. */

import { DatabaseSync } from 'node:sqlite';
import { removeDatabase } from '../../store/database-files.ts';

export interface DisposableDatabase {
  path: string;
  /** Makes `tables`. */
  schema: string;
  tables: readonly string[];
  /** Raised by whoever changes the schema. */
  version: number;
  /** No other connection is let in. */
  exclusive?: boolean;
  /** It is thrown away. */
  onDamaged?(error: unknown): void;
}

/** Throws when a new one cannot be made either. */
export function openDisposable(database: DisposableDatabase): DatabaseSync {
  const { path, onDamaged } = database;
  try {
    return open(database);
  } catch (error) {
    onDamaged?.(error);
    removeDatabase(path);
    return open(database);
  }
}

function open({ path, schema, tables, version, exclusive = false }: DisposableDatabase): DatabaseSync {
  const db = new DatabaseSync(path);
  try {
    if (exclusive) db.exec('PRAGMA locking_mode = EXCLUSIVE');
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE');
    if (Number(db.prepare('PRAGMA user_version').get()?.user_version) !== version) {
      for (const table of tables) db.exec(`DROP TABLE IF EXISTS ${table}`);
      db.exec(`${schema}; PRAGMA user_version = ${version}`);
    }
    db.exec('COMMIT');
    // A damaged one is found here.
    for (const table of tables) db.prepare(`SELECT count(*) FROM ${table}`).get();
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}
