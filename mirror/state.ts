/**
 * What the mirror knows of itself, in SQLite: the NAR files that it holds, when they were verified, who else has them. Every write is
 * whole after a crash. A NAR file is held from the row on: the file is there and verified before.
 */

import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { NarswarmError } from '../nar/errors.ts';
import {
  type InfoHash,
  infoHashFromDigest,
  infoHashToDigest,
  type Sha256,
  sha256FromDigest,
  sha256ToDigest,
} from '../nar/hash.ts';
import { isDamaged, obstacleAt } from '../store/disk-error.ts';

export interface HeldFile {
  readonly fileHash: Sha256;
  /** Canonical name, under which it lies in the store. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Modification time when it was verified: another means that it was changed. */
  readonly mtimeNs: bigint;
  /** Of its torrent. */
  readonly infoHash: InfoHash;
  /** Piece hashes of that. */
  readonly pieces: Buffer;
  /** Milliseconds since 1970: held since, and last verified as a whole. */
  readonly sinceMs: number;
  readonly verifiedMs: number;
}

/** How the narinfos of a catalog name a NAR file. */
export interface NarUrls {
  /** Its name. */
  readonly catalog: string;
  readonly urls: readonly string[];
}

/** A number that says which layout of the database it is. */
const schemaVersion = 2;

/** URLs come again with the narinfos that have them. */
const fromVersion1 = 'DROP TABLE urls';

const schema = `
  CREATE TABLE held (
    file_hash BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    info_hash BLOB NOT NULL UNIQUE,
    pieces BLOB NOT NULL,
    since INTEGER NOT NULL,
    verified INTEGER NOT NULL,
    -- Other seeds as last known, and when that was; NULL before anybody said so.
    seeds INTEGER,
    seeds_at INTEGER
  ) STRICT;
  CREATE INDEX held_by_verified ON held (verified);

  CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
`;

const urlsSchema = `
  -- The URLs by which the narinfos of held NAR files name them. No signature covers a URL: what one catalog says of it counts for that one.
  CREATE TABLE urls (
    catalog TEXT NOT NULL,
    url TEXT NOT NULL,
    file_hash BLOB NOT NULL REFERENCES held ON DELETE CASCADE,
    PRIMARY KEY (catalog, url)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX urls_by_file_hash ON urls (file_hash);
`;

/** Rows given at once: what is looked up for each of them makes some milliseconds. */
export const heldPageMax = 250;

export class MirrorState {
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  #files = 0;
  #bytes = 0;

  /** Throws `store-failed`. */
  constructor(path: string) {
    try {
      this.#db = new DatabaseSync(path, { enableForeignKeyConstraints: true });
      this.#db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 5000');
      this.#db.exec('BEGIN IMMEDIATE');
      const version = Number(this.#db.prepare('PRAGMA user_version').get()?.user_version);
      if (version > schemaVersion)
        throw new Error(`it has layout ${version}, this program knows ${schemaVersion}`);
      if (version < schemaVersion)
        this.#db.exec(
          `${version === 0 ? schema : fromVersion1}; ${urlsSchema}; PRAGMA user_version = ${schemaVersion}`,
        );
      this.#db.exec('COMMIT');
      const row = this.#db
        .prepare('SELECT count(*) AS files, coalesce(sum(size), 0) AS bytes FROM held')
        .get();
      this.#files = Number(row?.files);
      this.#bytes = Number(row?.bytes);
    } catch (cause) {
      const damaged = 'it is damaged: move it away, and what the mirror held is fetched again';
      const why = obstacleAt(path) ?? (isDamaged(cause) ? damaged : undefined);
      const words = why === undefined ? '' : `: ${why}`;
      throw new NarswarmError('store-failed', `the database ${path} cannot be opened${words}`, { cause });
    }
  }

  totals(): { files: number; bytes: number } {
    return { files: this.#files, bytes: this.#bytes };
  }

  /** Takes a verified file in, or in again after it was verified as a whole. */
  put(file: HeldFile, { catalog, urls }: NarUrls): void {
    const before = this.held(file.fileHash);
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      this.#prepare(`
        INSERT INTO held (file_hash, name, size, mtime_ns, info_hash, pieces, since, verified)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (file_hash) DO UPDATE SET name = excluded.name, size = excluded.size, mtime_ns = excluded.mtime_ns,
          info_hash = excluded.info_hash, pieces = excluded.pieces, verified = excluded.verified`).run(
        sha256ToDigest(file.fileHash),
        file.name,
        file.sizeBytes,
        file.mtimeNs,
        infoHashToDigest(file.infoHash),
        file.pieces,
        file.sinceMs,
        file.verifiedMs,
      );
      for (const url of urls) this.addUrl(catalog, url, file.fileHash);
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
    this.#files += before === undefined ? 1 : 0;
    this.#bytes += file.sizeBytes - (before?.sizeBytes ?? 0);
  }

  /** Forgets it; nothing happens when it is not held. */
  drop(fileHash: Sha256): void {
    const before = this.held(fileHash);
    if (before === undefined) return;
    this.#prepare('DELETE FROM held WHERE file_hash = ?').run(sha256ToDigest(fileHash));
    this.#files--;
    this.#bytes -= before.sizeBytes;
  }

  held(fileHash: Sha256): HeldFile | undefined {
    return heldFrom(
      this.#prepare(`SELECT ${columns} FROM held WHERE file_hash = ?`).get(sha256ToDigest(fileHash)),
    );
  }

  isHeld(fileHash: Sha256): boolean {
    return (
      this.#prepare('SELECT 1 FROM held WHERE file_hash = ?').get(sha256ToDigest(fileHash)) !== undefined
    );
  }

  byInfoHash(infoHash: InfoHash): HeldFile | undefined {
    return heldFrom(
      this.#prepare(`SELECT ${columns} FROM held WHERE info_hash = ?`).get(infoHashToDigest(infoHash)),
    );
  }

  hasInfoHash(infoHash: InfoHash): boolean {
    return (
      this.#prepare('SELECT 1 FROM held WHERE info_hash = ?').get(infoHashToDigest(infoHash)) !== undefined
    );
  }

  /** At most `heldPageMax` held files by their FileHashes' bytes, from the one after `after`. */
  page(after: Sha256 | undefined): HeldFile[] {
    const digest = after === undefined ? Buffer.alloc(0) : sha256ToDigest(after);
    return this.#prepare(`SELECT ${columns} FROM held WHERE file_hash > ? ORDER BY file_hash LIMIT ?`)
      .all(digest, heldPageMax)
      .flatMap((row) => heldFrom(row) ?? []);
  }

  /** The file that was verified longest ago. */
  leastVerified(): HeldFile | undefined {
    return heldFrom(this.#prepare(`SELECT ${columns} FROM held ORDER BY verified LIMIT 1`).get());
  }

  setVerified(fileHash: Sha256, verifiedMs: number): void {
    this.#prepare('UPDATE held SET verified = ? WHERE file_hash = ?').run(
      verifiedMs,
      sha256ToDigest(fileHash),
    );
  }

  /** Other seeds of many files, as known now. */
  setSeeds(seeds: Iterable<readonly [Sha256, number]>, atMs: number): void {
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      const update = this.#prepare('UPDATE held SET seeds = ?, seeds_at = ? WHERE file_hash = ?');
      for (const [fileHash, count] of seeds) update.run(count, atMs, sha256ToDigest(fileHash));
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
  }

  /** Remembers by which URL a narinfo names a held file. */
  addUrl(catalog: string, url: string, fileHash: Sha256): void {
    this.#prepare(
      'INSERT INTO urls VALUES (?, ?, ?) ON CONFLICT (catalog, url) DO UPDATE SET file_hash = excluded.file_hash',
    ).run(catalog, url, sha256ToDigest(fileHash));
  }

  byUrl(catalog: string, url: string): Sha256 | undefined {
    const row = this.#prepare('SELECT file_hash FROM urls WHERE catalog = ? AND url = ?').get(catalog, url);
    return row && digestIn(row.file_hash);
  }

  fact(name: string): string | undefined {
    const row = this.#prepare('SELECT value FROM facts WHERE name = ?').get(name);
    return row === undefined ? undefined : String(row.value);
  }

  setFact(name: string, value: string): void {
    this.#prepare(
      'INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value',
    ).run(name, value);
  }

  /** May be called twice. */
  close(): void {
    if (this.#db.isOpen) this.#db.close();
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#db.prepare(sql);
      statement.setReadBigInts(true);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}

const columns = 'file_hash, name, size, mtime_ns, info_hash, pieces, since, verified';

function heldFrom(row: Record<string, unknown> | undefined): HeldFile | undefined {
  if (row === undefined) return undefined;
  return {
    fileHash: digestIn(row.file_hash),
    name: String(row.name),
    sizeBytes: Number(row.size),
    mtimeNs: BigInt(String(row.mtime_ns)),
    infoHash: infoHashFromDigest(Buffer.from(row.info_hash as Uint8Array)),
    pieces: Buffer.from(row.pieces as Uint8Array),
    sinceMs: Number(row.since),
    verifiedMs: Number(row.verified),
  };
}

function digestIn(value: unknown): Sha256 {
  return sha256FromDigest(Buffer.from(value as Uint8Array));
}
