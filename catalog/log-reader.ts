/** What can be asked of a seeder's log: by everybody, and by the publisher for the next segment. */

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
import type { LogStatements } from './log-statements.ts';
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

/** Synchronous; throws store-failed or catalog-corrupt when the disk fails. */
export class LogReader {
  readonly #sql: LogStatements;

  constructor(sql: LogStatements) {
    this.#sql = sql;
  }

  /** Whether something waits to enter. */
  hasPending(): boolean {
    return this.get('pending', this.queueSeq) !== undefined;
  }

  /** How many rows wait, up to `max`. */
  pendingCount(max: number): number {
    return numberOf(this.get('pendingCount', this.queueSeq, max) ?? {}, 'count');
  }

  /** How far the queue was read. */
  get queueSeq(): number {
    return numberOf(this.get('queueSeq') ?? {}, 'seq');
  }

  /** The last row of the queue. */
  get lastQueued(): number {
    return numberOf(this.get('lastQueued') ?? {}, 'seq');
  }

  /** Records that are in segments. */
  get records(): number {
    return this.end().records;
  }

  /** The last segment; before the first one, zeros. */
  last(): LogSegment | undefined {
    const row = this.get('lastSegment');
    return row && segmentOf(row);
  }

  segments(): LogSegment[] {
    return this.all('segments').map(segmentOf);
  }

  get segmentCount(): number {
    return numberOf(this.get('segmentCount') ?? {}, 'count');
  }

  views(): LogView[] {
    return this.all('views').map((row) => ({
      name: textOf(row, 'name'),
      paths: numberOf(row, 'paths'),
      madeOf: textOf(row, 'made_of'),
      ...fileOf(row),
    }));
  }

  /** A segment or view by its torrent; those that were retired as long as they are on the disk. */
  fileByInfoHash(infoHash: InfoHash): LogFile | undefined {
    const row = this.get('fileByInfoHash', infoHashToDigest(infoHash));
    return row && { ...fileOf(row), pieces: bytesOf(row, 'pieces') };
  }

  hasFileOfInfoHash(infoHash: InfoHash): boolean {
    return this.get('hasFile', infoHashToDigest(infoHash)) !== undefined;
  }

  /** The number of a NAR file that is published. */
  ordinal(fileHash: Sha256): number | undefined {
    const row = this.get('ordinal', sha256ToDigest(fileHash));
    const ordinal = row && numberOf(row, 'ordinal');
    return ordinal !== undefined && ordinal < this.ordinals ? ordinal : undefined;
  }

  byOrdinal(ordinal: number): Sha256 | undefined {
    const row = ordinal < this.ordinals ? this.get('byOrdinal', ordinal) : undefined;
    return row && sha256FromDigest(bytesOf(row, 'file_hash'));
  }

  /** One more than the highest number that was given. */
  get ordinals(): number {
    return this.end().ordinals;
  }

  revoked(fileHash: Sha256): LoggedRevocation | undefined {
    const row = this.get('revocation', sha256ToDigest(fileHash));
    return row && revocationOf(row);
  }

  /** At most `limit`, in the order in which they were made, from the one after `afterId`. */
  revocations(afterId: number, limit: number): LoggedRevocation[] {
    return this.all('revocations', afterId, Math.max(0, Math.min(limit, 10_000))).map(revocationOf);
  }

  get revokedCount(): number {
    return numberOf(this.get('revokedCount') ?? {}, 'count');
  }

  /** The id of the last one; 0 before the first. */
  get lastRevocation(): number {
    return numberOf(this.get('lastRevocation') ?? {}, 'id');
  }

  /** The NAR files of all narinfos of a store path. */
  fileHashesOf(storeHash: StoreHash): Sha256[] {
    const rows = this.all('fileHashesOf', nix32Decode(storeHash));
    return rows.map((row) => sha256FromDigest(bytesOf(row, 'file_hash')));
  }

  // For the publisher

  /** At most `limit` of the queue, from after `afterSeq`. */
  queued(afterSeq: number, limit: number): Queued[] {
    return this.all('queued', afterSeq, limit).map((row) => {
      const kind = queueKinds[numberOf(row, 'kind')];
      if (kind === undefined)
        throw new NarswarmError('catalog-corrupt', 'a row of the queue of an unknown kind');
      return { seq: numberOf(row, 'seq'), kind, row: numberOf(row, 'row') };
    });
  }

  /** What was published of a NAR file and of a store path. */
  published(fileHash: Buffer): { ordinal: number; digest: Buffer } | undefined {
    const row = this.get('ordinal', fileHash);
    return row && { ordinal: numberOf(row, 'ordinal'), digest: bytesOf(row, 'digest') };
  }

  publishedNarInfo(storeHash: Buffer): Buffer | undefined {
    const row = this.get('narInfoDigest', storeHash);
    return row && bytesOf(row, 'digest');
  }

  narFileRow(id: number): Row | undefined {
    return this.get('narFileRow', id);
  }

  /** Those that are served, of a NAR file. */
  narInfoRowsOf(narFile: number): Row[] {
    return this.all('narInfoRowsOf', narFile);
  }

  /** If it is the one that is served under its store hash. */
  narInfoRow(id: number): Row | undefined {
    return this.get('narInfoRow', id);
  }

  /** The one that is served. */
  narInfoByStoreHash(storeHash: Buffer): Row | undefined {
    return this.get('narInfoByStoreHash', storeHash);
  }

  narFileByHash(fileHash: Buffer): Row | undefined {
    return this.get('narFileByHash', fileHash);
  }

  packRow(id: number): { infoHash: InfoHash; manifest: string } | undefined {
    const row = this.get('packRow', id);
    return (
      row && { infoHash: infoHashFromDigest(bytesOf(row, 'info_hash')), manifest: textOf(row, 'manifest') }
    );
  }

  revocationRow(id: number): LoggedRevocation | undefined {
    const row = this.get('revocationRow', id);
    return row && revocationOf(row);
  }

  getMeta(key: string): string | undefined {
    const row = this.get('getMeta', key);
    return row && textOf(row, 'value');
  }

  protected end(): { records: number; ordinals: number } {
    const row = this.get('end');
    if (row === undefined) return { records: 0, ordinals: 0 };
    return { records: numberOf(row, 'records'), ordinals: numberOf(row, 'ordinals') };
  }

  protected get(name: keyof LogStatements, ...values: Value[]): Row | undefined {
    return attempt('reading the log of the catalog', () => this.#sql[name].get(...values));
  }

  protected all(name: keyof LogStatements, ...values: Value[]): Row[] {
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
