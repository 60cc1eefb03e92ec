/**
 * What the client must still know after a kill: the narinfos it gave out, the torrents it verified and the NAR files
 * it holds.
 *
 * Nix remembers a narinfo for 30 days and then asks for its URL, perhaps of a client that was restarted meanwhile.
 */

import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { NarswarmError } from '../../nar/errors.ts';
import type { InfoHash, Sha256 } from '../../nar/hash.ts';
import type { StoreHash } from '../../nar/store-path.ts';
import { removeDatabase } from '../../store/database-files.ts';
import { isDamaged, obstacleAt } from '../../store/disk-error.ts';
import { type GivenNarInfo, GivenNarInfos, givenSchema } from './given.ts';

/** Raised by whoever changes the tables. An older database is made anew: it is a cache of what others have. */
const schemaVersion = 1;

/** Rows removed at once when a table is full, so that a full table is not trimmed at every insert. */
const trimRows = 256;

export type { GivenNarInfo } from './given.ts';

export interface StoredTorrent {
  fileHash: Sha256;
  infoHash: InfoHash;
  /** Text of the torrentinfo. */
  torrentInfo: string;
  info: Buffer;
}

export interface HeldFile {
  fileHash: Sha256;
  /** Name in the store. */
  name: string;
  sizeBytes: number;
  /** A narinfo that it was fetched for. */
  narInfo: string;
  /** See `lastHeldRow`; for those that were looked up one by one. */
  row?: number;
}

const schema = `${givenSchema}
CREATE TABLE torrents (
  file_hash TEXT PRIMARY KEY,
  info_hash TEXT NOT NULL,
  torrentinfo TEXT NOT NULL,
  info BLOB NOT NULL,
  used INTEGER NOT NULL
) STRICT;
CREATE INDEX torrents_info_hash ON torrents (info_hash);
CREATE INDEX torrents_used ON torrents (used);
CREATE TABLE held (
  file_hash TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  size INTEGER NOT NULL,
  narinfo TEXT NOT NULL,
  used INTEGER NOT NULL
) STRICT;
CREATE INDEX held_used ON held (used);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
`;

export interface ClientStateOptions {
  path: string;
  narInfos: number;
  torrents: number;
  clock: () => number;
  /** The file is damaged: it is made anew, now or at the next start. */
  onDamaged?(error: unknown): void;
}

/**
 * A state that is damaged is made anew, as all of it can be had from others, and the NAR files without a row go. Where damage shows only later, what
 * cannot be read counts as unknown until the next start. Throws store-failed when the file cannot be opened.
 *
 * Not by `openDisposable`, which makes anew whatever it cannot open: a file that another process holds, or a full disk, would cost all NAR files here.
 */
export function openClientState(options: ClientStateOptions): ClientState {
  const mark = damagedMark(options.path);
  try {
    if (!existsSync(mark)) return new ClientState(options);
  } catch (error) {
    if (!isDamaged(error)) throw error;
    options.onDamaged?.(error);
  }
  removeDatabase(options.path);
  rmSync(mark, { force: true });
  return new ClientState(options);
}

/** Says that a state is to be made anew. */
function damagedMark(path: string): string {
  return `${path}.damaged`;
}

export class ClientState {
  readonly #path: string;
  readonly #onDamaged: ClientStateOptions['onDamaged'];
  #damaged = false;
  readonly #db: DatabaseSync;
  readonly #clock: () => number;
  readonly #statements = new Map<string, StatementSync>();
  readonly #given: GivenNarInfos;
  readonly #torrentsMax: number;
  #torrents: number;
  #lastUsed = 0;
  /** Torrents that are written at the end of this turn of the event loop. */
  readonly #putting = new Map<Sha256, StoredTorrent>();
  /** And the NAR files that are held from then on, and those that were used. */
  #adding: HeldFile[] = [];
  #added: PromiseWithResolvers<void> | undefined;
  readonly #touched = new Map<Sha256, number>();
  #writing: NodeJS.Immediate | undefined;
  #open = true;

  /** Throws store-failed when the file cannot be opened or is no database. */
  constructor({ path, narInfos, torrents, clock, onDamaged }: ClientStateOptions) {
    this.#path = path;
    this.#onDamaged = onDamaged;
    this.#clock = clock;
    this.#torrentsMax = torrents;
    const journalPath = `${path}-given`;
    let db: DatabaseSync | undefined;
    try {
      db = new DatabaseSync(path);
      this.#db = db;
      // Another process with the same data directory is refused at once, before it can remove what this one holds.
      this.#db.exec(
        'PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL',
      );
      this.#db.exec('BEGIN IMMEDIATE');
      const version = Number(this.#db.prepare('PRAGMA user_version').get()?.user_version);
      if (version !== schemaVersion) {
        this.#db.exec('DROP TABLE IF EXISTS given; DROP TABLE IF EXISTS torrents; DROP TABLE IF EXISTS held');
        this.#db.exec('DROP TABLE IF EXISTS facts; DROP TABLE IF EXISTS given_waiting');
        this.#db.exec(schema);
        this.#db.exec(`PRAGMA user_version = ${schemaVersion}`);
      }
      this.#given = new GivenNarInfos(this.#db, {
        journalPath,
        limit: narInfos,
        now: () => this.#now(),
        read: (action) => this.#read(action),
      });
      this.#db.exec('COMMIT');
      this.#torrents = Number(this.#prepare('SELECT count(*) AS rows FROM torrents').get()?.rows);
    } catch (cause) {
      db?.close();
      const why = obstacleAt(path) ?? obstacleAt(journalPath);
      const words = why === undefined ? '' : `: ${why}`;
      throw new NarswarmError('store-failed', `state database ${path} cannot be opened${words}`, { cause });
    }
  }

  /** Remembers a narinfo before it is given out. See given.ts, also for the following. */
  give(given: GivenNarInfo): Promise<void> {
    return this.#given.give(given);
  }

  giveThen(given: GivenNarInfo, written: (error?: unknown) => void): void {
    this.#given.giveThen(given, written);
  }

  get inserts(): number {
    return this.#given.inserts;
  }

  get urlsAreHashes(): boolean {
    return this.#given.urlsAreHashes;
  }

  givenByStoreHash(storeHash: StoreHash): { given: GivenNarInfo; atMs: number } | undefined {
    return this.#given.byStoreHash(storeHash);
  }

  givenByUrl(urlKey: string): GivenNarInfo | undefined {
    return this.#given.byUrl(urlKey);
  }

  storeHashByUrl(urlKey: string): StoreHash | undefined {
    return this.#given.storeHashByUrl(urlKey);
  }

  /** Remembers a torrent, at the end of the turn. When it cannot be written it is forgotten: catalogs tell it again. */
  putTorrent(torrent: StoredTorrent): void {
    this.#putting.set(torrent.fileHash, torrent);
    this.#writing ??= setImmediate(() => this.#endTurn());
  }

  torrent(fileHash: Sha256): StoredTorrent | undefined {
    const fresh = this.#putting.get(fileHash);
    if (fresh !== undefined) return fresh;
    return torrentFrom(this.#row('SELECT * FROM torrents WHERE file_hash = ?', fileHash));
  }

  /** Several NAR files cannot share an infohash: their names differ. */
  torrentByInfoHash(infoHash: InfoHash): StoredTorrent | undefined {
    for (const fresh of this.#putting.values()) if (fresh.infoHash === infoHash) return fresh;
    return torrentFrom(this.#row('SELECT * FROM torrents WHERE info_hash = ?', infoHash));
  }

  dropTorrent(fileHash: Sha256): void {
    this.#putting.delete(fileHash);
    const { changes } = this.#prepare('DELETE FROM torrents WHERE file_hash = ?').run(fileHash);
    this.#torrents -= Number(changes);
  }

  /** Resolves when it is known also after a kill: with all others of this turn. Rejects when the disk refuses. */
  addHeld(file: HeldFile): Promise<void> {
    this.#adding.push(file);
    this.#added ??= Promise.withResolvers();
    this.#writing ??= setImmediate(() => this.#endTurn());
    return this.#added.promise;
  }

  held(fileHash: Sha256): HeldFile | undefined {
    return heldFrom(this.#row('SELECT rowid, * FROM held WHERE file_hash = ?', fileHash));
  }

  /** It was used just now. Written at the end of the turn, if it can be. */
  touchHeld(fileHash: Sha256): void {
    this.#touched.set(fileHash, this.#now());
    this.#writing ??= setImmediate(() => this.#endTurn());
  }

  dropHeld(fileHash: Sha256): void {
    this.#prepare('DELETE FROM held WHERE file_hash = ?').run(fileHash);
    this.#prepare('DELETE FROM facts WHERE name = ?').run(versionFact(fileHash));
  }

  /** Its file as it was when it was last compared with its FileHash; noted of large ones. */
  heldVersion(fileHash: Sha256): string | undefined {
    return this.fact(versionFact(fileHash));
  }

  setHeldVersion(fileHash: Sha256, version: string): void {
    this.setFact(versionFact(fileHash), version);
  }

  heldTotals(): { files: number; bytes: number } {
    const row = this.#prepare('SELECT count(*) AS files, coalesce(sum(size), 0) AS bytes FROM held').get();
    return { files: Number(row?.files), bytes: Number(row?.bytes) };
  }

  /** Held files, the least (`oldest`) or most (`newest`) recently used first. */
  heldFiles(order: 'oldest' | 'newest', limit: number): HeldFile[] {
    const direction = order === 'oldest' ? 'ASC' : 'DESC';
    const statement = this.#prepare(`SELECT * FROM held ORDER BY used ${direction} LIMIT ?`);
    const rows = this.#read(() => statement.all(limit)) ?? [];
    return rows.map(heldFrom).filter((row) => row !== undefined);
  }

  fact(name: string): string | undefined {
    const row = this.#prepare('SELECT value FROM facts WHERE name = ?').get(name);
    return row === undefined ? undefined : String(row.value);
  }

  /** Of the NAR file that was added last: those that are added later have higher ones. */
  lastHeldRow(): number {
    return Number(this.#prepare('SELECT coalesce(max(rowid), 0) AS last FROM held').get()?.last);
  }

  setFact(name: string, value: string): void {
    this.#prepare('INSERT OR REPLACE INTO facts VALUES (?, ?)').run(name, value);
  }

  counts(): { narinfos: number; torrents: number } {
    return { narinfos: this.#given.count, torrents: this.#torrents };
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    clearImmediate(this.#writing);
    this.#endTurn();
    this.#given.close();
    this.#db.close();
  }

  #endTurn(): void {
    const added = this.#added;
    this.#added = undefined;
    this.#writing = undefined;
    settle(added, () => this.#writeHeld());
    // What cannot be written of the rest is no loss: others who need the disk more say so.
    settle(undefined, () => this.#writeTorrents());
    settle(undefined, () => this.#writeTouched());
  }

  #transaction(action: () => void): void {
    const torrentsBefore = this.#torrents;
    try {
      this.#db.exec('BEGIN');
      action();
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      this.#torrents = torrentsBefore;
      throw error;
    }
  }

  #writeHeld(): void {
    const adding = this.#adding;
    this.#adding = [];
    if (adding.length === 0) return;
    const statement = this.#prepare('INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?)');
    this.#transaction(() => {
      for (const { fileHash, name, sizeBytes, narInfo } of adding)
        statement.run(fileHash, name, sizeBytes, narInfo, this.#now());
    });
  }

  #writeTouched(): void {
    const touched = [...this.#touched];
    this.#touched.clear();
    if (touched.length === 0) return;
    const statement = this.#prepare('UPDATE held SET used = ? WHERE file_hash = ?');
    this.#transaction(() => {
      for (const [fileHash, used] of touched) statement.run(used, fileHash);
    });
  }

  #writeTorrents(): void {
    const torrents = [...this.#putting.values()];
    this.#putting.clear();
    if (torrents.length === 0) return;
    this.#transaction(() => {
      for (const torrent of torrents) this.#saveTorrent(torrent);
    });
  }

  #saveTorrent({ fileHash, infoHash, torrentInfo, info }: StoredTorrent): void {
    const { changes } = this.#prepare(
      'UPDATE torrents SET info_hash = ?, torrentinfo = ?, info = ?, used = ? WHERE file_hash = ?',
    ).run(infoHash, torrentInfo, info, this.#now(), fileHash);
    if (changes > 0) return;
    this.#prepare('INSERT INTO torrents VALUES (?, ?, ?, ?, ?)').run(
      fileHash,
      infoHash,
      torrentInfo,
      info,
      this.#now(),
    );
    this.#trimTorrents();
  }

  #row(sql: string, key: string): Row | undefined {
    const statement = this.#prepare(sql);
    return this.#read(() => statement.get(key));
  }

  /** Where the file is damaged there is nothing. */
  #read<T>(action: () => T): T | undefined {
    try {
      return action();
    } catch (error) {
      if (!isDamaged(error)) throw error;
      if (!this.#damaged) this.#markDamaged(error);
      return undefined;
    }
  }

  #markDamaged(error: unknown): void {
    this.#damaged = true;
    this.#onDamaged?.(error);
    try {
      writeFileSync(damagedMark(this.#path), '');
    } catch {
      // It is noticed again.
    }
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#db.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  /** Strictly ascending, so that "last" is well defined within a millisecond. */
  #now(): number {
    this.#lastUsed = Math.max(this.#lastUsed + 1, this.#clock() * 1000);
    return this.#lastUsed;
  }

  /** A row went in: takes the least recently used ones out when there are too many. */
  #trimTorrents(): void {
    this.#torrents++;
    const tooMany = this.#torrents - this.#torrentsMax;
    if (tooMany <= 0) return;
    const { changes } = this.#prepare(
      'DELETE FROM torrents WHERE rowid IN (SELECT rowid FROM torrents ORDER BY used LIMIT ?)',
    ).run(tooMany + Math.min(trimRows, Math.ceil(this.#torrentsMax / 8)));
    this.#torrents -= Number(changes);
  }
}

/** Does it, and tells those who wait how it went. */
function settle(waiting: PromiseWithResolvers<void> | undefined, action: () => void): void {
  try {
    action();
    waiting?.resolve();
  } catch (error) {
    waiting?.reject(error);
  }
}

type Row = Record<string, unknown>;

function torrentFrom(row: Row | undefined): StoredTorrent | undefined {
  if (row === undefined) return undefined;
  return {
    fileHash: row.file_hash as Sha256,
    infoHash: row.info_hash as InfoHash,
    torrentInfo: String(row.torrentinfo),
    info: Buffer.from(row.info as Uint8Array),
  };
}

function heldFrom(row: Row | undefined): HeldFile | undefined {
  if (row === undefined) return undefined;
  return {
    fileHash: row.file_hash as Sha256,
    name: String(row.name),
    sizeBytes: Number(row.size),
    ...(row.rowid !== undefined && { row: Number(row.rowid) }),
    narInfo: String(row.narinfo),
  };
}

function versionFact(fileHash: Sha256): string {
  return `held-version ${fileHash}`;
}
