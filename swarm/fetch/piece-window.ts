/**
 * The pieces being fetched: which blocks are wanted next, which are asked for, which are here. Pieces are worked on in the order in
 * which they are delivered, and only so far ahead as there is room. No sockets and no clock: decisions only.
 */

import { pieceHashOf, pieceSize, type Torrent } from '../torrent/torrent.ts';
import { blockBytes } from '../wire/limits.ts';
import type { BlockRequest } from '../wire/wire-encode.ts';
import {
  type ActivePiece,
  asked,
  blockDigest,
  endBlock,
  firstBlock,
  here,
  mayAsk,
  openPiece,
  peersOf,
  wanted,
} from './active-piece.ts';
import { ArrivingBlocks } from './arriving-blocks.ts';
import { PieceMemory } from './piece-memory.ts';

export type CheckResult =
  /** The piece is right; `liars` spoilt an attempt at it. */
  | { kind: 'verified'; liars: string[] }
  /** The piece, of `bytes` bytes, is wanted anew; `liars` is empty when several peers can have spoilt it. */
  | { kind: 'spoilt'; liars: string[]; bytes: number };

/** Whoever gives a block in less than one part in so many of the time that it will still take elsewhere is asked for it, too. */
const overtakeFactor = 2;
/** Milliseconds in which a block that was asked of another one is not asked of a third: round trips are uneven. */
const overtakeAgainMs = 50;
/** Peers that one block is asked of besides the first: enough that one of them is good, and few copies come for nothing. */
const overtakersMax = 3;

export interface TakeOptions {
  /** When they are to be expected; on any clock that goes forward. */
  dueMs: number;
  /**
   * From 0 to 1: so far into the room the pieces after the next one are begun with, and not in the order of delivery. Peers that share
   * and are at the same place then take different pieces from the one who has them, to give them to each other.
   */
  spread?: number;
  /** Bytes of the room that others will have got before anything comes from this peer: what is before is left to them. */
  skipBytes?: number;
  /** Blocks that follow each other and may be asked for as one. 1 by default. */
  togetherMax?: number;
}

export interface OvertakeOptions {
  nowMs: number;
  /** When this peer would give them. */
  dueMs: number;
  /** Only of the piece to be delivered next, and only what is overdue. */
  firstOnly?: boolean;
}

export class PieceWindow {
  readonly #torrent: Torrent;
  readonly #end: number;
  #room = 2;
  /** From the next to be delivered on, without gaps. */
  readonly #active: ActivePiece[] = [];
  readonly #arriving: ArrivingBlocks;
  readonly #memory: PieceMemory;
  /** Blocks of all pieces that are wanted. */
  #unasked = 0;
  /** Pieces that are whole and whose digest is not known yet. */
  #due = 0;
  #usedBytes = 0;
  #first: number;

  /** The pieces from `first` to before `end`. `aheadBytes`: what may be held; at least two pieces are. */
  constructor(
    torrent: Torrent,
    { first, end }: { first: number; end: number },
    aheadBytes: number,
    memory = new PieceMemory({ shared: false }),
  ) {
    this.#memory = memory;
    this.#arriving = new ArrivingBlocks(memory);
    this.#torrent = torrent;
    this.#end = end;
    this.#first = first;
    this.makeRoom(aheadBytes);
  }

  /** True when every piece that is wanted was delivered. */
  get done(): boolean {
    return this.#first >= this.#end;
  }

  /** Whether a piece is whole that was not `checked` yet. */
  get checkDue(): boolean {
    return this.#due > 0;
  }

  /** Holds as much from now on, and at least two pieces; what is held already stays. */
  makeRoom(aheadBytes: number): void {
    this.#room = Math.max(2, Math.floor(aheadBytes / this.#torrent.pieceLength));
  }

  /** Whether there is anything that nobody was asked for, and room for it. */
  get wants(): boolean {
    return this.#unasked > 0 || this.#active.length < Math.min(this.#room, this.#end - this.#first);
  }

  /** Bytes of blocks that were put to use, those of spoilt pieces included. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** The piece to be delivered next. */
  get first(): number {
    return this.#first;
  }

  /** Bytes of a piece that is verified and was not delivered yet. */
  bytesOf(index: number): Buffer | undefined {
    const piece = this.#piece(index);
    return piece?.check === 'verified' ? piece.bytes : undefined;
  }

  /** Bytes that are held: of whole pieces, incomplete ones, and blocks that come twice. */
  get heldBytes(): number {
    return this.#active.reduce((sum, { bytes }) => sum + bytes.length, this.#arriving.heldBytes);
  }

  /** At most `max` blocks to ask of `peer` that nobody was asked for, in the order of delivery. */
  take(peer: string, has: (index: number) => boolean, max: number, options: TakeOptions): BlockRequest[] {
    const taken: BlockRequest[] = [];
    if (!this.wants) return taken;
    let left = max;
    for (const piece of this.#inTurn(options)) {
      if (piece.unasked === 0 || !has(piece.index) || !mayAsk(piece, peer)) continue;
      for (let block = 0; block < piece.blocks.length && left > 0; block++) {
        const together = this.#take(
          peer,
          piece,
          block,
          Math.min(left, options.togetherMax ?? 1),
          options.dueMs,
        );
        if (together === 0) continue;
        taken.push(this.#request(piece.index, block, together));
        left -= together;
        block += together - 1;
      }
      // Before the next one is opened.
      if (left <= 0) break;
    }
    return taken;
  }

  /** How many blocks it was, of those that follow each other from this one on. */
  #take(peer: string, piece: ActivePiece, first: number, max: number, dueMs: number): number {
    let block = first;
    for (; block < first + max && piece.blocks[block] === wanted; block++) {
      piece.blocks[block] = asked;
      piece.askedOf[block] = peer;
      piece.dueMs[block] = dueMs;
      piece.overtaken[block] = 0;
    }
    piece.unasked -= block - first;
    this.#unasked -= block - first;
    if (piece.alone && block > first) piece.owner = peer;
    return block - first;
  }

  /**
   * At most `max` blocks that others were asked for and `peer` is to be asked for, too: those that are overdue, and those that it would give
   * well before they are due. Nothing is opened for it.
   */
  overtake(
    peer: string,
    has: (index: number) => boolean,
    max: number,
    { nowMs, dueMs, firstOnly = false }: OvertakeOptions,
  ): BlockRequest[] {
    const taken: BlockRequest[] = [];
    const wellBeforeMs = nowMs + overtakeFactor * (dueMs - nowMs) + overtakeAgainMs;
    for (const piece of this.#active.slice(0, firstOnly ? 1 : undefined)) {
      if (piece.missing === 0 || piece.alone || !has(piece.index)) continue;
      for (let block = 0; block < piece.blocks.length && taken.length < max; block++) {
        const expectedMs = piece.dueMs[block] ?? 0;
        const overtaken = piece.overtaken[block] ?? 0;
        const slow = expectedMs < nowMs || (!firstOnly && overtaken === 0 && expectedMs > wellBeforeMs);
        if (piece.blocks[block] !== asked || !slow) continue;
        if (piece.askedOf[block] === peer || overtaken >= overtakersMax) continue;
        piece.askedOf[block] = peer;
        piece.overtaken[block] = overtaken + 1;
        piece.dueMs[block] = Math.max(dueMs, nowMs + overtakeAgainMs);
        taken.push(this.#request(piece.index, block, 1));
      }
    }
    return taken;
  }

  /** Blocks that were asked of a peer and that others may be asked for now. They are still taken if they come. */
  giveBack(peer: string, blocks: Iterable<BlockRequest>): void {
    for (const request of blocks) {
      const piece = this.#piece(request.index);
      if (piece === undefined) continue;
      for (let block = firstBlock(request); block < endBlock(request); block++) {
        if (piece.blocks[block] !== asked) continue;
        // All of it from the next one.
        if (piece.alone && piece.owner === peer) this.#reset(piece);
        if (!piece.alone) this.#want(piece, block);
      }
    }
  }

  /** A peer has left, after it gave back what it was asked for. */
  left(peer: string): void {
    this.#arriving.left(peer);
    for (const piece of this.#active) {
      if (piece.owner === peer && piece.check === 'open') this.#reset(piece);
      if (piece.reader === peer) piece.reader = undefined;
    }
  }

  /** A peer has lied: the blocks that it gave to pieces not yet whole are wanted anew. */
  distrust(peer: string): void {
    for (const piece of this.#active) {
      // The digest of a whole one will tell.
      if (piece.check !== 'open') continue;
      for (const [block, source] of piece.sources.entries()) {
        if (source !== peer || piece.blocks[block] !== here) continue;
        this.#want(piece, block);
        piece.missing++;
      }
    }
  }

  /** What was asked for begins to arrive. */
  begin(peer: string, request: BlockRequest): void {
    this.#arriving.begin(peer, this.#piece(request.index), request);
  }

  /**
   * Where a socket may read the rest of what was asked for to, and the head of a message behind it: the piece is only this peer's until then.
   * `undefined` when it has to be copied.
   */
  place(peer: string, request: BlockRequest, offset: number): Buffer | undefined {
    const piece = this.#piece(request.index);
    return piece && this.#arriving.place(peer, piece, request, offset);
  }

  /** Bytes of what was asked for, `offset` bytes after its beginning. False when they are of no use. */
  write(peer: string, request: BlockRequest, bytes: Buffer, offset: number): boolean {
    const piece = this.#piece(request.index);
    return piece !== undefined && this.#arriving.write(peer, piece, request, bytes, offset);
  }

  /**
   * What was asked for is here. When its piece is whole with it, gives that: its SHA-1 is due in `checked`, and its bytes do not change
   * until then.
   */
  filled(peer: string, request: BlockRequest): Buffer | undefined {
    const piece = this.#piece(request.index);
    const came = this.#arriving.end(peer, piece, request);
    if (piece === undefined) return undefined;
    for (const block of came) this.#fill(peer, piece, block);
    this.#wantLost(peer, piece, request);
    if (came.length === 0) return undefined;
    if (piece.missing > 0) return undefined;
    piece.check = 'due';
    this.#due++;
    return piece.bytes;
  }

  /** Blocks that were wanted anew while this peer sent them, so that their beginning is lost: it owes them no more. */
  #wantLost(peer: string, piece: ActivePiece, request: BlockRequest): void {
    for (let block = firstBlock(request); block < endBlock(request); block++) {
      if (piece.blocks[block] === asked && piece.askedOf[block] === peer) this.#want(piece, block);
    }
  }

  /** Whether nobody needs to send this any more. */
  isHere(request: BlockRequest): boolean {
    const { blocks } = this.#piece(request.index) ?? {};
    return blocks?.subarray(firstBlock(request), endBlock(request)).every((state) => state === here) ?? true;
  }

  #fill(peer: string, piece: ActivePiece, block: number): void {
    piece.writers[block] = undefined;
    piece.sources[block] = peer;
    if (piece.blocks[block] === wanted) {
      piece.unasked--;
      this.#unasked--;
    }
    piece.blocks[block] = here;
    piece.missing--;
    this.#usedBytes += Math.min(blockBytes, piece.bytes.length - block * blockBytes);
  }

  /** The next piece in the order of delivery, if it is whole; it is let go. */
  deliver(): { index: number; offset: number; bytes: Buffer; peers: string[] } | undefined {
    const piece = this.#active[0];
    if (piece?.check !== 'verified') return undefined;
    this.#active.shift();
    this.#first++;
    const { index, bytes } = piece;
    return { index, offset: index * this.#torrent.pieceLength, bytes, peers: peersOf(piece) };
  }

  /** The SHA-1 of a piece that `filled` gave. */
  checked(index: number, digest: Buffer): CheckResult {
    const piece = this.#piece(index);
    if (piece?.check !== 'due') throw new Error(`piece ${index} was not to be checked`);
    this.#due--;
    const { bytes, suspects } = piece;
    if (digest.equals(pieceHashOf(this.#torrent, index))) {
      const liars = suspects.filter((suspect, block) => !suspect.digest.equals(blockDigest(piece, block)));
      piece.check = 'verified';
      piece.suspects = [];
      return { kind: 'verified', liars: [...new Set(liars.map(({ peer }) => peer))] };
    }
    const peers = peersOf(piece);
    if (peers.length > 1) {
      piece.suspects = piece.sources.map((peer = '', block) => ({ peer, digest: blockDigest(piece, block) }));
    }
    piece.alone = true;
    piece.check = 'open';
    this.#reset(piece);
    return { kind: 'spoilt', liars: peers.length === 1 ? peers : [], bytes: bytes.length };
  }

  /** Takes back the bytes of a delivered piece, which nobody reads any more, for one yet to come. */
  recycle(bytes: Buffer): void {
    this.#memory.giveBack(bytes);
  }

  /** In the order of delivery, each opened when its turn comes; with `spread` the next one first, then the others from there on. */
  *#inTurn({ spread, skipBytes = 0 }: TakeOptions): Generator<ActivePiece> {
    const count = Math.min(this.#room, this.#end - this.#first);
    const start = spread === undefined ? 1 : 1 + Math.floor(spread * (count - 1));
    for (let turn = Math.floor(skipBytes / this.#torrent.pieceLength); turn < count; turn++) {
      const at = turn === 0 ? 0 : 1 + ((start - 1 + turn - 1) % (count - 1));
      while (this.#active.length <= at) if (this.#open() === undefined) return;
      const piece = this.#active[at];
      if (piece !== undefined) yield piece;
    }
  }

  #open(): ActivePiece | undefined {
    const index = this.#first + this.#active.length;
    if (this.#active.length >= this.#room || index >= this.#end) return undefined;
    const size = pieceSize(this.#torrent, index);
    const bytes = this.#memory.take(size);
    const piece = openPiece(index, bytes);
    this.#active.push(piece);
    this.#unasked += piece.unasked;
    return piece;
  }

  #want(piece: ActivePiece, block: number): void {
    piece.blocks[block] = wanted;
    piece.unasked++;
    this.#unasked++;
  }

  /** All of it is wanted anew. */
  #reset(piece: ActivePiece): void {
    this.#unasked += piece.blocks.length - piece.unasked;
    piece.blocks.fill(wanted);
    piece.writers.length = 0;
    piece.sources.length = 0;
    piece.owner = undefined;
    piece.missing = piece.blocks.length;
    piece.unasked = piece.blocks.length;
  }

  #piece(index: number): ActivePiece | undefined {
    return this.#active[index - this.#first];
  }

  #request(index: number, block: number, together: number): BlockRequest {
    const begin = block * blockBytes;
    const lengthBytes = Math.min(together * blockBytes, pieceSize(this.#torrent, index) - begin);
    return { index, begin, lengthBytes };
  }
}
