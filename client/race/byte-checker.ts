/** Lets only such bytes of one source through as are known to be right, as far as that can be known before the end. */

import { hash } from 'node:crypto';
import { NarswarmError } from '../../nar/errors.ts';
import { type Sha256, sha256FromDigest } from '../../nar/hash.ts';
import { PieceChecker } from '../../parts/piece-checker.ts';
import type { Torrent } from '../../swarm/torrent/torrent.ts';

/**
 * NAR files up to this size, which are over in a round trip or two, are let through as a whole, when it is what FileHash says: they need no torrent,
 * and are not hashed piece by piece besides. Each fetch holds as much in memory.
 */
export const wholeMaxBytes = 256 * 1024;

export interface ByteChecker {
  /** What became known to be right with `bytes`. Throws piece-mismatch, file-hash-mismatch or file-size-mismatch. */
  push(bytes: Buffer): Iterable<Buffer>;
  /** False when what it lets through may still be wrong. */
  readonly sure: boolean;
  /** What it lets through is the whole file, compared with FileHash. */
  readonly whole?: boolean;
}

/**
 * From `fromByte` on. A small file is compared with FileHash as a whole, so that whoever gives wrong bytes is known, and right ones are not
 * mixed with them. Of others each piece is, if there is a torrent. `undefined` when that was done
 * before, as `byTorrent` says.
 */
export function byteChecker(options: {
  torrent: Torrent | undefined;
  fileHash: Sha256;
  sizeBytes: number | undefined;
  fromByte: number;
  byTorrent: boolean;
}): ByteChecker | undefined {
  const { torrent, fileHash, sizeBytes, fromByte, byTorrent } = options;
  if (sizeBytes !== undefined && sizeBytes <= wholeMaxBytes && fromByte === 0)
    return new AtOnce(fileHash, sizeBytes);
  if (byTorrent) return undefined;
  if (torrent !== undefined) return new PieceByPiece(torrent, fromByte);
  return new Unchecked(sizeBytes, fromByte);
}

class PieceByPiece implements ByteChecker {
  readonly #checker: PieceChecker;
  /** Bytes to the next piece, which nothing can be said of here. */
  #before: number;

  constructor(torrent: Torrent, fromByte: number) {
    const firstPiece = Math.ceil(fromByte / torrent.pieceLength) * torrent.pieceLength;
    this.#before = Math.min(firstPiece, torrent.length) - fromByte;
    this.#checker = new PieceChecker(torrent, firstPiece);
  }

  get sure(): boolean {
    return this.#before === 0;
  }

  *push(bytes: Buffer): Generator<Buffer> {
    const before = bytes.subarray(0, this.#before);
    if (before.length > 0) {
      yield before;
      this.#before -= before.length;
    }
    if (before.length < bytes.length) yield* this.#checker.push(bytes.subarray(before.length));
  }
}

class AtOnce implements ByteChecker {
  readonly sure = true;
  readonly whole = true;
  readonly #fileHash: Sha256;
  readonly #sizeBytes: number;
  #parts: Buffer[] = [];
  #bytes = 0;

  constructor(fileHash: Sha256, sizeBytes: number) {
    this.#fileHash = fileHash;
    this.#sizeBytes = sizeBytes;
  }

  *push(bytes: Buffer): Generator<Buffer> {
    this.#parts.push(bytes);
    this.#bytes += bytes.length;
    if (this.#bytes < this.#sizeBytes) return;
    checkSize(this.#bytes, this.#sizeBytes);
    const whole = this.#parts.length === 1 && this.#parts[0] ? this.#parts[0] : Buffer.concat(this.#parts);
    this.#parts = [];
    const found = sha256FromDigest(hash('sha256', whole, 'buffer'));
    if (found !== this.#fileHash)
      throw new NarswarmError('file-hash-mismatch', `FileHash is ${found}, not ${this.#fileHash}`);
    yield whole;
  }
}

class Unchecked implements ByteChecker {
  readonly sure = false;
  readonly #sizeBytes: number | undefined;
  #at: number;

  constructor(sizeBytes: number | undefined, fromByte: number) {
    this.#sizeBytes = sizeBytes;
    this.#at = fromByte;
  }

  *push(bytes: Buffer): Generator<Buffer> {
    this.#at += bytes.length;
    if (this.#sizeBytes !== undefined) checkSize(this.#at, this.#sizeBytes);
    yield bytes;
  }
}

function checkSize(bytes: number, sizeBytes: number): void {
  if (bytes > sizeBytes) throw new NarswarmError('file-size-mismatch', `more than ${sizeBytes} bytes`);
}
