/**
 * The stories of the NAR files fetched lately, kept on disk so that they can be told after a restart.
 *
 * It is a diary and nothing depends on it: a disk that takes no more of it costs stories, never a fetch. Stories are written many at
 * a time, as one transaction for each would cost more than a tiny NAR file does.
 */

import type { DatabaseSync } from 'node:sqlite';
import type { StoreHash } from '../../nar/store-path.ts';
import type { Logger } from '../../web/log.ts';
import { openDisposable } from '../state/disposable-database.ts';
import type { NarStory } from '../story.ts';

/** Raised by whoever changes the table or the stories in it. What is older is thrown away. */
const schemaVersion = 2;

/** Stories told for one store path. */
export const storiesOfPathMax = 5;

/** Stories that wait to be written: a second's worth of the fastest closure. More are written at once. */
const waitingMax = 256;

/** Milliseconds that a story waits to be written with others. */
const writeAfterMs = 1_000;

/** Rows removed at once when there are too many. */
const trimRows = 256;

const schema = `
CREATE TABLE stories (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  store_hash TEXT NOT NULL,
  name TEXT NOT NULL,
  file_hash TEXT NOT NULL,
  story TEXT NOT NULL
) STRICT;
CREATE INDEX stories_store_hash ON stories (store_hash);
CREATE INDEX stories_name ON stories (name);
CREATE INDEX stories_file_hash ON stories (file_hash);
`;

export interface HistoryOptions {
  path: string;
  /** Kept at most, the newest ones. */
  stories: number;
  logger: Logger;
}

export class History {
  readonly #options: HistoryOptions;
  readonly #db: DatabaseSync | undefined;
  #waiting: NarStory[] = [];
  #timer: NodeJS.Timeout | undefined;
  #rows = 0;
  #failing = false;
  #closed = false;

  /** Never throws: without its file it remembers what waits to be written, and no more. */
  constructor(options: HistoryOptions) {
    this.#options = options;
    this.#db = this.#openDatabase();
    if (this.#db === undefined) return;
    this.#rows = Number(this.#db.prepare('SELECT count(*) AS rows FROM stories').get()?.rows);
  }

  add(story: NarStory): void {
    if (this.#closed) return;
    this.#waiting.push(story);
    if (this.#waiting.length >= waitingMax) this.#write();
    else this.#timer ??= setTimeout(() => this.#write(), writeAfterMs);
  }

  /** The newest first, at most `storiesOfPathMax`. */
  ofStoreHash(storeHash: StoreHash): NarStory[] {
    const waiting = this.#waiting.filter((story) => story.storeHash === storeHash).reverse();
    return [...waiting, ...this.#written(storeHash)].slice(0, storiesOfPathMax);
  }

  /** Store paths that were fetched and have that name, with or without its version, or that FileHash; the newest first. */
  search(word: string, limit: number): StoreHash[] {
    const waiting = this.#waiting.filter((story) => isNamed(story, word)).map(({ storeHash }) => storeHash);
    return [...new Set([...waiting.reverse(), ...this.#writtenNamed(word, limit)])].slice(0, limit);
  }

  status(): { stories: number } {
    return { stories: this.#rows + this.#waiting.length };
  }

  /** May be called twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#write();
    this.#db?.close();
  }

  #written(storeHash: StoreHash): NarStory[] {
    if (this.#db === undefined || this.#closed) return [];
    try {
      return this.#db
        .prepare('SELECT story FROM stories WHERE store_hash = ? ORDER BY number DESC LIMIT ?')
        .all(storeHash, storiesOfPathMax)
        .map(({ story }) => JSON.parse(String(story)) as NarStory);
    } catch (error) {
      this.#failed(error);
      return [];
    }
  }

  #writtenNamed(word: string, limit: number): StoreHash[] {
    if (this.#db === undefined || this.#closed) return [];
    try {
      return this.#db
        .prepare(
          `SELECT store_hash, max(number) AS newest FROM stories
          WHERE name = ?1 OR (name >= ?1 || '-0' AND name < ?1 || '-:') OR file_hash = ?1
          GROUP BY store_hash ORDER BY newest DESC LIMIT ?2`,
        )
        .all(word, limit)
        .map(({ store_hash }) => store_hash as StoreHash);
    } catch (error) {
      this.#failed(error);
      return [];
    }
  }

  #write(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const stories = this.#waiting;
    if (this.#db === undefined) {
      // The newest are still told.
      this.#waiting = stories.slice(-(waitingMax >> 1));
      return;
    }
    this.#waiting = [];
    try {
      this.#db.exec('BEGIN IMMEDIATE');
      const insert = this.#db.prepare(
        'INSERT INTO stories (store_hash, name, file_hash, story) VALUES (?, ?, ?, ?)',
      );
      for (const story of stories)
        insert.run(story.storeHash, nameOf(story), story.fileHash, JSON.stringify(story));
      const rows = this.#trim(this.#db, this.#rows + stories.length);
      this.#db.exec('COMMIT');
      this.#rows = rows;
      this.#failing = false;
    } catch (error) {
      this.#failed(error);
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
    }
  }

  /** How many rows are left of `rows`. */
  #trim(db: DatabaseSync, rows: number): number {
    const { stories } = this.#options;
    if (rows <= stories) return rows;
    const many = Math.min(rows, rows - stories + Math.min(trimRows, Math.ceil(stories / 8)));
    const oldest = 'SELECT number FROM stories ORDER BY number LIMIT ?';
    const { changes } = db.prepare(`DELETE FROM stories WHERE number IN (${oldest})`).run(many);
    return rows - Number(changes);
  }

  #openDatabase(): DatabaseSync | undefined {
    const { path, logger } = this.#options;
    try {
      return openDisposable({
        ...{ path, schema, tables: ['stories'], version: schemaVersion, exclusive: true },
        onDamaged: (error) => logger.warn('history-made-anew', { path, error }),
      });
    } catch (error) {
      logger.warn('history-failed', { path, error });
      return undefined;
    }
  }

  /** Said once, until it works again. */
  #failed(error: unknown): void {
    if (!this.#failing) this.#options.logger.warn('history-failed', { path: this.#options.path, error });
    this.#failing = true;
  }
}

/** `hello` is the name of hello-2.12, and not of hello-world-1.0: a version begins with a digit. */
function isNamed(story: NarStory, word: string): boolean {
  const name = nameOf(story);
  return (
    story.fileHash === word ||
    name === word ||
    (name.startsWith(`${word}-`) && /^\d/.test(name.slice(word.length + 1)))
  );
}

/** Of the store path, without its hash. */
function nameOf({ storePath }: NarStory): string {
  return storePath.slice(storePath.lastIndexOf('/') + 1).slice(33);
}
