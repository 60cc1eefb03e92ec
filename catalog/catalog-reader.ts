/** What can be asked of a catalog. Every lookup touches the rows that it gives and no others. */

import {
  type InfoHash,
  infoHashFromDigest,
  infoHashToDigest,
  type Sha256,
  sha256ToDigest,
} from '../nar/hash.ts';
import { nix32Decode } from '../nar/nix32.ts';
import type { StoreHash } from '../nar/store-path.ts';
import { attempt } from './database.ts';
import {
  bytesOf,
  entryOf,
  type NarFileEntry,
  numberOf,
  type Refusal,
  type Row,
  refusalOf,
  textOf,
  type Upload,
  uploadOf,
} from './rows.ts';
import type { Statements } from './statements.ts';

/** Rows that one call of a paging method gives at most. */
export const catalogPageMax = 10_000;

export interface FileWithPieces {
  readonly entry: NarFileEntry;
  readonly pieces: Buffer;
}

export interface CatalogCounts {
  /** NAR files. */
  nars: number;
  /** Accepted narinfos, counted once for each source that offers them. */
  narinfos: number;
  rejected: number;
  rejectedByCode: Record<string, number>;
  /** Bytes of all NAR files. */
  bytes: number;
  /** NAR files whose torrents were ever uploaded: those that are free now, and those that are capped. */
  uploads: { swarming: number; capped: number };
}

/** Synchronous, takes microseconds, and throws store-failed or catalog-corrupt when the disk fails. */
export class CatalogReader {
  readonly #sql: Statements;

  constructor(sql: Statements) {
    this.#sql = sql;
  }

  byFileHash(fileHash: Sha256): NarFileEntry | undefined {
    return this.entry(this.get('entryByFileHash', sha256ToDigest(fileHash)));
  }

  /**
   * `file`: the torrent of a NAR file. `nar`: that of an uncompressed NAR, of which any NAR file that holds it is
   * named.
   */
  byInfoHash(infoHash: InfoHash): { kind: 'file' | 'nar'; entry: NarFileEntry } | undefined {
    const digest = infoHashToDigest(infoHash);
    const file = this.entry(this.get('entryByInfoHash', digest));
    if (file !== undefined) return { kind: 'file', entry: file };
    const nar = this.entry(this.get('entryByNarInfoHash', digest));
    return nar === undefined ? undefined : { kind: 'nar', entry: nar };
  }

  /** A NAR file and the piece hashes of its torrent. */
  fileByFileHash(fileHash: Sha256): FileWithPieces | undefined {
    return fileWithPieces(this.get('fileByFileHash', sha256ToDigest(fileHash)));
  }

  /** As `fileByFileHash`, by the infohash of the NAR file's torrent. */
  fileByInfoHash(infoHash: InfoHash): FileWithPieces | undefined {
    return fileWithPieces(this.get('fileByInfoHash', infoHashToDigest(infoHash)));
  }

  /** The NAR file behind the URL of an accepted narinfo. */
  byUrl(narUrl: string): NarFileEntry | undefined {
    return this.entry(this.get('entryByUrl', narUrl));
  }

  /** The piece hashes of a torrent, of a NAR file or of a NAR. */
  pieces(infoHash: InfoHash): Buffer | undefined {
    const digest = infoHashToDigest(infoHash);
    const row = this.get('piecesOfFile', digest) ?? this.get('piecesOfNar', digest);
    return row && bytesOf(row, 'digests');
  }

  /** Whether a torrent is that of a NAR file: one lookup in one index. */
  hasFileOfInfoHash(infoHash: InfoHash): boolean {
    return this.get('hasFileOfInfoHash', infoHashToDigest(infoHash)) !== undefined;
  }

  /** Whether a torrent is in the catalog: one lookup in one or two indexes. */
  hasInfoHash(infoHash: InfoHash): boolean {
    const digest = infoHashToDigest(infoHash);
    return this.get('hasInfoHash', digest, digest) !== undefined;
  }

  /** The text of an accepted narinfo, verbatim. */
  narInfo(storeHash: StoreHash): string | undefined {
    const row = this.get('narInfoText', nix32Decode(storeHash));
    return row && textOf(row, 'text');
  }

  /** The text of one of the narinfos of a NAR file. */
  narInfoOf(fileHash: Sha256): string | undefined {
    const row = this.get('narInfoOfFile', sha256ToDigest(fileHash));
    return row && textOf(row, 'text');
  }

  /** What became of a narinfo when it was last looked at. */
  known(
    source: string,
    narInfoName: string,
  ): { state: 'accepted' | 'refused'; fingerprint: string } | undefined {
    const accepted = this.get('knownAccepted', source, narInfoName);
    if (accepted) return { state: 'accepted', fingerprint: textOf(accepted, 'fingerprint') };
    const refused = this.get('knownRefused', source, narInfoName);
    return refused && { state: 'refused', fingerprint: textOf(refused, 'fingerprint') };
  }

  /** At most `limit` NAR files in the order of their FileHash's bytes, from the one after `afterFileHash`. */
  entries(afterFileHash: Sha256 | undefined, limit: number): NarFileEntry[] {
    const after = afterFileHash === undefined ? Buffer.alloc(0) : sha256ToDigest(afterFileHash);
    return this.all('entries', after, pageSize(limit)).map(entryOf);
  }

  /** At most `limit` NAR files, the last accepted first. */
  newest(limit: number): NarFileEntry[] {
    return this.all('newest', pageSize(limit)).map(entryOf);
  }

  /** Those of them that are in no pack and wait for none; looked for among the last `among`. */
  newestAlone(limit: number, among: number): NarFileEntry[] {
    return this.all('newestAlone', among, pageSize(limit)).map(entryOf);
  }

  /** At most `limit` refusals, by source and name, from the one after `after`. */
  refusals(limit: number, after?: { source: string; narInfoName: string }): Refusal[] {
    const id = after === undefined ? 0 : (this.sourceId(after.source) ?? 0);
    return this.all('refusals', id, after?.narInfoName ?? '', pageSize(limit)).map(refusalOf);
  }

  /** At most `limit` names of the accepted narinfos of a source, in order, from the one after `afterName`. */
  narInfoNames(source: string, afterName: string | undefined, limit: number): string[] {
    const rows = this.all('narInfoNames', source, afterName ?? '', pageSize(limit));
    return rows.map((row) => textOf(row, 'name'));
  }

  /** What was uploaded of the torrent of a NAR file or of a pack; `undefined` when nothing ever was. */
  upload(infoHash: InfoHash): Upload | undefined {
    const row = this.get('upload', infoHashToDigest(infoHash));
    return row && uploadOf(row);
  }

  /**
   * The torrents of at most `limit` NAR files in the order in which they were first accepted, from after the row `after`; of a
   * compressed one also that of its NAR. `last` is where to go on.
   */
  infoHashes(after: number, limit: number): { infoHashes: InfoHash[]; last: number | undefined } {
    const rows = this.all('infoHashes', after, pageSize(limit));
    const infoHashes = new Set(
      rows.flatMap((row) =>
        [bytesOf(row, 'info_hash'), bytesOf(row, 'nar_info_hash')].map(infoHashFromDigest),
      ),
    );
    const last = rows.at(-1);
    return { infoHashes: [...infoHashes], last: last && numberOf(last, 'id') };
  }

  /** Kept up to date with every change: nothing is counted here. */
  counts(): CatalogCounts {
    const uploads = { swarming: 0, capped: 0 };
    const counts: CatalogCounts = {
      nars: 0,
      narinfos: 0,
      rejected: 0,
      rejectedByCode: {},
      bytes: 0,
      uploads,
    };
    for (const row of this.all('counters')) {
      const name = textOf(row, 'name');
      const value = numberOf(row, 'value');
      if (name === 'nars' || name === 'narinfos' || name === 'bytes') counts[name] = value;
      else if (name === 'uploads/swarming') uploads.swarming = value;
      else if (name === 'uploads/capped') uploads.capped = value;
      else if (name.startsWith('rejected/') && value > 0) {
        counts.rejectedByCode[name.slice('rejected/'.length)] = value;
        counts.rejected += value;
      }
    }
    return counts;
  }

  /** URLs of all sources that were ever named, in the order in which they were. */
  sources(): string[] {
    return this.all('sources').map((row) => textOf(row, 'url'));
  }

  /** A value kept under a name, such as the cache's StoreDir. */
  getMeta(key: string): string | undefined {
    const row = this.get('getMeta', key);
    return row && textOf(row, 'value');
  }

  protected sourceId(url: string): number | undefined {
    const row = this.get('sourceId', url);
    return row && numberOf(row, 'id');
  }

  protected entry(row: Row | undefined): NarFileEntry | undefined {
    return row && entryOf(row);
  }

  protected get(name: keyof Statements, ...values: Value[]): Row | undefined {
    return attempt('reading the catalog', () => this.#sql[name].get(...values));
  }

  protected all(name: keyof Statements, ...values: Value[]): Row[] {
    return attempt('reading the catalog', () => this.#sql[name].all(...values));
  }
}

type Value = string | number | bigint | Uint8Array | null;

function pageSize(limit: number): number {
  return Math.max(0, Math.min(limit, catalogPageMax));
}

function fileWithPieces(row: Row | undefined): FileWithPieces | undefined {
  return row && { entry: entryOf(row), pieces: bytesOf(row, 'digests') };
}
