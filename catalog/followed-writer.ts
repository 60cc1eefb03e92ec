/** Takes records of a catalog's log into the tables of a followed catalog, in order. */

import type { DatabaseSync } from 'node:sqlite';
import { NarswarmError } from '../nar/errors.ts';
import { infoHashToDigest, type Sha256, sha256ToDigest } from '../nar/hash.ts';
import { nix32Decode } from '../nar/nix32.ts';
import { type Chain, firstChain } from './chain.ts';
import { type Pack, packFiles } from './pack.ts';
import {
  type DecodedNarInfo,
  type DecodedRecord,
  decodeRecord,
  type FramedRecord,
  type Revocation,
} from './record.ts';
import { bytesOf, joinSigs, numberOf } from './rows.ts';
import type { TorrentInfo } from './torrentinfo.ts';

export interface Position {
  /** Records taken in. */
  readonly records: number;
  /** The chain after them, 32 bytes. */
  readonly chain: Buffer;
  /** Torrentinfos among them. */
  readonly ordinals: number;
}

/** Of NAR files that came last: a narinfo nearly always follows its torrentinfo at once. */
const recentMax = 4096;

export function readPosition(db: DatabaseSync, nixStoreDir: string): Position {
  const row = db.prepare('SELECT records, chain, ordinals FROM position').get();
  if (row === undefined) return { records: 0, chain: sha256ToDigest(firstChain(nixStoreDir)), ordinals: 0 };
  return {
    records: numberOf(row, 'records'),
    chain: bytesOf(row, 'chain'),
    ordinals: numberOf(row, 'ordinals'),
  };
}

/** Forgets all records. */
export function clearRecords(db: DatabaseSync): void {
  db.exec(`
    DELETE FROM position; DELETE FROM nar_file; DELETE FROM narinfo; DELETE FROM packed_file; DELETE FROM pack;
    DELETE FROM revocation`);
}

/** Inside one transaction, which whoever opens it ends. */
export class FollowedWriter {
  readonly #nixStoreDir: string;
  readonly #statements: ReturnType<typeof prepare>;
  readonly #recent = new Map<Sha256, number>();
  #records: number;
  #ordinals: number;
  #hasRevocations: boolean;

  constructor(db: DatabaseSync, nixStoreDir: string, position: Position) {
    this.#nixStoreDir = nixStoreDir;
    this.#statements = prepare(db);
    this.#records = position.records;
    this.#ordinals = position.ordinals;
    this.#hasRevocations = this.#statements.anyRevocation.get() !== undefined;
  }

  get records(): number {
    return this.#records;
  }

  /** The next record. Throws record-corrupt, and store-dir-mismatch for a path of another store. */
  take(framed: FramedRecord): void {
    const record = decodeRecord(framed);
    if (record !== undefined) this.#take(record);
    this.#records++;
  }

  putPosition(chain: Chain): void {
    this.#statements.putPosition.run(this.#records, chain.digest(), this.#ordinals);
  }

  #take(record: DecodedRecord): void {
    switch (record.kind) {
      case 'torrentinfo':
        this.#takeTorrentInfo(record.torrentInfo);
        break;
      case 'narinfo':
        this.#takeNarInfo(record);
        break;
      case 'pack':
        this.#takePack(record.pack, record.text);
        break;
      case 'revocation':
        this.#revoke(record);
        break;
    }
  }

  /** Each has its number, also where it says nothing new: numbers are never given twice. */
  #takeTorrentInfo(info: TorrentInfo): void {
    const ordinal = this.#ordinals++;
    const digest = sha256ToDigest(info.fileHash);
    if (this.#isRevoked(digest)) return;
    const values = [
      digest,
      info.fileSize,
      info.compression,
      sha256ToDigest(info.narHash),
      info.narSize,
      infoHashToDigest(info.infoHash),
      infoHashToDigest(info.narInfoHash),
      joinSigs(info.sigs),
    ];
    const isNew = this.#statements.addNarFile.run(ordinal, ...values).changes === 1;
    if (!isNew) this.#statements.changeNarFile.run(...values);
    if (this.#recent.size >= recentMax) this.#recent.clear();
    if (isNew) this.#recent.set(info.fileHash, ordinal);
  }

  #takeNarInfo({ fileHash, storeDir, storeHash, text }: DecodedNarInfo): void {
    this.#checkStoreDir(storeDir);
    const ordinal = this.#recent.get(fileHash) ?? this.#ordinalOf(fileHash);
    if (ordinal !== undefined) {
      this.#statements.putNarInfo.run(nix32Decode(storeHash), ordinal, text);
    } else if (!this.#isRevoked(sha256ToDigest(fileHash))) {
      throw new NarswarmError('record-corrupt', `a narinfo of ${fileHash}, which has no torrentinfo`);
    }
  }

  #takePack(pack: Pack, text: string): void {
    this.#checkStoreDir(pack.storeDir);
    const row = this.#statements.putPack.get(infoHashToDigest(pack.infoHash), text);
    const id = numberOf(row ?? {}, 'id');
    for (const { narFile, offset } of packFiles(pack)) {
      const digest = narFile && sha256ToDigest(narFile.fileHash);
      if (digest !== undefined && !this.#isRevoked(digest))
        this.#statements.putPackedFile.run(digest, id, offset);
    }
  }

  /** Gone for every reader at once. Its number stays its own, and nobody else's. */
  #revoke({ fileHash, time, reason }: Revocation): void {
    const digest = sha256ToDigest(fileHash);
    this.#statements.putRevocation.run(digest, time, reason);
    this.#hasRevocations = true;
    const ordinal = this.#ordinalOf(fileHash);
    if (ordinal !== undefined) {
      this.#statements.dropNarInfos.run(ordinal);
      this.#statements.dropNarFile.run(ordinal);
    }
    this.#statements.dropPackedFile.run(digest);
    this.#recent.delete(fileHash);
  }

  #checkStoreDir(storeDir: string): void {
    if (storeDir === this.#nixStoreDir) return;
    throw new NarswarmError('store-dir-mismatch', `a record for ${storeDir}, not ${this.#nixStoreDir}`);
  }

  #isRevoked(digest: Buffer): boolean {
    return this.#hasRevocations && this.#statements.isRevoked.get(digest) !== undefined;
  }

  #ordinalOf(fileHash: Sha256): number | undefined {
    const row = this.#statements.ordinalOf.get(sha256ToDigest(fileHash));
    return row && numberOf(row, 'ordinal');
  }
}

function prepare(db: DatabaseSync) {
  return {
    putPosition: db.prepare(`
      INSERT INTO position VALUES (0, ?, ?, ?)
      ON CONFLICT (id) DO UPDATE SET records = excluded.records, chain = excluded.chain, ordinals = excluded.ordinals`),
    // Apart from the change of one that is there: together, with its number given back, they take twice as long.
    addNarFile: db.prepare(
      'INSERT INTO nar_file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (file_hash) DO NOTHING',
    ),
    changeNarFile: db.prepare(`
      UPDATE nar_file SET file_size = ?2, compression = ?3, nar_hash = ?4, nar_size = ?5, info_hash = ?6,
        nar_info_hash = ?7, sigs = ?8 WHERE file_hash = ?1`),
    putNarInfo: db.prepare(`
      INSERT INTO narinfo (store_hash, ordinal, text) VALUES (?, ?, ?)
      ON CONFLICT (store_hash) DO UPDATE SET ordinal = excluded.ordinal, text = excluded.text`),
    putPack: db.prepare(`
      INSERT INTO pack (info_hash, manifest) VALUES (?, ?)
      ON CONFLICT (info_hash) DO UPDATE SET manifest = excluded.manifest RETURNING id`),
    putPackedFile: db.prepare(`
      INSERT INTO packed_file VALUES (?, ?, ?)
      ON CONFLICT (file_hash) DO UPDATE SET pack = excluded.pack, offset = excluded.offset`),
    putRevocation: db.prepare(`
      INSERT INTO revocation VALUES (?, ?, ?)
      ON CONFLICT (file_hash) DO UPDATE SET time = excluded.time, reason = excluded.reason`),
    anyRevocation: db.prepare('SELECT 1 FROM revocation LIMIT 1'),
    isRevoked: db.prepare('SELECT 1 FROM revocation WHERE file_hash = ?'),
    ordinalOf: db.prepare('SELECT ordinal FROM nar_file WHERE file_hash = ?'),
    dropNarInfos: db.prepare('DELETE FROM narinfo WHERE ordinal = ?'),
    dropPackedFile: db.prepare('DELETE FROM packed_file WHERE file_hash = ?'),
    dropNarFile: db.prepare('DELETE FROM nar_file WHERE ordinal = ?'),
  };
}
