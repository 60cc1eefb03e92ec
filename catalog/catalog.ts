/**
 * The catalog of a seeder: which NAR files are verified, under which narinfos, with which torrents, and which
 * narinfos were refused. A SQLite file; one row costs no memory, so that it holds ten million.
 *
 * Several narinfos may have one NAR file. When several sources offer one store path, the narinfo that was accepted
 * first is the one that is served; when it goes, the next one takes its place.
 */

import type { DatabaseSync } from 'node:sqlite';
import type { ErrorCode } from '../nar/errors.ts';
import { NarswarmError } from '../nar/errors.ts';
import { type InfoHash, infoHashToDigest, type Sha256, sha256ToDigest } from '../nar/hash.ts';
import type { NarInfo } from '../nar/narinfo.ts';
import { nix32Decode } from '../nar/nix32.ts';
import { storeHashOf } from '../nar/store-path.ts';
import { CatalogReader } from './catalog-reader.ts';
import { attempt, beginIfFree, type DatabaseOptions, openDatabase } from './database.ts';
import { CatalogLog } from './log.ts';
import { CatalogPacks } from './packs.ts';
import { revokeNarFile } from './revoke.ts';
import { joinSigs, type NarFileEntry, type NarFileLocation, numberOf, textOf, type Upload } from './rows.ts';
import { prepareStatements, type Statements } from './statements.ts';

export type { NarFileEntry, NarFileLocation, Refusal, Upload } from './rows.ts';

/** Characters of a refusal's message that are kept. */
export const refusalMessageMax = 500;

/** A narinfo in a source, as the scanner sees it. */
export interface NarInfoKey {
  /** URL of the source. */
  readonly source: string;
  /** File name of the narinfo in the source. */
  readonly narInfoName: string;
  /**
   * Made by the scanner of the narinfo and of its NAR file's size and time: another one means that something
   * changed.
   */
  readonly fingerprint: string;
}

export interface AcceptedNarFile extends NarInfoKey {
  readonly narInfo: NarInfo;
  readonly entry: NarFileEntry;
  /** Piece hashes of the torrent of the NAR file. */
  readonly filePieces: Buffer;
  /** Piece hashes of the torrent of the NAR itself; the same with Compression none. */
  readonly narPieces: Buffer;
}

export interface AcceptedAlias extends NarInfoKey {
  readonly narInfo: NarInfo;
  readonly fileHash: Sha256;
}

/**
 * Throws catalog-incompatible when `path` is no catalog, or one of a newer narswarm. `:memory:` gives an empty one.
 */
export function openCatalog(path: string, options: DatabaseOptions = {}): Catalog {
  return new Catalog(openDatabase(path, options));
}

/**
 * Everything here is synchronous, takes microseconds, and throws store-failed or catalog-corrupt when the disk
 * fails.
 */
export class Catalog extends CatalogReader {
  readonly #db: DatabaseSync;
  readonly #sql: Statements;
  readonly packs: CatalogPacks;
  readonly log: CatalogLog;
  #depth = 0;
  #torrentChanges = 0;

  constructor(db: DatabaseSync) {
    const sql = prepareStatements(db);
    super(sql);
    this.#db = db;
    this.#sql = sql;
    this.log = new CatalogLog(db);
    this.packs = new CatalogPacks(db, (action) => this.transaction(action));
  }

  /** Rises whenever `infoHashes` gives something else than before, or `packs.list`. */
  get torrentChanges(): number {
    return this.#torrentChanges + this.packs.changes;
  }

  /**
   * Takes in a NAR file that was verified, with the narinfo under which it was. What was known of that narinfo
   * before is replaced; a NAR file to which no narinfo points any more goes.
   */
  accept(accepted: AcceptedNarFile): void {
    const { narInfo, entry } = accepted;
    checkFits(narInfo, entry);
    this.transaction(() => {
      const revoked = this.log.revoked(entry.fileHash);
      if (revoked !== undefined) throw new NarswarmError('revoked', revoked.reason);
      const id = this.#putNarFile(entry);
      this.#run('putPieces', 2 * id, accepted.filePieces);
      if (entry.compression === 'none') this.#run('dropPieces', 2 * id + 1, 2 * id + 1);
      else this.#run('putPieces', 2 * id + 1, accepted.narPieces);
      this.#putNarInfo(accepted, narInfo, id, entry.location);
    });
  }

  /**
   * Takes in another narinfo of a NAR file that was verified before. Throws not-held when that file is not (or no
   * longer) in the catalog, and a mismatch when the narinfo says other things than were verified.
   */
  acceptAlias(alias: AcceptedAlias): void {
    const { narInfo, fileHash, source } = alias;
    this.transaction(() => {
      const row = this.get('entryByFileHash', sha256ToDigest(fileHash));
      const entry = this.entry(row);
      if (row === undefined || entry === undefined) {
        throw notHeld(fileHash);
      }
      checkFits(narInfo, entry);
      const id = numberOf(row, 'id');
      // The same URL of the same source is the same file; of elsewhere nothing is known but that it has these bytes.
      const same = this.get('locationByUrl', source, narInfo.url, id);
      const location = same && {
        source,
        path: textOf(same, 'path'),
        sizeBytes: numberOf(same, 'size_bytes'),
        mtimeNs: BigInt(textOf(same, 'mtime_ns')),
      };
      this.#putNarInfo(alias, narInfo, id, location);
      // The narinfo that was replaced may have been the only one under which the bytes were seen.
      if (this.get('isHeld', id) === undefined) throw notHeld(fileHash);
    });
  }

  /**
   * Keeps the reason why a narinfo is not served. If it was accepted before, with another fingerprint, then it has
   * changed: it is taken out, and its NAR file too when no other narinfo points at it. With the same fingerprint
   * nothing changed, and neither does the catalog. Returns whether the refusal was kept.
   */
  refuse(refused: NarInfoKey & { code: ErrorCode; message: string }): boolean {
    const { source, narInfoName, code, fingerprint } = refused;
    return this.transaction(() => {
      const known = this.known(source, narInfoName);
      if (known?.state === 'accepted') {
        if (known.fingerprint === fingerprint) return false;
        this.#dropNarInfo(source, narInfoName);
      }
      const message = refused.message.slice(0, refusalMessageMax).toWellFormed();
      this.#run('putRefusal', this.#putSource(source), narInfoName, code, message, fingerprint);
      return true;
    });
  }

  /**
   * Takes a NAR file out for good, whether it is there or not: what is published of it is called back, and it is refused from now on. Gives
   * false when that was done before. `time` in seconds since 1970.
   */
  revoke(fileHash: Sha256, revocation: { time: number; reason: string }): boolean {
    this.#torrentChanges++;
    return !this.transaction(() => revokeNarFile(this.#db, fileHash, revocation)).already;
  }

  /** Another process changed what there is. */
  changedElsewhere(): void {
    this.#torrentChanges++;
  }

  /** Forgets a narinfo, accepted or refused, as when it is no longer in its source. */
  forget(source: string, narInfoName: string): void {
    this.transaction(() => {
      this.#dropNarInfo(source, narInfoName);
      this.#run('dropRefusal', source, narInfoName);
    });
  }

  /** Keeps what was uploaded, all in one transaction; nothing of torrents that went away meanwhile. */
  putUploads(uploads: readonly (readonly [InfoHash, Upload])[]): void {
    this.transaction(() => {
      for (const [infoHash, { capped, uploadedBytes, roundBytes, lonelySinceMs }] of uploads) {
        const since = lonelySinceMs ?? null;
        this.#run('putUpload', infoHashToDigest(infoHash), capped ? 1 : 0, uploadedBytes, roundBytes, since);
      }
    });
  }

  /** A value kept under a name, such as the cache's StoreDir. */
  setMeta(key: string, value: string): void {
    this.transaction(() => this.#run('setMeta', key, value));
  }

  /**
   * Runs `action`, which must not wait for anything, as one transaction: many changes cost hardly more than one.
   * What throws inside is undone, alone if `action` catches it.
   */
  transaction<T>(action: () => T): T {
    return attempt('changing the catalog', () => {
      if (this.#depth > 0) {
        this.#db.exec('SAVEPOINT inner');
        return this.#finish(action, 'RELEASE inner', 'ROLLBACK TO inner; RELEASE inner');
      }
      this.#db.exec('BEGIN IMMEDIATE');
      return this.#finish(action, 'COMMIT', 'ROLLBACK');
    });
  }

  /**
   * As `transaction`; but while another thread or process is changing the catalog, which takes as long as its disk needs for a sync, it gives
   * `undefined` at once and `action` was not called.
   */
  transactionIfFree<T>(action: () => T): { result: T } | undefined {
    return attempt('changing the catalog', () => {
      if (!beginIfFree(this.#db)) return undefined;
      return { result: this.#finish(action, 'COMMIT', 'ROLLBACK') };
    });
  }

  close(): void {
    if (this.#db.isOpen) this.#db.close();
  }

  #finish<T>(action: () => T, commit: string, rollback: string): T {
    this.#depth++;
    try {
      const result = action();
      this.#db.exec(commit);
      return result;
    } catch (error) {
      // SQLite has rolled back by itself after some errors of the disk.
      if (this.#db.isTransaction) this.#db.exec(rollback);
      throw error;
    } finally {
      this.#depth--;
    }
  }

  #putNarFile(entry: NarFileEntry): number {
    this.#torrentChanges++;
    const row = this.get(
      'putNarFile',
      sha256ToDigest(entry.fileHash),
      entry.fileSize,
      entry.compression,
      sha256ToDigest(entry.narHash),
      entry.narSize,
      infoHashToDigest(entry.infoHash),
      infoHashToDigest(entry.narInfoHash),
      joinSigs(entry.sigs),
    );
    return numberOf(row ?? {}, 'id');
  }

  #putNarInfo(
    key: NarInfoKey,
    narInfo: NarInfo,
    narFile: number,
    location: NarFileLocation | undefined,
  ): void {
    const { source, narInfoName, fingerprint } = key;
    const before = this.get('narFileOfNarInfo', source, narInfoName);
    this.#run(
      'putNarInfo',
      this.#putSource(source),
      narInfoName,
      nix32Decode(storeHashOf(narInfo.storePath)),
      narInfo.url,
      narFile,
      fingerprint,
      location?.path ?? null,
      location?.sizeBytes ?? null,
      location?.mtimeNs ?? null,
      narInfo.text,
    );
    this.#run('dropRefusal', source, narInfoName);
    if (before !== undefined) this.#dropIfUnheld(numberOf(before, 'nar_file'));
  }

  #dropNarInfo(source: string, narInfoName: string): void {
    const before = this.get('dropNarInfo', source, narInfoName);
    if (before !== undefined) this.#dropIfUnheld(numberOf(before, 'nar_file'));
  }

  /**
   * A NAR file that was verified nowhere cannot be served; the narinfos that still name it have to be verified
   * again.
   */
  #dropIfUnheld(narFile: number): void {
    if (this.get('isHeld', narFile) !== undefined) return;
    this.#run('dropNarInfosOfFile', narFile);
    this.#run('dropPieces', 2 * narFile, 2 * narFile + 1);
    this.#run('dropNarFile', narFile);
    this.#torrentChanges++;
  }

  #putSource(url: string): number {
    const id = this.sourceId(url);
    return id ?? numberOf(this.get('addSource', url) ?? {}, 'id');
  }

  #run(name: keyof Statements, ...values: Value[]): void {
    this.#sql[name].run(...values);
  }
}

type Value = string | number | bigint | Uint8Array | null;

function notHeld(fileHash: Sha256): NarswarmError {
  return new NarswarmError('not-held', `no NAR file ${fileHash} in the catalog`);
}

/** A narinfo may only be served with a NAR file that is what it says. */
function checkFits(narInfo: NarInfo, entry: NarFileEntry): void {
  const fits: [ErrorCode, boolean][] = [
    ['nar-hash-mismatch', narInfo.narHash === entry.narHash],
    ['nar-size-mismatch', narInfo.narSize === entry.narSize],
    ['file-hash-mismatch', narInfo.fileHash === undefined || narInfo.fileHash === entry.fileHash],
    ['file-size-mismatch', narInfo.fileSize === undefined || narInfo.fileSize === entry.fileSize],
    ['decompression-failed', narInfo.compression === entry.compression],
  ];
  for (const [code, holds] of fits) {
    if (!holds)
      throw new NarswarmError(code, `the narinfo of ${narInfo.storePath} is not that of this NAR file`);
  }
}
