/**
 * A catalog that somebody else signs, as far as it was followed: its NAR files, narinfos, packs and revocations, in a
 * SQLite file. Read here; follow.ts fills it, from another thread, so that a reader always sees whole segments.
 */

import type { DatabaseSync } from 'node:sqlite';
import {
  type InfoHash,
  infoHashFromDigest,
  infoHashToDigest,
  type Sha256,
  sha256FromDigest,
  sha256ToDigest,
} from '../nar/hash.ts';
import { nix32DecodeInto, nix32Encode } from '../nar/nix32.ts';
import { type PublicKey, parsePublicKey } from '../nar/signature.ts';
import type { StoreHash } from '../nar/store-path.ts';
import { catalogPageMax } from './catalog-reader.ts';
import { attempt, openDatabase } from './database.ts';
import { followedKind } from './followed-schema.ts';
import { type CatalogHead, parseHead } from './head.ts';
import { bytesOf, digestOf, numberOf, type Row, textOf, torrentInfoOf } from './rows.ts';
import type { TorrentInfo } from './torrentinfo.ts';

/** A NAR file that was found wrong. */
export interface Revoked {
  readonly reason: string;
  /** Seconds since 1970. */
  readonly time: number;
}

export interface FollowedEntry {
  /** Its number in the catalog, which is never another NAR file's. */
  readonly ordinal: number;
  readonly fileHash: Sha256;
  /** In bytes. */
  readonly fileSize: number;
}

/** What was accepted last, and whom it leaves to sign what comes next. */
export interface Accepted {
  readonly headText: string;
  /** Those that were configured then: one that is added later is trusted as well, one that was retired is not. */
  readonly configuredKeys: readonly string[];
}

/** `path` must name a file, as another thread writes it. Throws as `openDatabase`. */
export function openFollowed(path: string): FollowedCatalog {
  return new FollowedCatalog(path, openDatabase(path, { kind: followedKind }));
}

/** Everything here is synchronous and takes microseconds. NAR files that were revoked are found by `revoked` alone. */
export class FollowedCatalog {
  readonly path: string;
  readonly #db: DatabaseSync;
  readonly #sql: Statements;
  #head: CatalogHead | undefined;
  #keys: { head: CatalogHead; keys: PublicKey[] } | undefined;
  /** Of a store path; the same bytes each time, as making new ones takes as long as a look into the index. */
  readonly #storeHash = Buffer.alloc(20);
  /** While there is a transaction that reads. */
  #turn: NodeJS.Immediate | undefined;

  constructor(path: string, db: DatabaseSync) {
    this.path = path;
    this.#db = db;
    this.#sql = prepareStatements(db);
  }

  /** The head that was accepted last. */
  head(): CatalogHead | undefined {
    const text = this.#state('head');
    if (text !== this.#head?.text) this.#head = text === undefined ? undefined : parseHead(text);
    return this.#head;
  }

  /** The keys that head names; none before the first. */
  keys(): PublicKey[] {
    const head = this.head();
    if (head === undefined) return [];
    // The same keys each time: to make one takes longer than to check a signature with it.
    if (this.#keys?.head !== head) this.#keys = { head, keys: head.keys.map(parsePublicKey) };
    return [...this.#keys.keys];
  }

  narInfo(storeHash: StoreHash): { text: string; fileHash: Sha256 } | undefined {
    this.#readInTurn();
    nix32DecodeInto(storeHash, this.#storeHash);
    const row = this.#get('narInfo', this.#storeHash);
    return row && { text: textOf(row, 'text'), fileHash: sha256FromDigest(digestOf(row, 'file_hash')) };
  }

  /** Its text alone, for half: blobs are dear. */
  narInfoText(storeHash: StoreHash): string | undefined {
    this.#readInTurn();
    nix32DecodeInto(storeHash, this.#storeHash);
    const row = attempt('reading the followed catalog', () => this.#sql.narInfoText.get(this.#storeHash));
    return row === undefined ? undefined : textIn(row);
  }

  /** As it was signed; whether by a key that is trusted is not known here. */
  torrentInfo(fileHash: Sha256): TorrentInfo | undefined {
    const row = this.#get('narFile', sha256ToDigest(fileHash));
    return row && torrentInfoOf(row);
  }

  /** The NAR file with this torrent; not by the torrent of the NAR in it. */
  byInfoHash(infoHash: InfoHash): Sha256 | undefined {
    const row = this.#get('byInfoHash', infoHashToDigest(infoHash));
    return row && sha256FromDigest(bytesOf(row, 'file_hash'));
  }

  ordinal(fileHash: Sha256): number | undefined {
    const row = this.#get('ordinal', sha256ToDigest(fileHash));
    return row && numberOf(row, 'ordinal');
  }

  byOrdinal(ordinal: number): Sha256 | undefined {
    const row = this.#get('byOrdinal', ordinal);
    return row && sha256FromDigest(bytesOf(row, 'file_hash'));
  }

  /** One more than the highest ordinal that was ever given. */
  get ordinals(): number {
    const row = this.#get('position');
    return row === undefined ? 0 : numberOf(row, 'ordinals');
  }

  /** Records taken in, which may be more than the head's: those of a newer one while it is followed. */
  get records(): number {
    const row = this.#get('position');
    return row === undefined ? 0 : numberOf(row, 'records');
  }

  /** Counted row by row: for people who ask. */
  counts(): { records: number; narFiles: number; narInfos: number; packs: number; revoked: number } {
    const row = this.#get('counts') ?? {};
    return {
      records: this.records,
      narFiles: numberOf(row, 'nar_files'),
      narInfos: numberOf(row, 'narinfos'),
      packs: numberOf(row, 'packs'),
      revoked: numberOf(row, 'revoked'),
    };
  }

  /** Of all narinfos with this NAR file. */
  storeHashesOf(fileHash: Sha256): StoreHash[] {
    const rows = this.#all('storeHashesOf', sha256ToDigest(fileHash));
    return rows.map((row) => nix32Encode(bytesOf(row, 'store_hash')) as StoreHash);
  }

  packOf(fileHash: Sha256): { infoHash: InfoHash; offset: number } | undefined {
    const row = this.#get('packOf', sha256ToDigest(fileHash));
    return (
      row && { infoHash: infoHashFromDigest(bytesOf(row, 'info_hash')), offset: numberOf(row, 'offset') }
    );
  }

  /** The text of its manifest. */
  pack(infoHash: InfoHash): string | undefined {
    const row = this.#get('pack', infoHashToDigest(infoHash));
    return row && textOf(row, 'manifest');
  }

  /** At most `limit` packs, by the bytes of their infohashes, from the one after `after`. */
  packs(after: InfoHash | undefined, limit: number): InfoHash[] {
    const digest = after === undefined ? Buffer.alloc(0) : infoHashToDigest(after);
    return this.#all('packs', digest, pageSize(limit)).map((row) =>
      infoHashFromDigest(bytesOf(row, 'info_hash')),
    );
  }

  /** At most `limit` NAR files by their ordinals, from the one after `after`; -1 for the first. */
  entries(after: number, limit: number): FollowedEntry[] {
    return this.#all('entries', after, pageSize(limit)).map((row) => ({
      ordinal: numberOf(row, 'ordinal'),
      fileHash: sha256FromDigest(bytesOf(row, 'file_hash')),
      fileSize: numberOf(row, 'file_size'),
    }));
  }

  revoked(fileHash: Sha256): Revoked | undefined {
    const row = this.#get('revoked', sha256ToDigest(fileHash));
    return row && { reason: textOf(row, 'reason'), time: numberOf(row, 'time') };
  }

  /** At most `limit` revocations by the bytes of their FileHashes, from the one after `after`. */
  revocations(after: Sha256 | undefined, limit: number): ({ fileHash: Sha256 } & Revoked)[] {
    const digest = after === undefined ? Buffer.alloc(0) : sha256ToDigest(after);
    return this.#all('revocations', digest, pageSize(limit)).map((row) => ({
      fileHash: sha256FromDigest(bytesOf(row, 'file_hash')),
      reason: textOf(row, 'reason'),
      time: numberOf(row, 'time'),
    }));
  }

  /** For follow.ts. */
  accepted(): Accepted | undefined {
    const headText = this.#state('head');
    if (headText === undefined) return undefined;
    return { headText, configuredKeys: (this.#state('configured-keys') ?? '').split('\n') };
  }

  /** For follow.ts, once all records of the head are taken in. */
  accept({ headText, configuredKeys }: Accepted): void {
    attempt('writing the followed catalog', () => {
      this.#endTurn();
      this.#db.exec('BEGIN IMMEDIATE');
      try {
        this.#sql.putState.run('head', headText);
        this.#sql.putState.run('configured-keys', configuredKeys.join('\n'));
        this.#db.exec('COMMIT');
      } catch (error) {
        if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
        throw error;
      }
    });
  }

  /** For view.ts: the hash of the file that was read into this one. */
  get viewSha256(): string | undefined {
    return this.#state('view');
  }

  close(): void {
    clearImmediate(this.#turn);
    if (this.#db.isOpen) this.#db.close();
  }

  /** In one transaction with whatever else is asked in this turn of the event loop: to begin and end one takes as long as to read a narinfo. */
  #readInTurn(): void {
    if (this.#turn !== undefined) return;
    if (!this.#db.isTransaction) attempt('reading the followed catalog', () => this.#sql.begin.run());
    this.#turn = setImmediate(() => this.#endTurn());
  }

  #endTurn(): void {
    if (this.#turn === undefined) return;
    clearImmediate(this.#turn);
    this.#turn = undefined;
    try {
      this.#sql.commit.run();
    } catch {
      // Nothing was written. Whoever reads next goes on in it, and is told what is wrong.
    }
  }

  #state(key: string): string | undefined {
    const row = this.#get('state', key);
    return row && textOf(row, 'value');
  }

  #get(name: keyof Statements, ...values: Value[]): Row | undefined {
    return attempt('reading the followed catalog', () => this.#sql[name].get(...values));
  }

  #all(name: keyof Statements, ...values: Value[]): Row[] {
    return attempt('reading the followed catalog', () => this.#sql[name].all(...values));
  }
}

type Value = string | number | Uint8Array;
type Statements = ReturnType<typeof prepareStatements>;

function prepareStatements(db: DatabaseSync) {
  const narInfoText = db.prepare('SELECT text FROM narinfo WHERE store_hash = ?');
  // Without the names of the columns a row takes a fifth less.
  narInfoText.setReturnArrays(true);
  return {
    begin: db.prepare('BEGIN'),
    commit: db.prepare('COMMIT'),
    state: db.prepare('SELECT value FROM state WHERE key = ?'),
    putState: db.prepare(
      'INSERT INTO state VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
    ),
    position: db.prepare('SELECT records, ordinals FROM position'),
    counts: db.prepare(`
      SELECT (SELECT count(*) FROM nar_file) AS nar_files, (SELECT count(*) FROM narinfo) AS narinfos,
        (SELECT count(*) FROM pack) AS packs, (SELECT count(*) FROM revocation) AS revoked`),
    narInfo: db.prepare(
      'SELECT n.text, f.file_hash FROM narinfo n JOIN nar_file f ON f.ordinal = n.ordinal WHERE n.store_hash = ?',
    ),
    narInfoText,
    narFile: db.prepare(`
      SELECT file_hash, file_size, compression, nar_hash, nar_size, info_hash, nar_info_hash, sigs
      FROM nar_file WHERE file_hash = ?`),
    byInfoHash: db.prepare('SELECT file_hash FROM nar_file WHERE info_hash = ? ORDER BY ordinal LIMIT 1'),
    ordinal: db.prepare('SELECT ordinal FROM nar_file WHERE file_hash = ?'),
    byOrdinal: db.prepare('SELECT file_hash FROM nar_file WHERE ordinal = ?'),
    storeHashesOf: db.prepare(
      'SELECT store_hash FROM narinfo WHERE ordinal = (SELECT ordinal FROM nar_file WHERE file_hash = ?)',
    ),
    packOf: db.prepare(
      'SELECT p.info_hash, f.offset FROM packed_file f JOIN pack p ON p.id = f.pack WHERE f.file_hash = ?',
    ),
    pack: db.prepare('SELECT manifest FROM pack WHERE info_hash = ?'),
    packs: db.prepare('SELECT info_hash FROM pack WHERE info_hash > ? ORDER BY info_hash LIMIT ?'),
    entries: db.prepare(
      'SELECT ordinal, file_hash, file_size FROM nar_file WHERE ordinal > ? ORDER BY ordinal LIMIT ?',
    ),
    revoked: db.prepare('SELECT time, reason FROM revocation WHERE file_hash = ?'),
    revocations: db.prepare(
      'SELECT file_hash, time, reason FROM revocation WHERE file_hash > ? ORDER BY file_hash LIMIT ?',
    ),
  };
}

/** `row` is an array. */
function textIn(row: Row): string {
  return textOf(row, '0');
}

function pageSize(limit: number): number {
  return Math.max(0, Math.min(limit, catalogPageMax));
}
