/**
 * The narinfos that were given out, so that Nix may ask for their NAR files weeks later, also of a client that was killed meanwhile.
 *
 * Those of a closure are asked for thousands at a time. So what is given out is first only noted in a journal, all of one turn of the event loop
 * in one write: that much must be done before the answers leave. Into the table with its indexes, which takes ten times as long, rows go
 * when nothing was given out and no NAR file asked for for a moment, or too many wait. docs/decisions/0020-journal-of-narinfos.md.
 */

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { NarswarmError } from '../../nar/errors.ts';
import { type NarInfo, parseNarInfo } from '../../nar/narinfo.ts';
import type { StoreHash } from '../../nar/store-path.ts';
import { isNamedByHash } from '../local-url.ts';
import { GivenJournal, type GivenRecord } from './given-journal.ts';
import { type Entry, GivenMemory } from './given-memory.ts';

/** Narinfos that are in the journal at most, those of several large closures: 300 bytes of memory each. */
const waitingMax = 20_000;

/** Bytes of the journal: as many of 3 KiB. While it is being emptied it grows to twice as much. */
const journalMaxBytes = 64 * 1024 * 1024;

/** Nothing more is noted when so many times as much waits: then the table takes nothing, as where the database is damaged. */
const fullFactor = 4;

/** Of those that wait, the last ones are in memory as well, as Nix asks for their NAR files next: 3 KiB each. */
const openMax = 4_000;

/** Their characters together: one may have 4 MiB. */
const openMaxCharacters = 16 * 1024 * 1024;

/** Narinfos kept in memory while the disk takes none, with no more characters than that. */
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

interface Known {
  readonly given: GivenNarInfo;
  /** In microseconds since 1970. */
  readonly used: number;
}

export interface GivenOptions {
  journalPath: string;
  /** Narinfos remembered. */
  limit: number;
  /** In microseconds since 1970, strictly ascending. */
  now(): number;
  /** Gives what a read gives, and nothing where the database is damaged. */
  read<T>(action: () => T): T | undefined;
}

export class GivenNarInfos {
  readonly #db: DatabaseSync;
  readonly #journal: GivenJournal;
  readonly #now: () => number;
  readonly #read: GivenOptions['read'];
  readonly #sql: ReturnType<typeof prepareStatements>;
  readonly #waitingMax: number;
  readonly #tableMax: number;
  /** Given out in this turn. */
  #giving: Entry[] = [];
  /** Those who wait for the end of the turn. */
  #told: ((error?: unknown) => void)[] = [];
  #writing: NodeJS.Immediate | undefined;
  /** In the journal, and not in the table yet; the oldest first. */
  #waiting: Entry[] = [];
  /** The last of them. */
  readonly #open = new GivenMemory(openMax, openMaxCharacters);
  /** Those that the disk did not take. */
  readonly #unsaved = new GivenMemory(unsavedMax, openMaxCharacters);
  /** Too many waited: more are moved than come until none waits, as only then the journal is emptied. */
  #emptying = false;
  #moving: NodeJS.Timeout | undefined;
  /** When one of those that wait was last asked for by its URL. */
  #usedMs = Number.NEGATIVE_INFINITY;
  /** The last of those that are not in the table, also when they could not be written. */
  readonly #byUrl = new Map<string, Entry>();
  readonly #byStoreHash = new Map<StoreHash, Entry>();
  #rows = 0;
  #inserts = 0;
  #urlsAreHashes: boolean;

  /** The database has `givenSchema` and the table of facts. Throws store-failed. */
  constructor(db: DatabaseSync, { journalPath, limit, now, read }: GivenOptions) {
    this.#db = db;
    this.#now = now;
    this.#read = read;
    this.#waitingMax = Math.min(waitingMax, Math.ceil(limit / 8));
    this.#tableMax = limit - this.#waitingMax;
    takeOver(db);
    this.#sql = prepareStatements(db);
    this.#rows = Number(this.#sql.count.get()?.rows);
    // What is there without the fact was given out before it was kept.
    this.#urlsAreHashes = this.#rows === 0 || this.#sql.hashes.get() !== undefined;
    if (this.#urlsAreHashes && this.#sql.hashes.get() === undefined) this.#sql.putHashes.run();
    this.#journal = new GivenJournal(journalPath);
    this.#waitAgain();
  }

  /** Resolves when it is known also after a kill. When it rejects, it is known until the client stops. */
  give(given: GivenNarInfo): Promise<void> {
    return new Promise((resolve, reject) => {
      this.giveThen(given, (error) => (error === undefined ? resolve() : reject(error)));
    });
  }

  /** The same without a promise: `written` is called at the end of the turn, and must not throw. */
  giveThen(given: GivenNarInfo, written: (error?: unknown) => void): void {
    const { storeHash, narInfo } = given;
    const urlKey = copyOf(given.urlKey);
    const entry: Entry = { storeHash, urlKey, used: this.#now(), given, place: undefined };
    this.#giving.push(entry);
    this.#told.push(written);
    if (!isNamedByHash(urlKey, narInfo.fileHash)) this.#urlsAreHashes = false;
    this.#know(entry);
    this.#writing ??= setImmediate(() => this.#endTurn());
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
    const entry = this.#byStoreHash.get(storeHash);
    const known = this.#givenIn(entry) ?? this.#row(this.#sql.byStoreHash, storeHash);
    return known && { given: known.given, atMs: Math.floor(known.used / 1000) };
  }

  /** The one that was given out last with a URL. */
  byUrl(urlKey: string): GivenNarInfo | undefined {
    const entry = this.#byUrl.get(urlKey);
    if (entry !== undefined) this.#usedMs = performance.now();
    return (this.#givenIn(entry) ?? this.#row(this.#sql.byUrl, urlKey))?.given;
  }

  /** Whether `isNamedByHash` of all URLs that are remembered here: then what one of them means need not be looked up. */
  get urlsAreHashes(): boolean {
    return this.#urlsAreHashes;
  }

  /** The store path of `byUrl`, for less. */
  storeHashByUrl(urlKey: string): StoreHash | undefined {
    const entry = this.#byUrl.get(urlKey);
    if (entry !== undefined) return entry.storeHash;
    const row = this.#read(() => this.#sql.storeHashByUrl.get(urlKey));
    return row?.store_hash as StoreHash | undefined;
  }

  /** Writes what was given out. What waits is moved after the next start. */
  close(): void {
    clearImmediate(this.#writing);
    this.#endTurn();
    clearTimeout(this.#moving);
    this.#journal.close();
  }

  #givenIn(entry: Entry | undefined): Known | undefined {
    if (entry === undefined) return undefined;
    const { given, place, used } = entry;
    if (given !== undefined) return { given, used };
    const record = place && this.#journal.read(place);
    return record && this.#read(() => ({ given: givenOf(record), used }));
  }

  #row(statement: StatementSync, key: string): Known | undefined {
    return this.#read(() => {
      const row = statement.get(key);
      return row && { given: givenInRow(row), used: Number(row.used) };
    });
  }

  #know(entry: Entry): void {
    this.#byUrl.set(entry.urlKey, entry);
    this.#byStoreHash.set(entry.storeHash, entry);
  }

  /** What waited when the client stopped, or was killed. */
  #waitAgain(): void {
    for (const { storeHash, urlKey, used, named, ...place } of this.#journal.noted) {
      const entry: Entry = { storeHash, urlKey, used, given: undefined, place };
      if (!named) this.#urlsAreHashes = false;
      this.#waiting.push(entry);
      this.#know(entry);
    }
    this.#moveIn(quietMs);
  }

  #endTurn(): void {
    const [giving, told] = [this.#giving, this.#told];
    this.#giving = [];
    this.#told = [];
    this.#writing = undefined;
    if (giving.length === 0) return;
    const before = this.#journal.bytes;
    try {
      this.#note(giving);
    } catch (error) {
      for (const entry of this.#unsaved.add(giving)) this.#forget(entry);
      for (const tell of told) tell(error);
      this.#emptyIfTooMany(giving.length, 0);
      this.#moveIn(quietMs);
      return;
    }
    for (const tell of told) tell();
    this.#emptyIfTooMany(giving.length, this.#journal.bytes - before);
    this.#moveIn(quietMs);
  }

  #note(giving: readonly Entry[]): void {
    if (
      this.#waiting.length >= fullFactor * this.#waitingMax ||
      this.#journal.bytes >= fullFactor * journalMaxBytes
    )
      throw new NarswarmError('store-failed', 'the database takes nothing of what is noted as given out');
    const places = this.#journal.append(
      giving.flatMap(({ given, used }) => (given === undefined ? [] : recordOfGiven(given, used))),
    );
    for (const [index, entry] of giving.entries()) {
      entry.place = places[index];
      this.#waiting.push(entry);
    }
    for (const entry of this.#open.add(giving)) entry.given = undefined;
  }

  /** As many of those that wait as came now, and as many more, so that it ends. */
  #emptyIfTooMany(rows: number, bytes: number): void {
    this.#emptying ||= this.#waiting.length > this.#waitingMax || this.#journal.bytes > journalMaxBytes;
    if (!this.#emptying) return;
    try {
      this.#move(2 * rows, 2 * bytes);
    } catch {
      // As when they are moved later.
    }
  }

  #moveIn(ms: number): void {
    if (this.#waiting.length === 0) return;
    clearTimeout(this.#moving);
    this.#moving = setTimeout(() => {
      const busyMs = this.#usedMs + quietMs - performance.now();
      if (busyMs > 0) return this.#moveIn(busyMs);
      try {
        this.#move(moveRows);
        this.#moveIn(moveEveryMs);
      } catch {
        // They are safe where they are, and tried again when something else was written.
      }
    }, ms);
    // The process does not stay for it.
    this.#moving.unref();
  }

  /** At least so many, and so many bytes, as far as there are. */
  #move(rows: number, bytes = 0): void {
    const moved: Entry[] = [];
    let movedBytes = 0;
    for (const entry of this.#waiting) {
      if (moved.length >= rows && movedBytes >= bytes) break;
      moved.push(entry);
      movedBytes += entry.place?.bytes ?? 0;
    }
    if (moved.length === 0) return;
    this.#transaction(() => {
      if (!this.#urlsAreHashes) this.#sql.dropHashes.run();
      for (const { given, used, place } of moved) {
        const record = given ? recordOfGiven(given, used) : place && this.#journal.read(place);
        if (record !== undefined) this.#save(record);
      }
    });
    this.#waiting = this.#waiting.slice(moved.length);
    for (const entry of moved) this.#forget(entry);
    if (this.#waiting.length > 0) return;
    this.#open.clear();
    this.#emptying = false;
    this.#journal.clear();
  }

  #save({ storeHash, urlKey, origin, narUrl, text, used }: GivenRecord): void {
    const { insert, update } = this.#sql;
    if (insert.run(storeHash, urlKey, origin, narUrl, text, used).changes === 0) {
      update.run(origin, narUrl, text, used, storeHash, urlKey);
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
    const { storeHash, urlKey } = entry;
    if (this.#byUrl.get(urlKey) === entry) this.#byUrl.delete(urlKey);
    if (this.#byStoreHash.get(storeHash) === entry) this.#byStoreHash.delete(storeHash);
  }
}

/** What was cut out of a narinfo keeps all of it in memory. */
function copyOf(text: string): string {
  return Buffer.from(text).toString();
}

/** Before there was a journal, what waits was in a table. */
function takeOver(db: DatabaseSync): void {
  if (db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'given_waiting'").get() === undefined) return;
  db.exec(`
    INSERT OR REPLACE INTO given
    SELECT store_hash, url_key, origin, nar_url, text, used FROM given_waiting ORDER BY id;
    DROP TABLE given_waiting`);
}

function prepareStatements(db: DatabaseSync) {
  return {
    hashes: db.prepare("SELECT 1 FROM facts WHERE name = 'given-urls-are-hashes'"),
    putHashes: db.prepare("INSERT OR IGNORE INTO facts VALUES ('given-urls-are-hashes', '')"),
    dropHashes: db.prepare("DELETE FROM facts WHERE name = 'given-urls-are-hashes'"),
    count: db.prepare('SELECT count(*) AS rows FROM given'),
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

function recordOfGiven(
  { storeHash, urlKey, origin, narUrl, narInfo }: GivenNarInfo,
  used: number,
): GivenRecord {
  const named = isNamedByHash(urlKey, narInfo.fileHash);
  return { storeHash, urlKey, origin, narUrl, text: narInfo.text, used, named };
}

function givenInRow(row: Record<string, unknown>): GivenNarInfo {
  const value = (name: string): string => String(row[name]);
  const values = { urlKey: value('url_key'), origin: value('origin'), narUrl: value('nar_url') };
  return givenOf({ ...values, storeHash: value('store_hash') as StoreHash, text: value('text') });
}

/** Throws narinfo-corrupt. */
function givenOf({
  storeHash,
  urlKey,
  origin,
  narUrl,
  text,
}: Omit<GivenRecord, 'used' | 'named'>): GivenNarInfo {
  return { storeHash, urlKey, origin, narUrl, narInfo: parseNarInfo(text) };
}
