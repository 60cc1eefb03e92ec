/** The piece hashes of a stream, made in one pass. */

import { createHash, type Hash, hash } from 'node:crypto';
import { NarswarmError } from '../../nar/errors.ts';
import { pieceCount, pieceHashBytes } from './pieces.ts';

/**
 * Takes exactly `lengthBytes` bytes in chunks of any size. It holds the table of piece digests, 20 bytes for each, and one running SHA-1:
 * memory does not grow with the stream.
 */
export class PieceHasher {
  readonly lengthBytes: number;
  readonly pieceLength: number;
  readonly #pieces: Buffer;
  #piece: Hash | undefined;
  #pieceFilled = 0;
  #tableFilled = 0;
  #received = 0;

  constructor(lengthBytes: number, pieceLength: number) {
    this.lengthBytes = lengthBytes;
    this.pieceLength = pieceLength;
    this.#pieces = Buffer.alloc(pieceCount({ length: lengthBytes, pieceLength }) * pieceHashBytes);
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

  /** The digests of all pieces, after exactly `lengthBytes` bytes; throws torrent-invalid after fewer. */
  digests(): Buffer {
    if (this.#received !== this.lengthBytes) {
      throw new NarswarmError('torrent-invalid', `${this.#received} of ${this.lengthBytes} bytes`);
    }
    this.#endPiece();
    return this.#pieces;
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
