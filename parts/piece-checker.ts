/** Cuts bytes that came over HTTP into the pieces of a torrent and lets only right ones through. Pure. */

import { hash } from 'node:crypto';
import { NarswarmError } from '../nar/errors.ts';
import { pieceHashOf, pieceSize, type Torrent } from '../swarm/torrent/torrent.ts';

export class PieceChecker {
  readonly #torrent: Torrent;
  #index: number;
  #parts: Buffer[] = [];
  #filled = 0;

  /** `fromByte` is the start of a piece. */
  constructor(torrent: Torrent, fromByte: number) {
    this.#torrent = torrent;
    this.#index = fromByte / torrent.pieceLength;
  }

  /**
   * The pieces that became whole with `bytes`. Throws piece-mismatch at a piece that is not the torrent's, and
   * file-size-mismatch at bytes after the last.
   */
  *push(bytes: Buffer): Generator<Buffer> {
    let rest = bytes;
    while (rest.length > 0) {
      const size = pieceSize(this.#torrent, this.#index);
      if (size <= 0) throw new NarswarmError('file-size-mismatch', `more than ${this.#torrent.length} bytes`);
      const part = rest.subarray(0, size - this.#filled);
      rest = rest.subarray(part.length);
      this.#parts.push(part);
      this.#filled += part.length;
      if (this.#filled === size) yield this.#take();
    }
  }

  #take(): Buffer {
    const piece = this.#parts.length === 1 && this.#parts[0] ? this.#parts[0] : Buffer.concat(this.#parts);
    if (!hash('sha1', piece, 'buffer').equals(pieceHashOf(this.#torrent, this.#index))) {
      throw new NarswarmError('piece-mismatch', `piece ${this.#index} is not that of ${this.#torrent.name}`);
    }
    this.#index++;
    this.#parts = [];
    this.#filled = 0;
    return piece;
  }
}
