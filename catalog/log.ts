/**
 * A seeder's log: what was accepted, revoked or packed becomes records, numbered for ever and cut into segments. The
 * records themselves lie in the segments' files; the database knows what is still to enter, and what the files are.
 *
 * Nothing is lost or entered twice in another order by a crash: a change queues its record in its own transaction, and a
 * segment counts from the transaction that names its file, which is on the disk by then.
 */

import { hash } from 'node:crypto';
import type { DatabaseSync } from 'node:sqlite';
import { NarswarmError } from '../nar/errors.ts';
import {
  type InfoHash,
  infoHashFromDigest,
  infoHashToDigest,
  type Sha256,
  sha256FromDigest,
  sha256ToDigest,
} from '../nar/hash.ts';
import { nix32Decode } from '../nar/nix32.ts';
import type { StoreHash } from '../nar/store-path.ts';
import { attempt } from './database.ts';
import type { CatalogFile, HeadSegment, HeadView } from './head.ts';
import { type LogStatements, prepareLogStatements } from './log-statements.ts';
import { bytesOf, numberOf, type Row, textOf } from './rows.ts';

/** A file of the log with the piece hashes of its torrent. */
export interface LogFile extends CatalogFile {
  readonly pieces: Buffer;
}

/** A segment, and what it takes to go on after it. */
export interface LogSegment extends HeadSegment {
  /** Torrentinfos up to its end. */
  readonly ordinals: number;
  /** Bytes of its records before compression. */
  readonly plainBytes: number;
}

export interface LogView extends HeadView {
  /** What it was made of, in the maker's words. */
  readonly madeOf: string;
}

/** In the order of `log_queue.kind`. */
export const queueKinds = ['torrentinfo', 'narinfo', 'pack', 'revocation'] as const;

export interface Queued {
  readonly seq: number;
  readonly kind: (typeof queueKinds)[number];
  readonly row: number;
}

export interface LoggedRevocation {
  readonly id: number;
  readonly fileHash: Sha256;
  /** Of its torrent, if the catalog had it. */
  readonly infoHash: InfoHash | undefined;
  /** Seconds since 1970. */
  readonly time: number;
  readonly reason: string;
}

/** Rows of one transaction: it holds up whoever accepts NAR files for a millisecond or two. */
const turnRows = 100;
const digestBytes = 16;

/** What of a published text is kept, to tell whether it changed. */
export function textDigest(text: string): Buffer {
  return hash('sha256', text, 'buffer').subarray(0, digestBytes);
}

/** Everything is synchronous. What changes many rows does so in several transactions, and yields between them. */
export class CatalogLog {
  readonly #db: DatabaseSync;
  readonly #sql: LogStatements;

  constructor(db: DatabaseSync) {
    this.#db = db;
    this.#sql = prepareLogStatements(db);
  }

  /** Whether something waits to enter. */
  hasPending(): boolean {
    return this.#get('pending', this.queueSeq) !== undefined;
  }

  /** How many rows wait, up to `max`. */
  pendingCount(max: number): number {
    return numberOf(this.#get('pendingCount', this.queueSeq, max) ?? {}, 'count');
  }

  /** How far the queue was read. */
  get queueSeq(): number {
    return numberOf(this.#get('queueSeq') ?? {}, 'seq');
  }

  /** The last row of the queue. */
  get lastQueued(): number {
    return numberOf(this.#get('lastQueued') ?? {}, 'seq');
  }

  /** Records that are in segments. */
  get records(): number {
    return this.#end().records;
  }

  /** The last segment; before the first one, zeros. */
  last(): LogSegment | undefined {
    const row = this.#get('lastSegment');
    return row && segmentOf(row);
  }

  segments(): LogSegment[] {
    return this.#all('segments').map(segmentOf);
  }

  get segmentCount(): number {
    return numberOf(this.#get('segmentCount') ?? {}, 'count');
  }

  views(): LogView[] {
    return this.#all('views').map((row) => ({
      name: textOf(row, 'name'),
      paths: numberOf(row, 'paths'),
      madeOf: textOf(row, 'made_of'),
      ...fileOf(row),
    }));
  }

  /** A segment or view by its torrent; those that were retired as long as they are on the disk. */
  fileByInfoHash(infoHash: InfoHash): LogFile | undefined {
    const row = this.#get('fileByInfoHash', infoHashToDigest(infoHash));
    return row && { ...fileOf(row), pieces: bytesOf(row, 'pieces') };
  }

  hasFileOfInfoHash(infoHash: InfoHash): boolean {
    return this.#get('hasFile', infoHashToDigest(infoHash)) !== undefined;
  }

  /** The number of a NAR file that is published. */
  ordinal(fileHash: Sha256): number | undefined {
    const row = this.#get('ordinal', sha256ToDigest(fileHash));
    const ordinal = row && numberOf(row, 'ordinal');
    return ordinal !== undefined && ordinal < this.ordinals ? ordinal : undefined;
  }

  byOrdinal(ordinal: number): Sha256 | undefined {
    const row = ordinal < this.ordinals ? this.#get('byOrdinal', ordinal) : undefined;
    return row && sha256FromDigest(bytesOf(row, 'file_hash'));
  }

  /** One more than the highest number that was given. */
  get ordinals(): number {
    return this.#end().ordinals;
  }

  revoked(fileHash: Sha256): LoggedRevocation | undefined {
    const row = this.#get('revocation', sha256ToDigest(fileHash));
    return row && revocationOf(row);
  }

  /** At most `limit`, in the order in which they were made, from the one after `afterId`. */
  revocations(afterId: number, limit: number): LoggedRevocation[] {
    return this.#all('revocations', afterId, Math.max(0, Math.min(limit, 10_000))).map(revocationOf);
  }

  get revokedCount(): number {
    return numberOf(this.#get('revokedCount') ?? {}, 'count');
  }

  /** The id of the last one; 0 before the first. */
  get lastRevocation(): number {
    return numberOf(this.#get('lastRevocation') ?? {}, 'id');
  }

  /** The NAR files of all narinfos of a store path. */
  fileHashesOf(storeHash: StoreHash): Sha256[] {
    const rows = this.#all('fileHashesOf', nix32Decode(storeHash));
    return rows.map((row) => sha256FromDigest(bytesOf(row, 'file_hash')));
  }

  // For the publisher

  /** At most `limit` of the queue, from after `afterSeq`. */
  queued(afterSeq: number, limit: number): Queued[] {
    return this.#all('queued', afterSeq, limit).map((row) => {
      const kind = queueKinds[numberOf(row, 'kind')];
      if (kind === undefined)
        throw new NarswarmError('catalog-corrupt', 'a row of the queue of an unknown kind');
      return { seq: numberOf(row, 'seq'), kind, row: numberOf(row, 'row') };
    });
  }

  /** What was published of a NAR file and of a store path. */
  published(fileHash: Buffer): { ordinal: number; digest: Buffer } | undefined {
    const row = this.#get('ordinal', fileHash);
    return row && { ordinal: numberOf(row, 'ordinal'), digest: bytesOf(row, 'digest') };
  }

  publishedNarInfo(storeHash: Buffer): Buffer | undefined {
    const row = this.#get('narInfoDigest', storeHash);
    return row && bytesOf(row, 'digest');
  }

  narFileRow(id: number): Row | undefined {
    return this.#get('narFileRow', id);
  }

  /** Those that are served, of a NAR file. */
  narInfoRowsOf(narFile: number): Row[] {
    return this.#all('narInfoRowsOf', narFile);
  }

  /** If it is the one that is served under its store hash. */
  narInfoRow(id: number): Row | undefined {
    return this.#get('narInfoRow', id);
  }

  /** The one that is served. */
  narInfoByStoreHash(storeHash: Buffer): Row | undefined {
    return this.#get('narInfoByStoreHash', storeHash);
  }

  narFileByHash(fileHash: Buffer): Row | undefined {
    return this.#get('narFileByHash', fileHash);
  }

  packRow(id: number): { infoHash: InfoHash; manifest: string } | undefined {
    const row = this.#get('packRow', id);
    return (
      row && { infoHash: infoHashFromDigest(bytesOf(row, 'info_hash')), manifest: textOf(row, 'manifest') }
    );
  }

  revocationRow(id: number): LoggedRevocation | undefined {
    const row = this.#get('revocationRow', id);
    return row && revocationOf(row);
  }

  /** What a publication that died left: numbers that no segment has, and what of the queue is in segments. */
  *tidy(): Generator<void> {
    const { ordinals } = this.#end();
    const { queueSeq } = this;
    yield* this.#inTurns(() => this.#sql.dropOrdinals.run(ordinals, turnRows).changes);
    yield* this.#inTurns(() => this.#sql.dropQueued.run(queueSeq, turnRows).changes);
  }

  /** What of the queue up to `queueSeq` is not in segments had nothing to say. */
  skip(queueSeq: number): void {
    this.#transaction(() => this.#sql.putQueueSeq.run(queueSeq));
  }

  /** Numbers of the segment that is to be added next. */
  *putOrdinals(
    entries: readonly (readonly [ordinal: number, fileHash: Buffer, digest: Buffer])[],
  ): Generator<void> {
    yield* this.#each(entries, (entry) => this.#sql.putOrdinal.run(...entry));
  }

  /** Of texts that were published; lost ones cost a record that says nothing new. */
  *putDigests(
    torrentInfos: readonly (readonly [digest: Buffer, fileHash: Buffer])[],
    narInfos: readonly (readonly [storeHash: Buffer, digest: Buffer])[],
  ): Generator<void> {
    yield* this.#each(torrentInfos, (entry) => this.#sql.putDigest.run(...entry));
    yield* this.#each(narInfos, (entry) => this.#sql.putNarInfoDigest.run(...entry));
  }

  /** The next segment. Its file is on the disk. */
  addSegment(segment: LogSegment, file: LogFile, queueSeq: number): void {
    this.#transaction(() => {
      this.#putSegment(segment, this.#putFile(file));
      this.#sql.putQueueSeq.run(queueSeq);
    });
  }

  /** `fused` in place of the segments from `firstRecords` on; the files of those are retired. */
  replaceSegments(
    replaced: readonly LogSegment[],
    fused: readonly { segment: LogSegment; file: LogFile }[],
    nowMs: number,
  ): void {
    this.#transaction(() => {
      for (const { records } of replaced) this.#sql.dropSegment.run(records);
      for (const { segment, file } of fused) this.#putSegment(segment, this.#putFile(file));
      this.#sql.retire.run(nowMs);
    });
  }

  putView(view: Omit<LogView, keyof CatalogFile>, file: LogFile, nowMs: number): void {
    this.#transaction(() => {
      this.#sql.putView.run(view.name, view.paths, view.madeOf, this.#putFile(file));
      this.#sql.retire.run(nowMs);
    });
  }

  dropView(name: string, nowMs: number): void {
    this.#transaction(() => {
      this.#sql.dropView.run(name);
      this.#sql.retire.run(nowMs);
    });
  }

  /** Files that were retired before, and so may be removed from the disk. */
  retiredBefore(ms: number): Sha256[] {
    return this.#all('retiredBefore', ms).map((row) => sha256FromDigest(bytesOf(row, 'sha256')));
  }

  dropFile(sha256: Sha256): void {
    this.#transaction(() => this.#sql.dropFile.run(sha256ToDigest(sha256)));
  }

  getMeta(key: string): string | undefined {
    const row = this.#get('getMeta', key);
    return row && textOf(row, 'value');
  }

  setMeta(key: string, value: string): void {
    this.#transaction(() => this.#sql.setMeta.run(key, value));
  }

  #end(): { records: number; ordinals: number } {
    const row = this.#get('end');
    if (row === undefined) return { records: 0, ordinals: 0 };
    return { records: numberOf(row, 'records'), ordinals: numberOf(row, 'ordinals') };
  }

  #putFile(file: LogFile): number {
    const { sha256, sizeBytes, infoHash, pieces } = file;
    const row = this.#sql.putFile.get(sha256ToDigest(sha256), sizeBytes, infoHashToDigest(infoHash), pieces);
    return numberOf(row ?? {}, 'id');
  }

  #putSegment(segment: LogSegment, file: number): void {
    const { records, chain, ordinals, plainBytes } = segment;
    this.#sql.putSegment.run(records, sha256ToDigest(chain), ordinals, plainBytes, file);
  }

  *#each<T>(entries: readonly T[], put: (entry: T) => void): Generator<void> {
    for (let at = 0; at < entries.length; at += turnRows) {
      this.#transaction(() => entries.slice(at, at + turnRows).forEach(put));
      yield;
    }
  }

  *#inTurns(action: () => number | bigint): Generator<void> {
    while (this.#transaction(action) === turnRows) yield;
  }

  #transaction<T>(action: () => T): T {
    return attempt('changing the log of the catalog', () => {
      this.#db.exec('BEGIN IMMEDIATE');
      try {
        const result = action();
        this.#db.exec('COMMIT');
        return result;
      } catch (error) {
        if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
        throw error;
      }
    });
  }

  #get(name: keyof LogStatements, ...values: Value[]): Row | undefined {
    return attempt('reading the log of the catalog', () => this.#sql[name].get(...values));
  }

  #all(name: keyof LogStatements, ...values: Value[]): Row[] {
    return attempt('reading the log of the catalog', () => this.#sql[name].all(...values));
  }
}

type Value = string | number | Uint8Array | null;

function fileOf(row: Row): CatalogFile {
  return {
    sha256: sha256FromDigest(bytesOf(row, 'sha256')),
    sizeBytes: numberOf(row, 'size_bytes'),
    infoHash: infoHashFromDigest(bytesOf(row, 'info_hash')),
  };
}

function segmentOf(row: Row): LogSegment {
  return {
    records: numberOf(row, 'records'),
    chain: sha256FromDigest(bytesOf(row, 'chain')),
    ordinals: numberOf(row, 'ordinals'),
    plainBytes: numberOf(row, 'plain_bytes'),
    ...fileOf(row),
  };
}

function revocationOf(row: Row): LoggedRevocation {
  return {
    id: numberOf(row, 'id'),
    fileHash: sha256FromDigest(bytesOf(row, 'file_hash')),
    infoHash: row.info_hash === null ? undefined : infoHashFromDigest(bytesOf(row, 'info_hash')),
    time: numberOf(row, 'time'),
    reason: textOf(row, 'reason'),
  };
}
