/** The next segment of a log: what waits in the queue, as records, up to the limits of a segment. */

import { isNarswarmError } from '../nar/errors.ts';
import { type Sha256, sha256FromDigest, sha256ToDigest } from '../nar/hash.ts';
import { Chain, firstChain } from './chain.ts';
import { textDigest } from './log.ts';
import type { LogReader, Queued } from './log-reader.ts';
import { type CatalogRecord, frameRecord } from './record.ts';
import { bytesOf, numberOf, type Row, textOf, torrentInfoOf } from './rows.ts';
import { type SegmentLimits, segmentLimits } from './segment.ts';
import { printTorrentInfo } from './torrentinfo.ts';

/** Rows of the queue that are read at once. */
const pageRows = 256;
/** Bytes of the narinfos that enter with their NAR file; more of them have to wait for their own turn. */
const companionsMaxBytes = 1 << 20;

export class LogDraft {
  readonly #log: LogReader;
  readonly #limits: SegmentLimits;
  readonly #chain: Chain;
  /** By FileHash and by store hash, both as they are written. */
  readonly #torrentInfos = new Map<string, Buffer>();
  readonly #narInfos = new Map<string, Buffer>();
  /** Rows of narinfos that were read for this draft, by their ids. */
  readonly #read = new Set<number>();
  /** The last row of the queue when the draft began: what was read since is as new as that says. */
  readonly #begunAt: number;

  records: number;
  ordinals: number;
  queueSeq: number;
  plainBytes = 0;
  /** Rows that no reader could take, and that are left out. */
  unreadable = 0;
  /** For `CatalogLog.putOrdinals` and `putDigests`. */
  readonly newOrdinals: (readonly [ordinal: number, fileHash: Buffer, digest: Buffer])[] = [];
  readonly changed: (readonly [digest: Buffer, fileHash: Buffer])[] = [];
  readonly narInfoDigests: (readonly [storeHash: Buffer, digest: Buffer])[] = [];

  constructor(log: LogReader, nixStoreDir: string, limits: SegmentLimits = segmentLimits) {
    this.#log = log;
    this.#limits = limits;
    const last = log.last();
    this.#chain = new Chain(sha256ToDigest(last?.chain ?? firstChain(nixStoreDir)));
    this.records = last?.records ?? 0;
    this.ordinals = last?.ordinals ?? 0;
    this.queueSeq = log.queueSeq;
    this.#begunAt = log.lastQueued;
  }

  get chain(): Sha256 {
    return sha256FromDigest(this.#chain.digest());
  }

  /** The framed records, as they are read; what this object tells is right once the last one was given. */
  *framed(): Generator<Buffer> {
    const most = this.records + this.#limits.records;
    for (;;) {
      const page = this.#log.queued(this.queueSeq, pageRows);
      if (page.length === 0) return;
      for (const queued of page) {
        const entries = this.#recordsOf(queued);
        const bytes = entries.reduce((sum, { framed }) => sum + framed.length, 0);
        const fits = this.records + entries.length <= most && this.plainBytes + bytes <= this.#limits.bytes;
        if (!fits && this.plainBytes > 0) return;
        for (const { framed, note } of entries) {
          note();
          this.#chain.add(framed);
          this.records++;
          this.plainBytes += framed.length;
          yield framed;
        }
        this.queueSeq = queued.seq;
      }
    }
  }

  /** What a row of the queue has to say that was not said; a row that went away has nothing. */
  #recordsOf({ seq, kind, row }: Queued): Entry[] {
    switch (kind) {
      case 'torrentinfo': {
        const found = this.#log.narFileRow(row);
        if (found === undefined) return [];
        const entries = this.#torrentInfo(found);
        let bytes = 0;
        for (const narInfo of this.#log.narInfoRowsOf(row)) {
          bytes += textOf(narInfo, 'text').length;
          if (bytes > companionsMaxBytes) break;
          this.#read.add(numberOf(narInfo, 'id'));
          entries.push(...this.#narInfo(narInfo));
        }
        return entries;
      }
      case 'narinfo': {
        if (seq <= this.#begunAt && this.#read.has(row)) return [];
        const found = this.#log.narInfoRow(row);
        if (found === undefined) return [];
        const narFile = this.#log.narFileRow(numberOf(found, 'nar_file'));
        return narFile === undefined ? [] : [...this.#torrentInfo(narFile), ...this.#narInfo(found)];
      }
      case 'pack': {
        const pack = this.#log.packRow(row);
        return pack === undefined ? [] : this.#entry({ kind, infoHash: pack.infoHash, text: pack.manifest });
      }
      case 'revocation': {
        const found = this.#log.revocationRow(row);
        return found === undefined ? [] : this.#entry({ ...found, kind });
      }
    }
  }

  #torrentInfo(row: Row): Entry[] {
    const info = torrentInfoOf(row);
    const fileHash = bytesOf(row, 'file_hash');
    const text = printTorrentInfo(info);
    const digest = textDigest(text);
    const drafted = this.#torrentInfos.get(info.fileHash);
    const published = drafted === undefined ? this.#log.published(fileHash) : undefined;
    const before = drafted ?? published?.digest;
    if (before?.equals(digest)) return [];
    return this.#entry({ kind: 'torrentinfo', text }, () => {
      const ordinal = this.ordinals++;
      this.#torrentInfos.set(info.fileHash, digest);
      if (before === undefined) this.newOrdinals.push([ordinal, fileHash, digest]);
      else this.changed.push([digest, fileHash]);
    });
  }

  #narInfo(row: Row): Entry[] {
    const storeHash = bytesOf(row, 'store_hash');
    const fileHash = sha256FromDigest(bytesOf(row, 'file_hash'));
    const text = textOf(row, 'text');
    const key = storeHash.toString('hex');
    const digest = textDigest(`${fileHash}\n${text}`);
    const before = this.#narInfos.get(key) ?? this.#log.publishedNarInfo(storeHash);
    if (before?.equals(digest)) return [];
    return this.#entry({ kind: 'narinfo', fileHash, text }, () => {
      this.#narInfos.set(key, digest);
      this.narInfoDigests.push([storeHash, digest]);
    });
  }

  #entry(record: CatalogRecord, note: () => void = () => undefined): Entry[] {
    try {
      return [{ framed: frameRecord(record), note }];
    } catch (error) {
      if (!isNarswarmError(error, 'record-corrupt', 'segment-corrupt')) throw error;
      this.unreadable++;
      return [];
    }
  }
}

interface Entry {
  readonly framed: Buffer;
  /** Called when it enters. */
  note(): void;
}
