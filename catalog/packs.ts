/**
 * The packs of a catalog: which are closed, where in them each NAR file lies, and which NAR files still wait for one. Every lookup touches
 * the rows that it gives and no others.
 */

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { NarswarmError } from '../nar/errors.ts';
import {
  type InfoHash,
  infoHashFromDigest,
  infoHashToDigest,
  type Sha256,
  sha256FromDigest,
  sha256ToDigest,
} from '../nar/hash.ts';
import { nix32Encode } from '../nar/nix32.ts';
import { parseStoreHash, type StoreHash } from '../nar/store-path.ts';
import { attempt } from './database.ts';
import {
  bytesOf,
  entryColumns,
  entryOf,
  entryTables,
  type NarFileEntry,
  numberOf,
  type Row,
  textOf,
} from './rows.ts';

/** NAR files up to this size go into packs: their own torrents cost more than they bring. In the schema as well. */
export const packNarFileMaxBytes = 1024 * 1024;

/** Rows that one call gives at most. */
const pageMax = 10_000;

export interface PackEntry {
  readonly infoHash: InfoHash;
  /** Of all files together, in bytes. */
  readonly length: number;
  /** Bytes of nix-cache-info and the narinfos, with which it begins. */
  readonly metaBytes: number;
  /** NAR files. */
  readonly nars: number;
  /** Bytes of its info dictionary. */
  readonly infoBytes: number;
  /** Milliseconds since 1970. */
  readonly closedMs: number;
}

/** A NAR file in a pack. */
export interface PackPlace {
  readonly fileHash: Sha256;
  readonly offset: number;
  readonly sizeBytes: number;
}

export interface UnpackedCounts {
  nars: number;
  bytes: number;
  /** Since when the oldest of them waits, in milliseconds since 1970. */
  oldestMs: number | undefined;
}

/** A NAR file that waits for a pack. */
export interface UnpackedNarFile {
  readonly id: number;
  readonly sinceMs: number;
  readonly entry: NarFileEntry;
}

const packColumns = 'p.info_hash, p.length, p.meta_bytes, p.nars, length(t.info) AS info_bytes, p.closed_ms';
const packTables = 'pack p JOIN pack_text t ON t.pack = p.id';
const idOf = '(SELECT id FROM pack WHERE info_hash = ?1)';

export const packStatements = {
  has: 'SELECT 1 FROM pack WHERE info_hash = ? AND complete = 1',
  get: `SELECT ${packColumns} FROM ${packTables} WHERE p.info_hash = ? AND p.complete = 1`,
  manifest: `SELECT manifest FROM pack_text WHERE pack = ${idOf}`,
  info: `SELECT info FROM pack_text WHERE pack = ${idOf}`,
  packOf: `
    SELECT p.info_hash, k.start FROM pack_nar k JOIN pack p ON p.id = k.pack
    WHERE k.file_hash = ? AND p.complete = 1`,
  list: 'SELECT info_hash FROM pack WHERE info_hash > ? AND complete = 1 ORDER BY info_hash LIMIT ?',
  newest: `SELECT ${packColumns} FROM ${packTables} WHERE p.complete = 1 ORDER BY p.id DESC LIMIT ?`,
  incomplete: 'SELECT info_hash FROM pack WHERE complete = 0 ORDER BY id',
  filesFrom: `
    SELECT k.start, k.size, k.file_hash AS packed, ${entryColumns} FROM pack_nar k
    LEFT JOIN nar_file f ON f.file_hash = k.file_hash
    LEFT JOIN narinfo n ON n.id = (SELECT min(id) FROM narinfo WHERE nar_file = f.id AND path IS NOT NULL)
    LEFT JOIN source s ON s.id = n.source
    WHERE k.pack = ${idOf} AND k.start < ?3
    AND k.start >= coalesce((SELECT max(start) FROM pack_nar WHERE pack = ${idOf} AND start <= ?2), 0)
    ORDER BY k.start LIMIT ?4`,
  counters: "SELECT name, value FROM counter WHERE name LIKE 'packs/%' OR name LIKE 'unpacked/%'",
  oldest: 'SELECT min(since_ms) AS since_ms FROM unpacked',
  unpacked: `
    SELECT u.nar_file AS id, u.since_ms, ${entryColumns} FROM unpacked u JOIN ${entryTables}
    WHERE f.id = u.nar_file AND (u.since_ms, u.nar_file) > (?, ?) ORDER BY u.since_ms, u.nar_file LIMIT ?`,
  // Of several narinfos of one store path the one that is served, if it is of this NAR file.
  narInfos: `
    SELECT n.store_hash, n.text FROM narinfo n
    WHERE n.nar_file = ? AND n.id = (SELECT min(id) FROM narinfo WHERE store_hash = n.store_hash)
    ORDER BY n.store_hash LIMIT ?`,

  put: 'INSERT INTO pack (info_hash, length, meta_bytes, nars, closed_ms, complete) VALUES (?, ?, ?, ?, ?, 0) RETURNING id',
  putText: 'INSERT INTO pack_text VALUES (?, ?, ?)',
  putPlace: `INSERT INTO pack_nar VALUES (${idOf}, ?2, ?3, ?4) ON CONFLICT DO NOTHING`,
  complete: 'UPDATE pack SET complete = 1 WHERE info_hash = ? AND complete = 0',
  waitAgain: `
    INSERT INTO unpacked SELECT f.id, f.file_size, ?2 FROM pack_nar k JOIN nar_file f ON f.file_hash = k.file_hash
    WHERE k.pack = ${idOf} ON CONFLICT DO NOTHING`,
  dropPlaces: `DELETE FROM pack_nar WHERE pack = ${idOf}`,
  dropText: `DELETE FROM pack_text WHERE pack = ${idOf}`,
  drop: 'DELETE FROM pack WHERE info_hash = ?',
  putOff: 'UPDATE unpacked SET since_ms = ? WHERE nar_file = ?',
  leaveOut: 'DELETE FROM unpacked WHERE nar_file = ?',
} as const;

type Value = string | number | Uint8Array;

/** As the catalog: synchronous, and throws store-failed or catalog-corrupt when the disk fails. */
export class CatalogPacks {
  readonly #sql: Record<keyof typeof packStatements, StatementSync>;
  readonly #transaction: <T>(action: () => T) => T;
  #changes = 0;

  constructor(db: DatabaseSync, transaction: <T>(action: () => T) => T) {
    const entries = Object.entries(packStatements).map(([name, sql]) => [name, db.prepare(sql)] as const);
    this.#sql = Object.fromEntries(entries) as Record<keyof typeof packStatements, StatementSync>;
    this.#transaction = transaction;
  }

  /** Rises with each pack that is there from then on. */
  get changes(): number {
    return this.#changes;
  }

  has(infoHash: InfoHash): boolean {
    return this.#one('has', infoHashToDigest(infoHash)) !== undefined;
  }

  get(infoHash: InfoHash): PackEntry | undefined {
    const row = this.#one('get', infoHashToDigest(infoHash));
    return row && packEntryOf(row);
  }

  /** The manifest's text, also of one that is not complete yet. */
  manifest(infoHash: InfoHash): string | undefined {
    const row = this.#one('manifest', infoHashToDigest(infoHash));
    return row && textOf(row, 'manifest');
  }

  /** The info dictionary. */
  info(infoHash: InfoHash): Buffer | undefined {
    const row = this.#one('info', infoHashToDigest(infoHash));
    return row && bytesOf(row, 'info');
  }

  /** The pack that a NAR file is in, and where in it. */
  packOf(fileHash: Sha256): { infoHash: InfoHash; offset: number } | undefined {
    const row = this.#one('packOf', sha256ToDigest(fileHash));
    return row && { infoHash: infoHashFromDigest(bytesOf(row, 'info_hash')), offset: numberOf(row, 'start') };
  }

  /** At most `limit` packs in the order of their infohashes, from the one after `after`. */
  list(after: InfoHash | undefined, limit: number): InfoHash[] {
    const digest = after === undefined ? Buffer.alloc(0) : infoHashToDigest(after);
    return this.#all('list', digest, pageSize(limit)).map((row) =>
      infoHashFromDigest(bytesOf(row, 'info_hash')),
    );
  }

  /** At most `limit` packs, the last closed first. */
  newest(limit: number): PackEntry[] {
    return this.#all('newest', pageSize(limit)).map(packEntryOf);
  }

  /** Those whose closing was broken off. */
  incomplete(): InfoHash[] {
    return this.#all('incomplete').map((row) => infoHashFromDigest(bytesOf(row, 'info_hash')));
  }

  /**
   * At most `limit` NAR files of a pack, in its order: those that have bytes from `from` to before `to`. Without `entry` where the catalog
   * does not have the file any more.
   */
  filesFrom(
    infoHash: InfoHash,
    from: number,
    to: number,
    limit: number,
  ): (PackPlace & { entry: NarFileEntry | undefined })[] {
    return this.#all('filesFrom', infoHashToDigest(infoHash), from, to, pageSize(limit)).map((row) => ({
      fileHash: sha256FromDigest(bytesOf(row, 'packed')),
      offset: numberOf(row, 'start'),
      sizeBytes: numberOf(row, 'size'),
      entry: row.path === null ? undefined : entryOf(row),
    }));
  }

  /** Kept up to date with every change: nothing is counted here. */
  counts(): { closed: number; nars: number; bytes: number; unpacked: UnpackedCounts } {
    const values = new Map(this.#all('counters').map((row) => [textOf(row, 'name'), numberOf(row, 'value')]));
    const of = (name: string): number => values.get(name) ?? 0;
    const oldest = this.#one('oldest');
    const oldestMs =
      oldest?.since_ms === null || oldest === undefined ? undefined : numberOf(oldest, 'since_ms');
    return {
      closed: of('packs/closed'),
      nars: of('packs/nars'),
      bytes: of('packs/bytes'),
      unpacked: { nars: of('unpacked/nars'), bytes: of('unpacked/bytes'), oldestMs },
    };
  }

  /** At most `limit` NAR files that wait for a pack, those that have waited longest first, after `after`. */
  unpacked(after: Pick<UnpackedNarFile, 'id' | 'sinceMs'> | undefined, limit: number): UnpackedNarFile[] {
    const { sinceMs, id } = after ?? { sinceMs: 0, id: 0 };
    return this.#all('unpacked', sinceMs, id, pageSize(limit)).map((row) => ({
      id: numberOf(row, 'id'),
      sinceMs: numberOf(row, 'since_ms'),
      entry: entryOf(row),
    }));
  }

  /** At most `limit` of the narinfos that are served for a NAR file that waits, by store hash. */
  narInfos({ id }: Pick<UnpackedNarFile, 'id'>, limit: number): { storeHash: StoreHash; text: string }[] {
    return this.#all('narInfos', id, pageSize(limit)).map((row) => ({
      storeHash: parseStoreHash(nix32Encode(bytesOf(row, 'store_hash'))),
      text: textOf(row, 'text'),
    }));
  }

  /** Notes down a pack, which is not there before `complete`. */
  put(pack: Omit<PackEntry, 'infoBytes'> & { manifest: string; info: Buffer }): void {
    const { infoHash, length, metaBytes, nars, closedMs, manifest, info } = pack;
    this.#transaction(() => {
      const row = this.#sql.put.get(infoHashToDigest(infoHash), length, metaBytes, nars, closedMs);
      this.#sql.putText.run(numberOf(row ?? {}, 'id'), manifest, info);
    });
  }

  /** Notes down where NAR files lie in a pack. Each is in one pack at most: of one that is elsewhere nothing is noted. */
  putPlaces(infoHash: InfoHash, places: readonly PackPlace[]): void {
    const digest = infoHashToDigest(infoHash);
    this.#transaction(() => {
      for (const { fileHash, offset, sizeBytes } of places)
        this.#sql.putPlace.run(digest, offset, sha256ToDigest(fileHash), sizeBytes);
    });
  }

  /** After all places were noted. */
  complete(infoHash: InfoHash): void {
    this.#transaction(() => this.#sql.complete.run(infoHashToDigest(infoHash)));
    this.#changes++;
  }

  /** Forgets a pack that is not complete; its NAR files wait for another one. */
  drop(infoHash: InfoHash, nowMs: number): void {
    if (this.has(infoHash))
      throw new NarswarmError('catalog-corrupt', `pack ${infoHash} is complete and stays`);
    const digest = infoHashToDigest(infoHash);
    this.#transaction(() => {
      this.#sql.waitAgain.run(digest, nowMs);
      for (const name of ['dropPlaces', 'dropText', 'drop'] as const) this.#sql[name].run(digest);
    });
  }

  /** A NAR file that cannot be read now waits anew. */
  putOff({ id }: Pick<UnpackedNarFile, 'id'>, nowMs: number): void {
    this.#transaction(() => this.#sql.putOff.run(nowMs, id));
  }

  /** A NAR file that no pack can hold waits no longer. */
  leaveOut({ id }: Pick<UnpackedNarFile, 'id'>): void {
    this.#transaction(() => this.#sql.leaveOut.run(id));
  }

  #one(name: keyof typeof packStatements, ...values: Value[]): Row | undefined {
    return attempt('reading the catalog', () => this.#sql[name].get(...values));
  }

  #all(name: keyof typeof packStatements, ...values: Value[]): Row[] {
    return attempt('reading the catalog', () => this.#sql[name].all(...values));
  }
}

function packEntryOf(row: Row): PackEntry {
  return {
    infoHash: infoHashFromDigest(bytesOf(row, 'info_hash')),
    length: numberOf(row, 'length'),
    metaBytes: numberOf(row, 'meta_bytes'),
    nars: numberOf(row, 'nars'),
    infoBytes: numberOf(row, 'info_bytes'),
    closedMs: numberOf(row, 'closed_ms'),
  };
}

function pageSize(limit: number): number {
  return Math.max(0, Math.min(limit, pageMax));
}
