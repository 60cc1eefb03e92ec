/**
 * What the seed server makes of a peer's messages: who gets unchoked, which requests are taken, what is refused, and when a peer
 * talks too much. Its only effects are the messages it writes and the requests it queues.
 */
import { NarswarmError } from '../../nar/errors.ts';
import {
  encodeMetadata,
  encodeMetadataData,
  metadataPieceCount,
  parseMetadata,
} from '../torrent/metadata.ts';
import { pieceCount, pieceSize } from '../torrent/torrent.ts';
import type { UploadLane } from '../upload/upload-lane.ts';
import {
  type ExtendedHandshake,
  encodeExtendedHandshake,
  ourExtensions,
  parseExtendedHandshake,
} from '../wire/extension.ts';
import type { SeedLimits } from '../wire/limits.ts';
import { blockMaxBytes, foreignBlockMaxBytes } from '../wire/limits.ts';
import type { WireVisitor } from '../wire/wire.ts';
import type { BlockRequest } from '../wire/wire-encode.ts';
import {
  encodeBitfield,
  encodeExtended,
  encodeIndexed,
  encodeRejects,
  encodeSimple,
  fullBitfield,
} from '../wire/wire-encode.ts';
import type { Handshake } from '../wire/wire-handshake.ts';
import { isOurCode } from '../wire/wire-handshake.ts';
import type { BlockSender } from './block-sender.ts';
import type { OpenTorrent } from './open-torrents.ts';
import type { DealtPeer, PieceDealer } from './piece-dealer.ts';
import type { PieceDealers } from './piece-dealers.ts';
import type { SeedCounters } from './seed-connection.ts';

export interface SeedPeerOptions {
  torrent: OpenTorrent;
  sender: BlockSender;
  limits: SeedLimits;
  counters: SeedCounters;
  /** Decides who is unchoked, and when. */
  lane: UploadLane;
  /** Suggests different pieces to peers that share; for a seed that deals. */
  dealers: PieceDealers | undefined;
  clock: () => number;
  /** The peer set the bit of BEP 6; we always do. */
  fast: boolean;
  write: (message: Buffer) => void;
  /** The peer says where it takes connections. */
  listens: (port: number) => void;
  /** The peer has every piece: neither side has anything for the other. */
  isSeed: () => void;
}

const minuteMs = 60_000;

export class SeedPeer implements WireVisitor, DealtPeer {
  readonly pieces: number;
  readonly #options: SeedPeerOptions;
  /** One bit per piece that the peer has. */
  readonly #has: Buffer;
  #hasCount = 0;
  #extendedHandshakes = 0;
  /** The number under which the peer wants ut_metadata, if it does. */
  #metadataId: number | undefined;
  #metadataSent = 0;
  /** While the peer shares what it fetches, and we deal. */
  #dealer: PieceDealer | undefined;
  #dealId: number | undefined;
  #unwatch: (() => void) | undefined;
  #chatter = 0;
  #chatterSinceMs: number;
  #activeMs: number;
  /** When it last said anything. */
  #heardMs: number;
  #keepAlives = 0;

  constructor(options: SeedPeerOptions) {
    this.#options = options;
    this.pieces = pieceCount(options.torrent.torrent);
    this.#has = Buffer.alloc(Math.ceil(this.pieces / 8));
    this.#activeMs = options.clock();
    this.#chatterSinceMs = this.#activeMs;
    this.#heardMs = this.#activeMs;
  }

  /**
   * What follows our handshake: what we have, which BEP 3 and 6 want first, and what we can do. One of our own kind also gets leave to ask:
   * BEP 3 allows that at any time, but webtorrent never asks when it comes before it has looked at the torrent.
   */
  greet({ extended, peerId }: Handshake): void {
    const { fast, write, limits, torrent, dealers, lane } = this.#options;
    const { pieces } = torrent;
    const count = pieces?.count ?? this.pieces;
    if (fast && count === this.pieces) write(encodeSimple('haveAll'));
    else if (fast && count === 0) write(encodeSimple('haveNone'));
    else write(encodeBitfield(pieces?.bits() ?? fullBitfield(this.pieces)));
    this.#unwatch = pieces?.watch((index) => write(encodeIndexed('have', index)));
    if (extended) {
      const handshake = encodeExtendedHandshake({
        metadataBytes: torrent.metadataBytes,
        requestsQueuedMax: limits.requestsQueuedMax,
        uploadOnly: true,
        deals: dealers !== undefined,
        blockMaxBytes: lane.paced ? foreignBlockMaxBytes : blockMaxBytes,
      });
      write(encodeExtended(0, handshake));
    }
    if (isOurCode(peerId)) lane.greets();
  }

  /** The connection is gone. */
  close(): void {
    this.#unwatch?.();
    this.#dealer = undefined;
    const { dealers, torrent } = this.#options;
    dealers?.leave(torrent.torrent.infoHash, this, this.#hasCount === this.pieces);
  }

  // What the dealer asks and tells

  has(index: number): boolean {
    return ((this.#has[index >> 3] ?? 0) & (0x80 >> (index & 7))) !== 0;
  }

  deals(on: boolean): void {
    if (this.#dealId !== undefined)
      this.#options.write(encodeExtended(this.#dealId, Buffer.from([on ? 1 : 0])));
  }

  offer(indexes: readonly number[]): void {
    this.#options.write(Buffer.concat(indexes.map((index) => encodeIndexed('suggest', index))));
  }

  /** True when the peer has wanted nothing for too long. One that we hold back must only be there still. */
  isIdle(): boolean {
    const { clock, lane, limits } = this.#options;
    if (lane.heldBack) return clock() - this.#heardMs >= lane.heldBackSilenceMs;
    return clock() - this.#activeMs >= limits.idleMs;
  }

  /** Bytes came from it. */
  heard(): void {
    this.#heardMs = this.#options.clock();
  }

  /** The upload policy lets it ask. */
  leave(): void {
    this.#activeMs = this.#options.clock();
    this.#options.write(encodeSimple('unchoke'));
    this.#dealer?.unchoked(this);
  }

  /** The upload policy holds it back. By BEP 6 every request that waits is refused by itself; without, `choke` says it of all. */
  holdBack(): void {
    const { write, sender } = this.#options;
    const refused = sender.takeQueue();
    write(encodeSimple('choke'));
    this.refuse(refused);
    this.#dealer?.choked(this);
  }

  /** Requests that were taken and will not be answered. */
  refuse(blocks: readonly BlockRequest[]): void {
    const { write, fast, counters } = this.#options;
    counters.requestsRejected += blocks.length;
    if (fast && blocks.length > 0) write(encodeRejects(blocks));
  }

  /** The same for those that it knows not to ask for now, or learns it from this. */
  refuseLarge(blocks: readonly BlockRequest[]): void {
    for (let count = 0; count < blocks.length; count++) this.#countChatter();
    this.refuse(blocks);
  }

  keepAlive(): void {
    this.#countChatter();
    if (this.#keepAlives >= this.#options.limits.keepAlivesMax) return;
    this.#keepAlives++;
    this.#activeMs = this.#options.clock();
  }

  interested(): void {
    const { lane } = this.#options;
    if (lane.wanted) this.#countChatter();
    else lane.wants();
  }

  notInterested(): void {
    this.#countChatter();
    this.#options.lane.rests();
  }

  choke(): void {
    this.#countChatter();
  }

  unchoke(): void {
    this.#countChatter();
  }

  suggest(): void {
    this.#countChatter();
  }

  allowedFast(): void {
    this.#countChatter();
  }

  ignored(): void {
    this.#countChatter();
  }

  reject(): void {
    throw new NarswarmError('wire-violation', 'the peer refused what was not asked for');
  }

  have(index: number): void {
    const byte = this.#has[index >> 3] ?? 0;
    const bit = 0x80 >> (index & 7);
    if ((byte & bit) !== 0) {
      this.#countChatter();
      return;
    }
    this.#has[index >> 3] = byte | bit;
    this.#hasCount++;
    this.#dealer?.had(this, index);
    if (this.#hasCount === this.pieces) this.#options.isSeed();
  }

  /** Comes first by BEP 3, but aria2 sends another one later in place of many `have`, so it is taken whenever it adds something. */
  bitfield(bits: Buffer): void {
    const before = this.#hasCount;
    this.#hasCount = 0;
    for (let i = 0; i < bits.length; i++) {
      const byte = (this.#has[i] ?? 0) | (bits[i] ?? 0);
      this.#has[i] = byte;
      for (let rest = byte; rest > 0; rest &= rest - 1) this.#hasCount++;
    }
    if (this.#hasCount === before) this.#countChatter();
    if (this.#hasCount === this.pieces) this.#options.isSeed();
  }

  haveAll(): void {
    this.#options.isSeed();
  }

  haveNone(): void {
    this.#countChatter();
  }

  request(index: number, begin: number, lengthBytes: number): void {
    const { torrent, sender, fast, lane } = this.#options;
    const block = this.#checkBlock({ index, begin, lengthBytes }, torrent);
    if (!lane.unchoked || torrent.pieces?.has(index) === false) {
      this.#reject(block);
    } else if (sender.request(block)) {
      this.#activeMs = this.#options.clock();
      this.#keepAlives = 0;
      this.#dealer?.asked(this, index);
    } else if (fast) {
      this.#reject(block);
    } else {
      throw new NarswarmError('wire-violation', 'more requests than were allowed');
    }
  }

  cancel(index: number, begin: number, lengthBytes: number): void {
    const block = { index, begin, lengthBytes };
    if (!this.#options.sender.cancel(block)) this.#countChatter();
    else if (this.#options.fast) this.#options.write(encodeRejects([block]));
  }

  extended(id: number, payload: Buffer): void {
    if (id === 0) {
      if (this.#extendedHandshakes++ > 0) this.#countChatter();
      this.#greeted(parseExtendedHandshake(payload));
    } else if (id === ourExtensions.ut_metadata) {
      this.#metadata(payload);
    } else {
      this.#countChatter();
    }
  }

  #greeted({ extensions, listenPort }: ExtendedHandshake): void {
    const { dealers, torrent, fast, lane, listens, write } = this.#options;
    this.#metadataId = extensions.get('ut_metadata');
    if (listenPort !== undefined) listens(listenPort);
    const dealId = extensions.get('ns_deal');
    if (dealers === undefined || dealId === undefined || !fast || this.#dealer !== undefined) return;
    this.#dealId = dealId;
    this.#dealer = dealers.join(torrent.torrent, this);
    if (!lane.unchoked) return;
    // One that takes part has waited for this: until now it could not know what is dealt to it.
    write(encodeSimple('unchoke'));
    this.#dealer?.unchoked(this);
  }

  #metadata(payload: Buffer): void {
    const message = parseMetadata(payload);
    if (message?.type !== 'request' || this.#metadataId === undefined) {
      this.#countChatter();
      return;
    }
    const { torrent, limits, counters, write } = this.#options;
    const count = metadataPieceCount(torrent.metadataBytes);
    if (message.piece >= count || this.#metadataSent >= count * limits.metadataCopiesMax) {
      this.#countChatter();
      write(encodeExtended(this.#metadataId, encodeMetadata('reject', message.piece)));
      return;
    }
    this.#metadataSent++;
    counters.metadataPieces++;
    this.#activeMs = this.#options.clock();
    write(encodeExtended(this.#metadataId, ...encodeMetadataData(torrent.metadata(), message.piece)));
  }

  #checkBlock(block: BlockRequest, { torrent }: OpenTorrent): BlockRequest {
    const { index, begin, lengthBytes } = block;
    if (lengthBytes < 1 || lengthBytes > blockMaxBytes)
      throw new NarswarmError('wire-violation', `the peer asked for a block of ${lengthBytes} bytes`);
    // Beyond the last piece, the size is 0 or less.
    if (begin + lengthBytes > pieceSize(torrent, index))
      throw new NarswarmError('wire-violation', 'the peer asked for a block outside the torrent');
    return block;
  }

  #reject(block: BlockRequest): void {
    this.#countChatter();
    this.#options.counters.requestsRejected++;
    if (this.#options.fast) this.#options.write(encodeRejects([block]));
  }

  #countChatter(): void {
    const nowMs = this.#options.clock();
    if (nowMs - this.#chatterSinceMs >= minuteMs) {
      this.#chatterSinceMs = nowMs;
      this.#chatter = 0;
    }
    if (++this.#chatter > this.#options.limits.chatterPerMinuteMax)
      throw new NarswarmError('wire-violation', 'the peer talks too much');
  }
}
