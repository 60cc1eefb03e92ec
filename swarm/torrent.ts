/**
 * Canonical torrents: a function of a NAR file's bytes and name alone, so that whoever has the bytes makes the same
 * infohash. The rules are in docs/format.md. BitTorrent v1 (BEP 3), one file.
 */

import { createHash, type Hash, hash } from 'node:crypto';
import { parseNarFileName } from '../nar/compression.ts';
import { NarswarmError } from '../nar/errors.ts';
import type { InfoHash } from '../nar/hash.ts';
import { infoHashFromDigest } from '../nar/hash.ts';
import { bencode, parseBencode } from './bencode.ts';

export interface Torrent {
  /** SHA-1 of `infoDictionary(torrent)`. */
  readonly infoHash: InfoHash;
  /** `<hash>.nar` and the compression's extension. */
  readonly name: string;
  /** In bytes; at least 1. */
  readonly length: number;
  /** In bytes; `pieceLengthFor(length)`. */
  readonly pieceLength: number;
  /** The SHA-1 digests of all pieces, 20 bytes each. */
  readonly pieces: Buffer;
}

/** Bytes of a SHA-1 digest. */
export const pieceHashBytes = 20;

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

/** An info dictionary, 1 MiB of which may be trackers and web seeds. */
export const torrentFileMaxBytes = infoDictionaryMaxBytes + 1_048_576;

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

/** How many pieces a torrent has. */
export function pieceCount(torrent: Pick<Torrent, 'length' | 'pieceLength'>): number {
  return Math.ceil(torrent.length / torrent.pieceLength);
}

/** The size in bytes of piece `index`: the last one is usually shorter. */
export function pieceSize(torrent: Pick<Torrent, 'length' | 'pieceLength'>, index: number): number {
  return Math.min(torrent.pieceLength, torrent.length - index * torrent.pieceLength);
}

/**
 * The torrent with these pieces, for instance read back from a catalog. Throws torrent-invalid if they cannot belong
 * together.
 */
export function makeTorrent(parts: { name: string; length: number; pieces: Buffer }): Torrent {
  const { name, length, pieces } = parts;
  if (parseNarFileName(name) === undefined) {
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
 * Makes the torrent of a stream in one pass. Takes exactly `lengthBytes` bytes in chunks of any size. It holds the
 * table of piece digests, 20 bytes for each, at most 5 MiB, and one running SHA-1: memory does not grow with the
 * stream.
 */
export class TorrentHasher {
  readonly lengthBytes: number;
  readonly pieceLength: number;
  readonly #pieces: Buffer;
  #piece: Hash | undefined;
  #pieceFilled = 0;
  #tableFilled = 0;
  #received = 0;

  /** Throws torrent-invalid when no torrent can have this length. */
  constructor(lengthBytes: number) {
    this.lengthBytes = lengthBytes;
    this.pieceLength = pieceLengthFor(lengthBytes);
    this.#pieces = Buffer.alloc(
      pieceCount({ length: lengthBytes, pieceLength: this.pieceLength }) * pieceHashBytes,
    );
  }

  /** Throws torrent-invalid, and takes nothing of `chunk`, when it would go past the length. */
  write(chunk: Uint8Array): void {
    if (chunk.length > this.lengthBytes - this.#received) {
      throw new NarswarmError(
        'torrent-invalid',
        `more than the ${this.lengthBytes} bytes that were announced`,
      );
    }
    this.#received += chunk.length;
    let position = 0;
    while (position < chunk.length) {
      const part = chunk.subarray(position, position + this.pieceLength - this.#pieceFilled);
      position += part.length;
      if (part.length === this.pieceLength) {
        this.#append(hash('sha1', part, 'buffer'));
        continue;
      }
      this.#piece ??= createHash('sha1');
      this.#piece.update(part);
      this.#pieceFilled += part.length;
      if (this.#pieceFilled === this.pieceLength) this.#endPiece();
    }
  }

  /** The torrent, after exactly `lengthBytes` bytes; throws torrent-invalid after fewer. */
  finish(name: string): Torrent {
    if (this.#received !== this.lengthBytes) {
      throw new NarswarmError('torrent-invalid', `${this.#received} of ${this.lengthBytes} bytes`);
    }
    this.#endPiece();
    return makeTorrent({ name, length: this.lengthBytes, pieces: this.#pieces });
  }

  #endPiece(): void {
    if (this.#piece === undefined) return;
    this.#append(this.#piece.digest());
    this.#piece = undefined;
    this.#pieceFilled = 0;
  }

  #append(digest: Buffer): void {
    digest.copy(this.#pieces, this.#tableFilled);
    this.#tableFilled += digest.length;
  }
}

/** The bytes whose SHA-1 is the infohash. */
export function infoDictionary(torrent: Omit<Torrent, 'infoHash'>): Buffer {
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

export interface TorrentFileOptions {
  announce?: string;
  /** Tiers of trackers (BEP 12); those of one tier are alike, and programs ask one of them. Beside `announce`, which is among them. */
  announceList?: readonly (readonly string[])[];
  webSeeds?: readonly string[];
}

/** A .torrent file. Its bytes depend on nothing but the arguments: no date, no program's name. */
export function torrentFile(torrent: Torrent, options: TorrentFileOptions = {}): Buffer {
  const { announce, announceList = [], webSeeds = [] } = options;
  const { length, name, pieceLength, pieces } = torrent;
  return bencode({
    ...(announce === undefined ? {} : { announce }),
    ...(announceList.length === 0 ? {} : { 'announce-list': announceList }),
    info: { length, name, 'piece length': pieceLength, pieces },
    ...(webSeeds.length === 0 ? {} : { 'url-list': webSeeds }),
  });
}

/** The torrent in a .torrent file; what stands beside the info dictionary is ignored. Throws torrent-invalid. */
export function parseTorrentFile(bytes: Uint8Array): Torrent {
  if (bytes.length > torrentFileMaxBytes) {
    throw new NarswarmError('torrent-invalid', `a torrent file of ${bytes.length} bytes`);
  }
  const metainfo = parseBencodeOfTorrent(bytes, {});
  const info = metainfo instanceof Map ? metainfo.get('info') : undefined;
  if (info === undefined)
    throw new NarswarmError('torrent-invalid', 'the torrent file has no info dictionary');
  // Only canonical bencode was parsed, so encoding it again gives the bytes that were there.
  return parseInfoDictionary(bencode(info));
}

/** A magnet link (BEP 9). Programs that take it fetch the info dictionary from the peers that the trackers name. */
export function magnetLink(torrent: Torrent, options: { trackers?: readonly string[] } = {}): string {
  const trackers = (options.trackers ?? []).map((url) => `&tr=${encodeURIComponent(url)}`);
  return `magnet:?xt=urn:btih:${torrent.infoHash}&dn=${torrent.name}&xl=${torrent.length}${trackers.join('')}`;
}

function infoHashOf(infoDictionaryBytes: Uint8Array): InfoHash {
  return infoHashFromDigest(hash('sha1', infoDictionaryBytes, 'buffer'));
}

function parseBencodeOfTorrent(bytes: Uint8Array, limits: Parameters<typeof parseBencode>[1]) {
  try {
    return parseBencode(bytes, limits);
  } catch (cause) {
    throw new NarswarmError('torrent-invalid', 'a torrent is not canonical bencode', { cause });
  }
}
