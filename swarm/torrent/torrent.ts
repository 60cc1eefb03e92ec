/**
 * Canonical torrents: a function of a NAR file's bytes and name alone, so that whoever has the bytes makes the same
 * infohash. The rules are in docs/format.md. BitTorrent v1 (BEP 3), one file; a pack has many, see pack-torrent.ts.
 */

import { hash } from 'node:crypto';
import { parseNarFileName } from '../../nar/compression.ts';
import { NarswarmError } from '../../nar/errors.ts';
import type { InfoHash } from '../../nar/hash.ts';
import { infoHashFromDigest } from '../../nar/hash.ts';
import { bencode, parseBencode } from '../bencode.ts';
import { PieceHasher } from './piece-hasher.ts';
import { pieceCount, pieceHashBytes } from './pieces.ts';

export { pieceCount, pieceHashBytes, pieceHashOf, pieceSize } from './pieces.ts';

export interface Torrent {
  /** SHA-1 of `infoDictionary(torrent)`. */
  readonly infoHash: InfoHash;
  /** `<hash>.nar` and the compression's extension; of a pack `<hash>.pack`. */
  readonly name: string;
  /** In bytes; at least 1. Of a pack all files together, as the wire sees them. */
  readonly length: number;
  /** In bytes; `pieceLengthFor(length)`, of a pack `packPieceLength`. */
  readonly pieceLength: number;
  /** The SHA-1 digests of all pieces, 20 bytes each. */
  readonly pieces: Buffer;
  /** The info dictionary of a pack, which names its files and so does not follow from the rest. */
  readonly info?: InfoBytes;
}

/** Not held in memory by whoever has it elsewhere: that of a pack has a megabyte or so. */
export interface InfoBytes {
  readonly lengthBytes: number;
  read(): Buffer;
}

/** Smaller pieces would only make piece tables larger: most NAR files are a single piece anyway. */
export const pieceLengthMinBytes = 65_536;

/** A piece is what a client must hold to check it; 4 MiB is as much as common BitTorrent programs cope with well. */
export const pieceLengthMaxBytes = 4_194_304;

/** The piece length grows as long as there would be more pieces than this: 20 KiB of piece hashes. */
export const piecesAim = 1024;

/**
 * 1 TiB, 256 times the largest output that Hydra keeps. It bounds what a hostile NarSize makes us allocate: a piece
 * table of 5 MiB, well under the 30 MiB of metadata that BitTorrent programs accept.
 */
export const torrentLengthMaxBytes = 2 ** 40;

/** The largest piece table of a canonical torrent: 5 MiB. */
export const piecesMaxBytes = (torrentLengthMaxBytes / pieceLengthMaxBytes) * pieceHashBytes;

/**
 * The largest info dictionary: the largest piece table, and 256 bytes for the other keys, of which at most 134 are
 * used.
 */
export const infoDictionaryMaxBytes = piecesMaxBytes + 256;

/**
 * The smallest power of two, at least 64 KiB, that cuts `lengthBytes` into at most 1024 pieces; at most 4 MiB.
 * Throws torrent-invalid unless 1 ≤ `lengthBytes` ≤ `torrentLengthMaxBytes`: no NAR file is empty (the smallest NAR
 * has 112 bytes), and BitTorrent programs disagree about torrents without a piece.
 */
export function pieceLengthFor(lengthBytes: number): number {
  if (!Number.isSafeInteger(lengthBytes) || lengthBytes < 1 || lengthBytes > torrentLengthMaxBytes) {
    throw new NarswarmError('torrent-invalid', `no torrent has a length of ${lengthBytes} bytes`);
  }
  let pieceLength = pieceLengthMinBytes;
  while (pieceLength < pieceLengthMaxBytes && pieceLength * piecesAim < lengthBytes) pieceLength *= 2;
  return pieceLength;
}

/** A file of a catalog, or one of its heads, under its SHA-256. */
const catalogFilePattern = /^[01][0-9a-df-np-sv-z]{51}\.(segment\.zst|head)$/;

/**
 * The torrent with these pieces, for instance read back from a catalog. Throws torrent-invalid if they cannot belong
 * together.
 */
export function makeTorrent(parts: { name: string; length: number; pieces: Buffer }): Torrent {
  const { name, length, pieces } = parts;
  if (parseNarFileName(name) === undefined && !catalogFilePattern.test(name)) {
    throw new NarswarmError('torrent-invalid', `${JSON.stringify(name)} is not the name of a NAR file`);
  }
  const pieceLength = pieceLengthFor(length);
  const expectedBytes = pieceCount({ length, pieceLength }) * pieceHashBytes;
  if (pieces.length !== expectedBytes) {
    throw new NarswarmError(
      'torrent-invalid',
      `${pieces.length} bytes of piece hashes, not ${expectedBytes}`,
    );
  }
  const bytes = infoDictionary({ name, length, pieceLength, pieces });
  return { infoHash: infoHashOf(bytes), name, length, pieceLength, pieces };
}

/**
 * Makes the torrent of a stream in one pass. Takes exactly `lengthBytes` bytes in chunks of any size; the table of piece
 * digests has at most 5 MiB.
 */
export class TorrentHasher extends PieceHasher {
  /** Throws torrent-invalid when no torrent can have this length. */
  constructor(lengthBytes: number) {
    super(lengthBytes, pieceLengthFor(lengthBytes));
  }

  /** The torrent, after exactly `lengthBytes` bytes; throws torrent-invalid after fewer. */
  finish(name: string): Torrent {
    return makeTorrent({ name, length: this.lengthBytes, pieces: this.digests() });
  }
}

/** The bytes whose SHA-1 is the infohash. */
export function infoDictionary(torrent: Omit<Torrent, 'infoHash'>): Buffer {
  if (torrent.info !== undefined) return torrent.info.read();
  return bencode({
    length: torrent.length,
    name: torrent.name,
    'piece length': torrent.pieceLength,
    pieces: torrent.pieces,
  });
}

/**
 * The torrent of which `bytes` are the info dictionary. Throws torrent-invalid unless it is canonical to the last
 * byte.
 */
export function parseInfoDictionary(bytes: Uint8Array): Torrent {
  if (bytes.length > infoDictionaryMaxBytes) {
    throw new NarswarmError('torrent-invalid', `an info dictionary of ${bytes.length} bytes`);
  }
  const info = parseBencodeOfTorrent(bytes, { depthMax: 1, valuesMax: 6 });
  if (!(info instanceof Map))
    throw new NarswarmError('torrent-invalid', 'the info dictionary is no dictionary');
  const length = info.get('length');
  const name = info.get('name');
  const pieceLength = info.get('piece length');
  const pieces = info.get('pieces');
  if (info.size !== 4 || typeof length !== 'number' || !Buffer.isBuffer(name) || !Buffer.isBuffer(pieces)) {
    const keys = [...info.keys()].map((key) => JSON.stringify(key)).join(', ');
    throw new NarswarmError('torrent-invalid', `not the four keys of a canonical torrent: ${keys}`);
  }
  if (pieceLength !== pieceLengthFor(length)) {
    throw new NarswarmError('torrent-invalid', 'not the canonical piece length');
  }
  // A copy, so that a torrent does not keep the whole message alive that it came in.
  return makeTorrent({ name: name.toString('latin1'), length, pieces: Buffer.from(pieces) });
}

/** The SHA-1 of an info dictionary. */
export function infoHashOf(infoDictionaryBytes: Uint8Array): InfoHash {
  return infoHashFromDigest(hash('sha1', infoDictionaryBytes, 'buffer'));
}

/** Throws torrent-invalid for what is not canonical bencode. */
export function parseBencodeOfTorrent(bytes: Uint8Array, limits: Parameters<typeof parseBencode>[1]) {
  try {
    return parseBencode(bytes, limits);
  } catch (cause) {
    throw new NarswarmError('torrent-invalid', 'a torrent is not canonical bencode', { cause });
  }
}
