/**
 * The narinfos that were given out, so that Nix may ask for their NAR files weeks later, also of a client that was killed meanwhile.
 *
 * Those of a closure are asked for thousands at a time. So what is given out is first only appended, all of one turn of the event loop in one
 * transaction: that much must be done before the answers leave. Into the table with its indexes, which takes ten times as long, rows go
 * when nothing was given out and no NAR file asked for for a moment, or too many wait.
 */

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { type NarInfo, parseNarInfo } from '../../nar/narinfo.ts';
import type { StoreHash } from '../../nar/store-path.ts';
import { isNamedByHash } from '../local-url.ts';

/** Narinfos that are in memory until they are in the table: those of one large closure, 3 KiB each. */
const waitingMax = 4_000;

/** Their characters together: one may have 4 MiB. */
const waitingMaxCharacters = 16 * 1024 * 1024;

/** Narinfos kept in memory while the disk takes none, with no more characters than those that wait. */
const unsavedMax = 5_000;

/** Milliseconds without a narinfo, and without a NAR file of one that waits, before they are moved: Nix asks for these as soon as it has the narinfos. */
const quietMs = 200;

/** Rows moved at once, which takes milliseconds, and milliseconds until the next. */
const moveRows = 100;
const moveEveryMs = 5;

/** Rows removed at once when the table is full, so that a full table is not trimmed at every insert. */
const trimRows = 256;

/** A narinfo as it was given out. */
export interface GivenNarInfo {
  storeHash: StoreHash;
  /** The path and query under which its NAR file is served here, without the leading slash. */
  urlKey: string;
  /** Base URL of the cache or catalog it came from. */
  origin: string;
  /** Its URL as the origin wrote it. */
  narUrl: string;
  /** Parsed from the text given out. */
  narInfo: NarInfo;
}

export const givenSchema = `
CREATE TABLE given (
  store_hash TEXT NOT NULL,
  url_key TEXT NOT NULL,
  origin TEXT NOT NULL,
  nar_url TEXT NOT NULL,
  text TEXT NOT NULL,
  used INTEGER NOT NULL,
  PRIMARY KEY (store_hash, url_key)
) STRICT;
CREATE INDEX given_url ON given (url_key);
CREATE INDEX given_used ON given (used);
`;

/** Came later than the others: a database without it is brought up to date. */
const waitingSchema = `
CREATE TABLE IF NOT EXISTS given_waiting (
  id INTEGER PRIMARY KEY,
  store_hash TEXT NOT NULL,
  url_key TEXT NOT NULL,
  origin TEXT NOT NULL,
  nar_url TEXT NOT NULL,
  text TEXT NOT NULL,
  used INTEGER NOT NULL
) STRICT;
`;

type Values = readonly [
  storeHash: string,
  urlKey: string,
  origin: string,
  narUrl: string,
  text: string,
  used: number,
];

interface Entry {
  readonly given: GivenNarInfo;
  /** In microseconds since 1970, ascending. */
  readonly used: number;
  /** In the table of those that wait; 0 before it is there. */
  id: number;
}

export interface GivenOptions {
  /** Narinfos remembered. */
  limit: number;
  /** In microseconds since 1970, strictly ascending. */
  now(): number;
  /** Gives what a read gives, and nothing where the database is damaged. */
  read<T>(action: () => T): T | undefined;
}

export class GivenNarInfos {
  readonly #db: DatabaseSync;
  readonly #now: () => number;
  readonly #read: GivenOptions['read'];
  readonly #sql: ReturnType<typeof prepareStatements>;
  readonly #waitingMax: number;
  readonly #tableMax: number;
  /** Given out in this turn. */
  #giving: Entry[] = [];
  #written: PromiseWithResolvers<void> | undefined;
  #writing: NodeJS.Immediate | undefined;
  /** Written, and not in the table yet; the oldest first. */
  #waiting: Entry[] = [];
  #waitingCharacters = 0;
  #moving: NodeJS.Timeout | undefined;
  /** When one of those that wait was last asked for by its URL. */
  #usedMs = Number.NEGATIVE_INFINITY;
  /** The last of those that are not in the table, also when they could not be written. */
  readonly #byUrl = new Map<string, Entry>();
  readonly #byStoreHash = new Map<StoreHash, Entry>();
  #rows = 0;
  #inserts = 0;
  #urlsAreHashes: boolean;

  /** The database has `givenSchema` and the table of facts. What waited when the client was killed is moved. */
  constructor(db: DatabaseSync, { limit, now, read }: GivenOptions) {
    this.#db = db;
    this.#now = now;
    this.#read = read;
    this.#waitingMax = Math.min(waitingMax, Math.ceil(limit / 8));
    this.#tableMax = limit - this.#waitingMax;
    db.exec(waitingSchema);
    this.#sql = prepareStatements(db);
    this.#rows = Number(this.#sql.count.get()?.rows);
    for (const row of this.#sql.allWaiting.all()) this.#save(valuesOf(row));
    db.exec('DELETE FROM given_waiting');
    // What is there without the fact was given out before it was kept.
    this.#urlsAreHashes = this.#rows === 0 || this.#sql.hashes.get() !== undefined;
    if (this.#urlsAreHashes && this.#sql.hashes.get() === undefined) this.#sql.putHashes.run();
  }

  /** Resolves when it is known also after a kill. When it rejects, it is known until the client stops. */
  give(given: GivenNarInfo): Promise<void> {
    const entry = { given, used: this.#now(), id: 0 };
    this.#giving.push(entry);
    if (!isNamedByHash(given.urlKey, given.narInfo.fileHash)) this.#urlsAreHashes = false;
    this.#byUrl.set(given.urlKey, entry);
    this.#byStoreHash.set(given.storeHash, entry);
    if (this.#written === undefined) {
      this.#written = Promise.withResolvers();
      this.#writing = setImmediate(() => this.#endTurn());
    }
    return this.#written.promise;
  }

  /** Narinfos that were new here since the start: what was given before as many as are remembered may be forgotten. */
  get inserts(): number {
    return this.#inserts;
  }

  get count(): number {
    return this.#rows + this.#waiting.length;
  }

  /** The one that was given out last for a store path, and when that was, in milliseconds since 1970. */
  byStoreHash(storeHash: StoreHash): { given: GivenNarInfo; atMs: number } | undefined {
    const entry = this.#byStoreHash.get(storeHash) ?? this.#entry(this.#sql.byStoreHash, storeHash);
    return entry && { given: entry.given, atMs: Math.floor(entry.used / 1000) };
  }

  /** The one that was given out last with a URL. */
  byUrl(urlKey: string): GivenNarInfo | undefined {
    const waiting = this.#byUrl.get(urlKey);
    if (waiting !== undefined) this.#usedMs = performance.now();
    return (waiting ?? this.#entry(this.#sql.byUrl, urlKey))?.given;
  }

  /** Whether `isNamedByHash` of all URLs that are remembered here: then what one of them means need not be looked up. */
  get urlsAreHashes(): boolean {
    return this.#urlsAreHashes;
  }

  /** The store path of `byUrl`, for less. */
  storeHashByUrl(urlKey: string): StoreHash | undefined {
    const entry = this.#byUrl.get(urlKey);
    if (entry !== undefined) return entry.given.storeHash;
    const row = this.#read(() => this.#sql.storeHashByUrl.get(urlKey));
    return row?.store_hash as StoreHash | undefined;
  }

  #entry(statement: StatementSync, key: string): Entry | undefined {
    return this.#read(() => entryFrom(statement.get(key)));
  }

  /** Writes what was given out. What waits is moved at the next start. */
  close(): void {
    clearImmediate(this.#writing);
    this.#endTurn();
    clearTimeout(this.#moving);
  }

  #endTurn(): void {
    const [written, giving] = [this.#written, this.#giving];
    this.#written = undefined;
    this.#giving = [];
    if (written === undefined) return;
    try {
      this.#transaction(() => {
        if (!this.#urlsAreHashes) this.#sql.dropHashes.run();
        for (const entry of giving) {
          entry.id = Number(this.#sql.append.run(null, ...valuesIn(entry)).lastInsertRowid);
        }
      });
      this.#waiting.push(...giving);
      this.#waitingCharacters += charactersOf(giving);
      const tooMany = this.#waiting.length - this.#waitingMax;
      if (tooMany > 0) this.#move(Math.max(tooMany, moveRows));
      while (this.#waitingCharacters > waitingMaxCharacters) this.#move(moveRows);
      this.#moveIn(quietMs);
      written.resolve();
    } catch (error) {
      this.#forgetOldest();
      written.reject(error);
    }
  }

  #moveIn(ms: number): void {
    clearTimeout(this.#moving);
    this.#moving = setTimeout(() => {
      const busyMs = this.#usedMs + quietMs - performance.now();
      if (busyMs > 0) return this.#moveIn(busyMs);
      try {
        this.#move(moveRows);
        if (this.#waiting.length > 0) this.#moveIn(moveEveryMs);
      } catch {
        // They are safe where they are, and tried again when something else was written.
      }
    }, ms);
    // The process does not stay for it.
    this.#moving.unref();
  }

  #move(rows: number): void {
    const moved = this.#waiting.slice(0, rows);
    const last = moved.at(-1);
    if (last === undefined) return;
    this.#transaction(() => {
      for (const entry of moved) this.#save(valuesIn(entry));
      this.#sql.forgetWaiting.run(last.id);
    });
    this.#waiting = this.#waiting.slice(moved.length);
    this.#waitingCharacters -= charactersOf(moved);
    for (const entry of moved) this.#forget(entry);
  }

  #save(values: Values): void {
    const [storeHash, urlKey, ...rest] = values;
    if (this.#sql.insert.run(...values).changes === 0) {
      this.#sql.update.run(...rest, storeHash, urlKey);
      return;
    }
    this.#inserts++;
    this.#rows++;
    const tooMany = this.#rows - this.#tableMax;
    if (tooMany <= 0) return;
    const { changes } = this.#sql.trim.run(tooMany + Math.min(trimRows, Math.ceil(this.#tableMax / 8)));
    this.#rows -= Number(changes);
  }

  #transaction(work: () => void): void {
    const { rows, inserts } = { rows: this.#rows, inserts: this.#inserts };
    this.#db.exec('BEGIN');
    try {
      work();
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      this.#rows = rows;
      this.#inserts = inserts;
      throw error;
    }
  }

  #forget(entry: Entry): void {
    const { storeHash, urlKey } = entry.given;
    if (this.#byUrl.get(urlKey) === entry) this.#byUrl.delete(urlKey);
    if (this.#byStoreHash.get(storeHash) === entry) this.#byStoreHash.delete(storeHash);
  }

  /** The disk takes nothing: the memory does not take everything. */
  #forgetOldest(): void {
    for (const known of [this.#byUrl, this.#byStoreHash]) {
      let characters = charactersOf(known.values());
      for (const entry of known.values()) {
        if (known.size <= unsavedMax && characters <= waitingMaxCharacters) break;
        characters -= charactersOf([entry]);
        this.#forget(entry);
      }
    }
  }
}

function charactersOf(entries: Iterable<Entry>): number {
  let characters = 0;
  for (const { given } of entries) characters += given.narInfo.text.length;
  return characters;
}

function prepareStatements(db: DatabaseSync) {
  return {
    hashes: db.prepare("SELECT 1 FROM facts WHERE name = 'given-urls-are-hashes'"),
    putHashes: db.prepare("INSERT OR IGNORE INTO facts VALUES ('given-urls-are-hashes', '')"),
    dropHashes: db.prepare("DELETE FROM facts WHERE name = 'given-urls-are-hashes'"),
    count: db.prepare('SELECT count(*) AS rows FROM given'),
    append: db.prepare('INSERT INTO given_waiting VALUES (?, ?, ?, ?, ?, ?, ?)'),
    allWaiting: db.prepare('SELECT * FROM given_waiting ORDER BY id'),
    forgetWaiting: db.prepare('DELETE FROM given_waiting WHERE id <= ?'),
    insert: db.prepare('INSERT OR IGNORE INTO given VALUES (?, ?, ?, ?, ?, ?)'),
    update: db.prepare(
      'UPDATE given SET origin = ?, nar_url = ?, text = ?, used = ? WHERE store_hash = ? AND url_key = ?',
    ),
    trim: db.prepare('DELETE FROM given WHERE rowid IN (SELECT rowid FROM given ORDER BY used LIMIT ?)'),
    byStoreHash: db.prepare('SELECT * FROM given WHERE store_hash = ? ORDER BY used DESC LIMIT 1'),
    byUrl: db.prepare('SELECT * FROM given WHERE url_key = ? ORDER BY used DESC LIMIT 1'),
    storeHashByUrl: db.prepare('SELECT store_hash FROM given WHERE url_key = ? ORDER BY used DESC LIMIT 1'),
  };
}

type Row = Record<string, unknown>;

function valuesIn({ given, used }: Entry): Values {
  return [given.storeHash, given.urlKey, given.origin, given.narUrl, given.narInfo.text, used];
}

function valuesOf(row: Row): Values {
  const text = (name: string): string => String(row[name]);
  return [
    text('store_hash'),
    text('url_key'),
    text('origin'),
    text('nar_url'),
    text('text'),
    Number(row.used),
  ];
}

function entryFrom(row: Row | undefined): Entry | undefined {
  if (row === undefined) return undefined;
  const [storeHash, urlKey, origin, narUrl, text, used] = valuesOf(row);
  const given = { storeHash: storeHash as StoreHash, urlKey, origin, narUrl, narInfo: parseNarInfo(text) };
  return { given, used, id: 0 };
}
