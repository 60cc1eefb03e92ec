/**
 * A seeder's log: what was accepted, revoked or packed becomes records, numbered for ever and cut into segments. The
 * records themselves lie in the segments' files; the database knows what is still to enter, and what the files are.
 *
 * Nothing is lost or entered twice in another order by a crash: a change queues its record in its own transaction, and a
 * segment counts from the transaction that names its file, which is on the disk by then.
 */

import { hash } from 'node:crypto';
import type { DatabaseSync } from 'node:sqlite';
import { infoHashToDigest, type Sha256, sha256FromDigest, sha256ToDigest } from '../nar/hash.ts';
import { attempt } from './database.ts';
import type { CatalogFile } from './head.ts';
import { type LogFile, LogReader, type LogSegment, type LogView } from './log-reader.ts';
import { type LogStatements, prepareLogStatements } from './log-statements.ts';
import { bytesOf, numberOf } from './rows.ts';

/** Rows of one transaction: it holds up whoever accepts NAR files for a millisecond or two. */
const turnRows = 100;
const digestBytes = 16;

/** What of a published text is kept, to tell whether it changed. */
export function textDigest(text: string): Buffer {
  return hash('sha256', text, 'buffer').subarray(0, digestBytes);
}

/** Everything is synchronous. What changes many rows does so in several transactions, and yields between them. */
export class CatalogLog extends LogReader {
  readonly #db: DatabaseSync;
  readonly #sql: LogStatements;

  constructor(db: DatabaseSync) {
    const sql = prepareLogStatements(db);
    super(sql);
    this.#db = db;
    this.#sql = sql;
  }

  /** What a publication that died left: numbers that no segment has, and what of the queue is in segments. */
  *tidy(): Generator<void> {
    const { ordinals } = this.end();
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
    return this.all('retiredBefore', ms).map((row) => sha256FromDigest(bytesOf(row, 'sha256')));
  }

  dropFile(sha256: Sha256): void {
    this.#transaction(() => this.#sql.dropFile.run(sha256ToDigest(sha256)));
  }

  setMeta(key: string, value: string): void {
    this.#transaction(() => this.#sql.setMeta.run(key, value));
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
}
