/** Catalog rows made from numbers, whole in a way that can be checked: every value of a row follows from its number. */

import { createHash } from 'node:crypto';
import type { AcceptedNarFile } from '../../catalog/catalog.ts';
import type { Compression } from '../../nar/compression.ts';
import { narFileName } from '../../nar/compression.ts';
import { infoHashFromDigest, printSha256, type Sha256, sha256FromDigest } from '../../nar/hash.ts';
import { type NarInfo, parseNarInfo } from '../../nar/narinfo.ts';
import { nix32Encode } from '../../nar/nix32.ts';

export const source = 'file:///srv/cache';

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

export function hashOf(text: string): Sha256 {
  return sha256FromDigest(digest(text));
}

export interface RowOptions {
  source?: string;
  /** Of the store path; `n` unless given. */
  path?: number;
  /** Of the NAR that is in the NAR file; `n` unless given. */
  nar?: number;
  compression?: Compression;
  fingerprint?: string;
  url?: string;
}

export function storeHashText(n: number): string {
  return nix32Encode(digest(`path ${n}`).subarray(0, 20));
}

export function narInfoName(n: number): string {
  return `${storeHashText(n)}.narinfo`;
}

/** NAR file number `n`. */
export function row(n: number, options: RowOptions = {}): AcceptedNarFile {
  const { path = n, nar = n, compression = 'xz', fingerprint = `fingerprint ${n}` } = options;
  const isNone = compression === 'none';
  const narHash = hashOf(`nar ${nar}`);
  const fileHash = isNone ? narHash : hashOf(`file ${n} ${compression}`);
  const narSize = 1000 + (nar % 1000);
  const fileSize = isNone ? narSize : 500 + (n % 500);
  const url = options.url ?? `nar/${narFileName(fileHash, compression)}`;
  const narInfoHash = infoHashFromDigest(digest(`nar torrent ${nar}`).subarray(0, 20));
  return {
    source: options.source ?? source,
    narInfoName: narInfoName(path),
    fingerprint,
    narInfo: narInfo({ path, url, compression, fileHash, fileSize, narHash, narSize }),
    entry: {
      fileHash,
      fileSize,
      compression,
      narHash,
      narSize,
      infoHash: isNone
        ? narInfoHash
        : infoHashFromDigest(digest(`file torrent ${n} ${compression}`).subarray(0, 20)),
      narInfoHash,
      sigs: [`seeder-1:${digest(`sig ${n}`).toString('base64')}`],
      location: {
        source: options.source ?? source,
        path: url,
        sizeBytes: fileSize,
        mtimeNs: 1_700_000_000_123_456_789n + BigInt(n),
      },
    },
    filePieces: pieces(isNone ? `nar ${nar}` : `file ${n}`),
    narPieces: pieces(`nar ${nar}`),
  };
}

function pieces(text: string): Buffer {
  return digest(`pieces of ${text}`).subarray(0, 20);
}

interface NarInfoValues {
  path: number;
  url: string;
  compression: string;
  fileHash: Sha256;
  fileSize: number;
  narHash: Sha256;
  narSize: number;
}

function narInfo(values: NarInfoValues): NarInfo {
  return parseNarInfo(
    [
      `StorePath: /nix/store/${storeHashText(values.path)}-package-${values.path}`,
      `URL: ${values.url}`,
      `Compression: ${values.compression}`,
      `FileHash: ${printSha256(values.fileHash)}`,
      `FileSize: ${values.fileSize}`,
      `NarHash: ${printSha256(values.narHash)}`,
      `NarSize: ${values.narSize}`,
      'References: ',
      `Sig: cache.example-1:${Buffer.alloc(64, values.path & 255).toString('base64')}`,
      '',
    ].join('\n'),
  );
}
