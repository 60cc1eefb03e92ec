/**
 * One warm connection to a peer that has a pack: ranges of many NAR files over it at once, each asked for exactly, in turns.
 *
 * The pack's length and piece hashes are not known here and not needed. What the peer says is believed in nothing: blocks that were not asked
 * for are skipped, and whoever owes something and does not give it is left.
 */

import type { InfoHash } from '../../nar/hash.ts';
import type { PeerAddress } from '../address/peer-address.ts';
import { packPieceLength, packTorrentMaxBytes } from '../torrent/pack-torrent.ts';
import { encodeExtendedHandshake, parseExtendedHandshake } from '../wire/extension.ts';
import { blockBytes } from '../wire/limits.ts';
import { WireDecoder } from '../wire/wire.ts';
import {
  type BlockRequest,
  encodeCancels,
  encodeExtended,
  encodeRequests,
  encodeSimple,
} from '../wire/wire-encode.ts';
import type { Handshake } from '../wire/wire-handshake.ts';
import type { PackLimits } from './pack-limits.ts';
import { type PackRange, positionOf } from './pack-range.ts';
import { CountedPeer, violation } from './peer-chatter.ts';
import { PeerConnection } from './peer-connection.ts';

/** What happens on the connection. Called while a socket is read. */
export interface PackPeerEvents {
  /** It may be asked for something, for the first time or again. */
  opened(peer: PackPeer): void;
  /** It will not give the rest of a range. */
  lost(peer: PackPeer, range: PackRange): void;
  /** Last of all, and once. Its ranges were lost before. */
  closed(peer: PackPeer): void;
  /** A fault of ours, not of the peer. */
  fault(error: unknown): void;
}

export interface PackPeerOptions {
  infoHash: InfoHash;
  address: PeerAddress;
  /** Names the peer in `address`. */
  key: string;
  peerId: Buffer;
  limits: PackLimits;
  events: PackPeerEvents;
  /** Milliseconds by which the peer's patience is measured; coarse is enough. */
  clock: () => number;
}

interface Asked {
  readonly range: PackRange;
  readonly block: BlockRequest;
  /** By the clock, and to the microsecond. */
  readonly sinceMs: number;
  readonly sentMs: number;
}

/** Of what was measured before, the part that stays at each new measurement. */
const rateMemory = 0.7;

/** A rate is measured over at least this long. */
const rateMs = 100;

const piecesMax = packTorrentMaxBytes / packPieceLength;

export class PackPeer extends CountedPeer {
  readonly key: string;
  readonly infoHash: InfoHash;
  readonly address: PeerAddress;
  readonly #options: PackPeerOptions;
  readonly #connection: PeerConnection;
  #choked = true;
  /** By the block's position in the pack, in the order in which they were asked for. */
  readonly #asked = new Map<number, Asked>();
  #askedBytes = 0;
  /** Ranges with blocks that were not asked for yet, the one whose turn it is first. */
  #turns: PackRange[] = [];
  readonly #ranges = new Set<PackRange>();
  #arriving: Asked | undefined;
  #requestsMax: number;
  #rejects = 0;
  readonly #clock: () => number;
  readonly #startedMs: number;
  /** When a byte last came that was wanted, or the first one was asked for. */
  #heardMs = 0;
  #usedMs: number;
  #slowSinceMs = 0;
  #slowBytes = 0;
  #rateSinceMs = 0;
  #rateBytes = 0;
  #roundTripMs: number | undefined;
  #bytesPerSecond: number | undefined;
  #gaveBytes = 0;
  #owed = false;

  constructor(options: PackPeerOptions) {
    const { infoHash, address, key, limits } = options;
    super(piecesMax + 2 * limits.maxRequests + limits.chatter);
    this.#options = options;
    this.key = key;
    this.infoHash = infoHash;
    this.address = address;
    this.#requestsMax = limits.assumedRequests;
    this.#clock = options.clock;
    this.#startedMs = options.clock();
    this.#usedMs = this.#startedMs;
    this.#connection = new PeerConnection({
      ...options,
      readBytes: limits.readBytes,
      onHandshake: (handshake) => this.#greet(handshake),
      onClosed: () => this.#onClosed(),
      onFault: (error) => options.events.fault(error),
    });
  }

  /** Resolves when the socket is closed. */
  get gone(): Promise<void> {
    return this.#connection.gone;
  }

  /** It may be asked for something now. */
  get open(): boolean {
    return !this.#choked && !this.isClosed;
  }

  get isClosed(): boolean {
    return this.#connection.closed;
  }

  /** It showed the handshake of the pack. */
  get greeted(): boolean {
    return this.#connection.handshake !== undefined;
  }

  /** It was there, and would not speak about this torrent. */
  get refused(): boolean {
    return this.#connection.refused;
  }

  /** It was left for what it said after its handshake. */
  get violated(): boolean {
    return this.#connection.violated;
  }

  get idle(): boolean {
    return this.#ranges.size === 0;
  }

  /** It ended while it owed something. */
  get owed(): boolean {
    return this.#owed;
  }

  /** When something was last wanted of it. */
  get usedMs(): number {
    return this.#usedMs;
  }

  /** Bytes of wanted blocks that it gave. */
  get gaveBytes(): number {
    return this.#gaveBytes;
  }

  /** What was measured; `undefined` while nothing was. */
  get pace(): { bytesPerSecond: number; roundTripMs: number } | undefined {
    if (this.#roundTripMs === undefined || this.#bytesPerSecond === undefined) return undefined;
    return { bytesPerSecond: this.#bytesPerSecond, roundTripMs: this.#roundTripMs };
  }

  /** Milliseconds in which it would have given all that is wanted of it, and so many bytes more. */
  waitMs(moreBytes: number): number {
    let bytes = this.#askedBytes + moreBytes;
    for (const { missingBytes } of this.#turns) bytes += missingBytes;
    return (this.#roundTripMs ?? 0) + (bytes * 1_000) / (this.#bytesPerSecond ?? 10e6);
  }

  /** From now on the range is wanted of it. */
  want(range: PackRange): void {
    this.#usedMs = this.#clock();
    this.#ranges.add(range);
    this.#turns.push(range);
    this.#ask();
  }

  /** Nobody wants the rest of the range any more. What crosses is ignored. */
  forget(range: PackRange): void {
    if (!this.#ranges.delete(range)) return;
    this.#turns = this.#turns.filter((each) => each !== range);
    const cancelled: BlockRequest[] = [];
    for (const asked of [...this.#asked.values()]) {
      if (asked.range !== range) continue;
      this.#drop(asked);
      if (asked === this.#arriving) continue;
      this.chatter.excuse(asked.block.lengthBytes);
      cancelled.push(asked.block);
    }
    if (this.#arriving?.range === range) this.#arriving = undefined;
    if (cancelled.length > 0) this.#connection.send(encodeCancels(cancelled));
    this.#ask();
  }

  /** Why it is to be left now, if it is. To be called often. */
  failing(nowMs: number): 'unreachable' | 'still' | 'slow' | 'idle' | undefined {
    const { connectMs, stallMs, slowMs, leastBytesPerSecond, blockMs, idleMs } = this.#options.limits;
    if (!this.greeted) return nowMs - this.#startedMs > connectMs ? 'unreachable' : undefined;
    if (this.#ranges.size === 0) return nowMs - this.#usedMs > idleMs ? 'idle' : undefined;
    const [oldest] = this.#asked.values();
    if (oldest === undefined) return undefined;
    if (nowMs - this.#heardMs > stallMs) return 'still';
    if (nowMs - oldest.sinceMs > blockMs) return 'slow';
    if (nowMs - this.#slowSinceMs < slowMs) return undefined;
    const slow = this.#slowBytes < (leastBytesPerSecond * slowMs) / 1_000;
    this.#slowSinceMs = nowMs;
    this.#slowBytes = 0;
    return slow ? 'slow' : undefined;
  }

  close(): void {
    this.#connection.close();
  }

  #onClosed(): void {
    this.#owed = this.#ranges.size > 0;
    this.#loseAll();
    this.#options.events.closed(this);
  }

  /** As many blocks as may wait at the peer, in turns, in one write. */
  #ask(): void {
    if (!this.open) return;
    const room = this.#window() - this.#asked.size;
    const blocks: BlockRequest[] = [];
    const nowMs = performance.now();
    while (blocks.length < room) {
      const range = this.#turns.shift();
      if (range === undefined) break;
      const count = Math.min(room - blocks.length, this.#options.limits.turnBlocks);
      const taken = range.take(count);
      if (range.wants) this.#turns.push(range);
      // Of two NAR files that are said to lie in one place, one does not.
      if (taken.some((block) => this.#asked.has(positionOf(block)))) {
        for (const block of taken) range.giveBack(block);
        range.refusedBy.add(this.key);
        this.#lose(range);
        continue;
      }
      for (const block of taken) {
        const position = positionOf(block);
        if (this.#asked.size === 0) this.#begins(nowMs);
        this.#asked.set(position, { range, block, sinceMs: this.#clock(), sentMs: nowMs });
        this.#askedBytes += block.lengthBytes;
        blocks.push(block);
      }
    }
    if (blocks.length > 0) this.#connection.send(encodeRequests(blocks));
  }

  /** It owes something from now on. */
  #begins(nowMs: number): void {
    this.#heardMs = this.#clock();
    this.#slowSinceMs = this.#heardMs;
    this.#slowBytes = 0;
    this.#rateSinceMs = nowMs;
    this.#rateBytes = 0;
  }

  /** Blocks that may wait at the peer: what it gives in a round trip and a little more. */
  #window(): number {
    const { startRequests, minRequests, maxRequests, aheadMs } = this.#options.limits;
    const rate = this.#bytesPerSecond;
    const fit =
      rate === undefined
        ? startRequests
        : Math.ceil((rate * ((this.#roundTripMs ?? 0) + aheadMs)) / 1_000 / blockBytes);
    return Math.min(Math.max(fit, minRequests), maxRequests, this.#requestsMax);
  }

  #greet(handshake: Handshake): WireDecoder {
    const hello = encodeExtendedHandshake({
      requestsQueuedMax: this.#options.limits.assumedRequests,
      uploadOnly: false,
    });
    this.#connection.send(
      Buffer.concat([
        ...(handshake.fast ? [encodeSimple('haveNone')] : []),
        ...(handshake.extended ? [encodeExtended(0, hello)] : []),
        encodeSimple('interested'),
      ]),
    );
    return new WireDecoder(this, { pieces: 'unknown', blockMaxBytes: blockBytes });
  }

  // What the peer says

  choke(): void {
    this.chatter.choked();
    this.#choked = true;
    // By BEP 6 every request would be refused by itself; others are asked at once.
    this.#loseAll();
  }

  unchoke(): void {
    this.chatter.said();
    this.#choked = false;
    this.#options.events.opened(this);
  }

  reject(index: number, begin: number, lengthBytes: number): void {
    this.chatter.said();
    const asked = this.#askedFor({ index, begin, lengthBytes });
    // It may answer a cancel.
    if (asked === undefined) return;
    if (++this.#rejects > this.#options.limits.rejects) throw violation('it refuses everything');
    asked.range.refusedBy.add(this.key);
    this.#lose(asked.range);
  }

  extended(id: number, payload: Buffer): void {
    this.chatter.said(payload.length);
    if (id !== 0) return;
    const { requestsQueuedMax } = parseExtendedHandshake(payload);
    const { assumedRequests, maxRequests } = this.#options.limits;
    this.#requestsMax = Math.min(Math.max(requestsQueuedMax ?? assumedRequests, 1), maxRequests);
  }

  pieceStart(index: number, begin: number, lengthBytes: number): void {
    // It may cross a cancel; what was never asked for is skipped as well.
    this.#arriving = this.#askedFor({ index, begin, lengthBytes });
    if (this.#arriving === undefined) this.chatter.unasked(lengthBytes);
    else this.#measureRoundTrip(this.#arriving);
  }

  pieceData(bytes: Buffer, offset: number): void {
    const { range, block } = this.#arriving ?? {};
    if (range === undefined || block === undefined) return;
    this.#heardMs = this.#clock();
    this.#slowBytes += bytes.length;
    this.#rateBytes += bytes.length;
    this.#gaveBytes += bytes.length;
    range.write(block, bytes, offset);
  }

  pieceEnd(): void {
    const asked = this.#arriving;
    this.#arriving = undefined;
    if (asked === undefined) return;
    this.#drop(asked);
    this.chatter.gave();
    this.#rejects = 0;
    this.#measureRate();
    asked.range.filled(asked.block, this.key);
    if (asked.range.complete) {
      this.#ranges.delete(asked.range);
      this.#usedMs = this.#heardMs;
    }
    if (this.#turns.length > 0 && this.#asked.size <= this.#window() / 2) this.#ask();
  }

  #askedFor(block: BlockRequest): Asked | undefined {
    const asked = this.#asked.get(positionOf(block));
    const isIt = asked?.block.begin === block.begin && asked.block.lengthBytes === block.lengthBytes;
    return isIt ? asked : undefined;
  }

  #measureRoundTrip({ sentMs }: Asked): void {
    const ms = performance.now() - sentMs;
    this.#roundTripMs = Math.min(ms, this.#roundTripMs ?? ms);
  }

  #measureRate(): void {
    const nowMs = performance.now();
    const ms = nowMs - this.#rateSinceMs;
    if (ms < rateMs) return;
    const rate = (this.#rateBytes * 1_000) / ms;
    // What it gave while little was wanted says nothing against it.
    const before = this.#bytesPerSecond ?? rate;
    this.#bytesPerSecond = Math.max(rate, before * rateMemory + rate * (1 - rateMemory));
    this.#rateSinceMs = nowMs;
    this.#rateBytes = 0;
  }

  #drop({ block }: Asked): void {
    if (this.#asked.delete(positionOf(block))) this.#askedBytes -= block.lengthBytes;
  }

  /** The rest of a range does not come from here. */
  #lose(range: PackRange): void {
    this.#ranges.delete(range);
    this.#turns = this.#turns.filter((each) => each !== range);
    for (const asked of [...this.#asked.values()]) {
      if (asked.range !== range) continue;
      this.#drop(asked);
      this.chatter.excuse(asked.block.lengthBytes);
      range.giveBack(asked.block);
    }
    if (this.#arriving?.range === range) this.#arriving = undefined;
    this.#options.events.lost(this, range);
  }

  #loseAll(): void {
    for (const range of [...this.#ranges]) this.#lose(range);
  }
}
