/** What rows of the database look like to the rest, and how they are read. */

import type { SQLOutputValue } from 'node:sqlite';
import { isCompression } from '../nar/compression.ts';
import { type ErrorCode, errorCodes, NarswarmError } from '../nar/errors.ts';
import { infoHashFromDigest, sha256FromDigest } from '../nar/hash.ts';
import type { TorrentInfo } from './torrentinfo.ts';

/** Where a NAR file lay when it was verified. If size or time differ now, the file is another one. */
export interface NarFileLocation {
  /** URL of the source. */
  readonly source: string;
  /** Relative to the source, or a name in the seeder's own store. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
}

/** A verified NAR file. */
export interface NarFileEntry extends TorrentInfo {
  readonly location: NarFileLocation;
}

/** A narinfo that may not be served, and why. */
/** What was uploaded of the torrent of a NAR file. */
export interface Upload {
  readonly capped: boolean;
  /** Ever. */
  readonly uploadedBytes: number;
  /** Since it was last uploaded freely. */
  readonly roundBytes: number;
  /** Since when it has too few seeds, in milliseconds since 1970. */
  readonly lonelySinceMs: number | undefined;
}

export interface Refusal {
  readonly source: string;
  readonly narInfoName: string;
  readonly code: ErrorCode;
  readonly message: string;
  readonly fingerprint: string;
}

export type Row = Record<string, SQLOutputValue>;

/** The columns that `entryOf` reads, from nar_file f, narinfo n and source s. */
export const entryColumns = `
  f.file_hash, f.file_size, f.compression, f.nar_hash, f.nar_size, f.info_hash, f.nar_info_hash, f.sigs,
  s.url AS source, n.path, n.size_bytes, CAST(n.mtime_ns AS TEXT) AS mtime_ns`;

/** Where `entryColumns` come from: each NAR file with the first narinfo under which its bytes were verified. */
export const entryTables = `
  nar_file f
  JOIN narinfo n ON n.id = (SELECT min(id) FROM narinfo WHERE nar_file = f.id AND path IS NOT NULL)
  JOIN source s ON s.id = n.source`;

/** From the columns of a NAR file, which are alike in every database. */
export function torrentInfoOf(row: Row): TorrentInfo {
  const compression = textOf(row, 'compression');
  if (!isCompression(compression)) throw corrupt(`compression ${compression}`);
  return {
    fileHash: sha256FromDigest(bytesOf(row, 'file_hash')),
    fileSize: numberOf(row, 'file_size'),
    compression,
    narHash: sha256FromDigest(bytesOf(row, 'nar_hash')),
    narSize: numberOf(row, 'nar_size'),
    infoHash: infoHashFromDigest(bytesOf(row, 'info_hash')),
    narInfoHash: infoHashFromDigest(bytesOf(row, 'nar_info_hash')),
    sigs: splitSigs(textOf(row, 'sigs')),
  };
}

export function entryOf(row: Row): NarFileEntry {
  return {
    ...torrentInfoOf(row),
    location: {
      source: textOf(row, 'source'),
      path: textOf(row, 'path'),
      sizeBytes: numberOf(row, 'size_bytes'),
      // Read as text: nanoseconds since 1970 are no safe integer.
      mtimeNs: BigInt(textOf(row, 'mtime_ns')),
    },
  };
}

export function refusalOf(row: Row): Refusal {
  return {
    source: textOf(row, 'source'),
    narInfoName: textOf(row, 'name'),
    code: codeOf(textOf(row, 'code')),
    message: textOf(row, 'message'),
    fingerprint: textOf(row, 'fingerprint'),
  };
}

export function uploadOf(row: Row): Upload {
  return {
    capped: numberOf(row, 'capped') === 1,
    uploadedBytes: numberOf(row, 'uploaded_bytes'),
    roundBytes: numberOf(row, 'round_bytes'),
    lonelySinceMs: row.lonely_since_ms === null ? undefined : numberOf(row, 'lonely_since_ms'),
  };
}

/** Signatures are kept in one column, a line each; none of them can contain a newline. */
export function joinSigs(sigs: readonly string[]): string {
  return sigs.join('\n');
}

function splitSigs(text: string): string[] {
  return text === '' ? [] : text.split('\n');
}

function codeOf(text: string): ErrorCode {
  for (const code of Object.keys(errorCodes)) if (code === text) return code as ErrorCode;
  throw corrupt(`refusal code ${text}`);
}

export function textOf(row: Row, column: string): string {
  const value = row[column];
  if (typeof value !== 'string') throw corrupt(`${column} is no text`);
  return value;
}

export function numberOf(row: Row, column: string): number {
  const value = row[column];
  if (typeof value !== 'number') throw corrupt(`${column} is no number`);
  return value;
}

export function bytesOf(row: Row, column: string): Buffer {
  const value = digestOf(row, column);
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
}

/** The same as it came: making it a Buffer takes longer than reading the row. */
export function digestOf(row: Row, column: string): Uint8Array {
  const value = row[column];
  if (!(value instanceof Uint8Array)) throw corrupt(`${column} is no blob`);
  return value;
}

function corrupt(what: string): NarswarmError {
  return new NarswarmError('catalog-corrupt', `the catalog holds what cannot be: ${what}`);
}
