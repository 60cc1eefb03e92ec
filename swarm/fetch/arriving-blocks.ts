/**
 * Blocks that arrive: straight to where they belong, and beside it when another peer sends the same ones. Whoever is done first wins.
 */

import { blockBytes } from '../wire/limits.ts';
import { pieceHeadBytes } from '../wire/wire.ts';
import type { BlockRequest } from '../wire/wire-encode.ts';
import { type ActivePiece, copyInto, endBlock, firstBlock, here, isAt, takes } from './active-piece.ts';
import { type PieceMemory, placeIn } from './piece-memory.ts';

/** Bytes of a block that are worth a read of their own: below, many small blocks come with one. */
const placedLeastBytes = 64 * 1024;

interface Spare {
  readonly index: number;
  readonly begin: number;
  readonly bytes: Buffer;
  /** Those of its blocks that another one was sending when this began: the others go to their place. */
  readonly doubled: ReadonlySet<number>;
}

export class ArrivingBlocks {
  readonly #memory: PieceMemory;
  /** What peers send that another one is sending already. At most one for each peer. */
  readonly #spare = new Map<string, Spare>();

  constructor(memory: PieceMemory) {
    this.#memory = memory;
  }

  /** Bytes of blocks that come twice. */
  get heldBytes(): number {
    return [...this.#spare.values()].reduce((sum, { bytes }) => sum + bytes.length, 0);
  }

  /** A peer has left. */
  left(peer: string): void {
    this.#spare.delete(peer);
  }

  /** What was asked for begins to arrive; `piece` is `undefined` when it is not worked on any more. */
  begin(peer: string, piece: ActivePiece | undefined, request: BlockRequest): void {
    this.#spare.delete(peer);
    if (piece === undefined) return;
    this.#leaveTo(peer, piece);
    const { index, begin, lengthBytes } = request;
    const doubled = new Set<number>();
    for (let block = firstBlock(request); block < endBlock(request); block++) {
      if (!takes(piece, peer, block)) continue;
      piece.writers[block] ??= peer;
      if (piece.writers[block] !== peer) doubled.add(block);
    }
    if (doubled.size === 0) return;
    this.#spare.set(peer, { index, begin, bytes: Buffer.allocUnsafe(lengthBytes), doubled });
  }

  /** See `PieceWindow.place`. */
  place(peer: string, piece: ActivePiece, request: BlockRequest, offset: number): Buffer | undefined {
    const { index, begin, lengthBytes } = request;
    if (lengthBytes - offset < placedLeastBytes) return undefined;
    const rest = { index, begin: begin + offset, lengthBytes: lengthBytes - offset };
    for (let block = firstBlock(rest); block < endBlock(rest); block++) {
      if (piece.writers[block] !== peer || !takes(piece, peer, block)) return undefined;
    }
    const next = endBlock(rest);
    if (piece.blocks[next] === here || piece.writers[next] !== undefined) return undefined;
    piece.reader = peer;
    return placeIn(piece.bytes, rest.begin, rest.begin + rest.lengthBytes + pieceHeadBytes);
  }

  /** See `PieceWindow.write`. */
  write(
    peer: string,
    piece: ActivePiece,
    { index, begin }: BlockRequest,
    bytes: Buffer,
    offset: number,
  ): boolean {
    const part = { index, begin: begin + offset, lengthBytes: bytes.length };
    let direct = true;
    for (let block = firstBlock(part); block < endBlock(part); block++) {
      direct &&= piece.writers[block] === peer && takes(piece, peer, block);
    }
    if (!direct) return this.#writeParts(peer, piece, part, bytes, this.#spareOf(peer, index, begin));
    if (!isAt(piece.bytes, part.begin, bytes)) copyInto(piece.bytes, bytes, part.begin);
    return true;
  }

  /** All of what was asked for has arrived: the numbers of the blocks that are in their place now and were not before. */
  end(peer: string, piece: ActivePiece | undefined, request: BlockRequest): number[] {
    const { index, begin } = request;
    const spare = this.#spareOf(peer, index, begin);
    if (spare !== undefined) this.#spare.delete(peer);
    if (piece === undefined || piece.missing === 0) return [];
    this.#leaveTo(peer, piece);
    piece.reader = undefined;
    const came: number[] = [];
    for (let block = firstBlock(request); block < endBlock(request); block++) {
      if (!takes(piece, peer, block)) continue;
      if (piece.writers[block] !== peer) {
        if (!spare?.doubled.has(block)) continue;
        const at = block * blockBytes;
        copyInto(piece.bytes, spare.bytes.subarray(at - begin, at - begin + blockBytes), at);
      }
      came.push(block);
    }
    return came;
  }

  /** Block by block: some have come from others, or are coming. */
  #writeParts(
    peer: string,
    piece: ActivePiece,
    part: BlockRequest,
    bytes: Buffer,
    spare: Spare | undefined,
  ): boolean {
    let useful = false;
    for (let block = firstBlock(part); block < endBlock(part); block++) {
      const from = Math.max(block * blockBytes, part.begin);
      const some = bytes.subarray(from - part.begin, (block + 1) * blockBytes - part.begin);
      const taken = takes(piece, peer, block);
      if (spare?.doubled.has(block)) {
        // All of it, whether it is of use at this moment or not.
        some.copy(spare.bytes, from - spare.begin);
        useful ||= taken;
      } else if (taken && piece.writers[block] === peer) {
        if (!isAt(piece.bytes, from, some)) copyInto(piece.bytes, some, from);
        useful = true;
      }
    }
    return useful;
  }

  #spareOf(peer: string, index: number, begin: number): Spare | undefined {
    const spare = this.#spare.get(peer);
    return spare?.index === index && spare.begin === begin ? spare : undefined;
  }

  /**
   * This peer gives something of the piece. If another one's socket may read into its memory at any time, that is left to it, and what is there
   * goes elsewhere: nothing that was compared with a hash is ever written over.
   */
  #leaveTo(peer: string, piece: ActivePiece): void {
    if (piece.reader === undefined || piece.reader === peer) return;
    const bytes = this.#memory.take(piece.bytes.length);
    copyInto(bytes, piece.bytes, 0);
    piece.bytes = bytes;
    piece.reader = undefined;
  }
}
