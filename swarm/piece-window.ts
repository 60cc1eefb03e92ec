/**
 * The pieces being fetched: which blocks are wanted next, which are asked for, which are here. Pieces are worked on in the order in
 * which they are delivered, and only so far ahead as there is room. No sockets and no clock: decisions only.
 */

import { hash } from 'node:crypto';
import { blockBytes } from './limits.ts';
import { pieceCount, pieceHashBytes, pieceSize, type Torrent } from './torrent.ts';
import type { BlockRequest } from './wire-encode.ts';

/** States of a block; the legal moves are wanted → asked → here, and asked → wanted when a peer lets us down. */
const wanted = 0;
const asked = 1;
const here = 2;

interface ActivePiece {
  readonly index: number;
  readonly bytes: Buffer;
  readonly blocks: Uint8Array;
  /** Who is sending each block at this moment: only its bytes are taken. */
  readonly writers: (string | undefined)[];
  missing: number;
  /** The peers whose blocks are in it. */
  readonly contributors: Set<string>;
  /** After a spoilt attempt of several peers: the blocks come from one peer at a time, so that the next failure names the liar. */
  alone: boolean;
  verified: boolean;
}

export type BlockResult =
  | { kind: 'more' }
  | { kind: 'verified' }
  /** The piece is wanted anew; `liar` is the one peer that can have spoilt it, if it was only one. */
  | { kind: 'spoilt'; liar: string | undefined };

export class PieceWindow {
  readonly #torrent: Torrent;
  readonly #pieces: number;
  readonly #room: number;
  /** From the next to be delivered on, without gaps. */
  readonly #active: ActivePiece[] = [];
  #first: number;

  /** `aheadBytes`: what may be held; at least two pieces are. */
  constructor(torrent: Torrent, firstPiece: number, aheadBytes: number) {
    this.#torrent = torrent;
    this.#pieces = pieceCount(torrent);
    this.#first = firstPiece;
    this.#room = Math.max(2, Math.floor(aheadBytes / torrent.pieceLength));
  }

  /** True when every piece was delivered. */
  get done(): boolean {
    return this.#first >= this.#pieces;
  }

  /**
   * At most `max` blocks to ask of `peer`, in the order of delivery. `again` names blocks that others were asked for and that are
   * worth asking for twice, when there is nothing else left to ask for.
   */
  take(peer: string, has: (index: number) => boolean, max: number, again = false): BlockRequest[] {
    const blocks: BlockRequest[] = [];
    for (let at = 0; blocks.length < max; at++) {
      const piece = this.#active[at] ?? this.#open();
      if (piece === undefined) break;
      if (piece.missing === 0 || !has(piece.index) || !mayAsk(piece, peer)) continue;
      for (let block = 0; block < piece.blocks.length && blocks.length < max; block++) {
        if (piece.blocks[block] === wanted || (again && !piece.alone && piece.blocks[block] === asked)) {
          piece.blocks[block] = asked;
          if (piece.alone) piece.contributors.add(peer);
          blocks.push(this.#request(piece.index, block));
        }
      }
    }
    return blocks;
  }

  /** Blocks that were asked of a peer and will not come. */
  giveBack(peer: string, blocks: Iterable<BlockRequest>): void {
    for (const { index, begin } of blocks) {
      const piece = this.#piece(index);
      const block = begin / blockBytes;
      if (piece === undefined || piece.blocks[block] !== asked) continue;
      piece.blocks[block] = wanted;
      if (piece.writers[block] === peer) piece.writers[block] = undefined;
      // Alone means from one peer from the first block to the last.
      if (piece.alone && piece.contributors.delete(peer)) reset(piece);
    }
  }

  /** A block begins to arrive. When it is not needed, or another peer is sending it, its bytes are ignored. */
  begin(peer: string, { index, begin }: BlockRequest): void {
    const piece = this.#piece(index);
    const block = begin / blockBytes;
    if (piece === undefined || piece.blocks[block] === here || !mayAsk(piece, peer)) return;
    piece.writers[block] ??= peer;
  }

  /** Bytes of a block, `offset` bytes after its beginning. */
  write(peer: string, { index, begin }: BlockRequest, bytes: Buffer, offset: number): void {
    const piece = this.#piece(index);
    if (piece?.writers[begin / blockBytes] === peer) bytes.copy(piece.bytes, begin + offset);
  }

  /** A block is whole. */
  filled(peer: string, { index, begin }: BlockRequest): BlockResult {
    const piece = this.#piece(index);
    const block = begin / blockBytes;
    if (piece === undefined || piece.writers[block] !== peer) return { kind: 'more' };
    piece.writers[block] = undefined;
    piece.blocks[block] = here;
    piece.contributors.add(peer);
    if (--piece.missing > 0) return { kind: 'more' };
    if (this.#matches(piece)) {
      piece.verified = true;
      return { kind: 'verified' };
    }
    const liar = piece.contributors.size === 1 ? peer : undefined;
    piece.alone = true;
    reset(piece);
    return { kind: 'spoilt', liar };
  }

  /** The next piece in the order of delivery, if it is whole; it is let go. */
  deliver(): { index: number; offset: number; bytes: Buffer; peers: string[] } | undefined {
    const piece = this.#active[0];
    if (piece?.verified !== true) return undefined;
    this.#active.shift();
    this.#first++;
    const { index, bytes, contributors } = piece;
    return { index, offset: index * this.#torrent.pieceLength, bytes, peers: [...contributors] };
  }

  #open(): ActivePiece | undefined {
    const index = this.#first + this.#active.length;
    if (this.#active.length >= this.#room || index >= this.#pieces) return undefined;
    const bytes = Buffer.allocUnsafeSlow(pieceSize(this.#torrent, index));
    const blocks = new Uint8Array(Math.ceil(bytes.length / blockBytes));
    const piece: ActivePiece = {
      index,
      bytes,
      blocks,
      writers: [],
      missing: blocks.length,
      contributors: new Set(),
      alone: false,
      verified: false,
    };
    this.#active.push(piece);
    return piece;
  }

  #piece(index: number): ActivePiece | undefined {
    return this.#active[index - this.#first];
  }

  #request(index: number, block: number): BlockRequest {
    const begin = block * blockBytes;
    return { index, begin, lengthBytes: Math.min(blockBytes, pieceSize(this.#torrent, index) - begin) };
  }

  #matches({ index, bytes }: ActivePiece): boolean {
    const expected = this.#torrent.pieces.subarray(index * pieceHashBytes, (index + 1) * pieceHashBytes);
    return hash('sha1', bytes, 'buffer').equals(expected);
  }
}

function mayAsk(piece: ActivePiece, peer: string): boolean {
  return !piece.alone || piece.contributors.size === 0 || piece.contributors.has(peer);
}

function reset(piece: ActivePiece): void {
  piece.blocks.fill(wanted);
  piece.writers.length = 0;
  piece.missing = piece.blocks.length;
  piece.contributors.clear();
}
