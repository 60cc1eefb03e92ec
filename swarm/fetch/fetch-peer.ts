/** One connection to a peer that has what we fetch: handshake, requests, blocks. What to ask for is decided elsewhere. */

import type { PeerAddress } from '../address/peer-address.ts';
import { pieceCount } from '../torrent/torrent.ts';
import { dealExtension, encodeExtendedHandshake, parseExtendedHandshake } from '../wire/extension.ts';
import { blockBytes, blockMaxBytes, foreignBlockMaxBytes } from '../wire/limits.ts';
import { WireDecoder } from '../wire/wire.ts';
import {
  type BlockRequest,
  encodeBitfield,
  encodeCancels,
  encodeExtended,
  encodeIndexed,
  encodeKeepAlive,
  encodeRequests,
  encodeSimple,
} from '../wire/wire-encode.ts';
import type { Handshake } from '../wire/wire-handshake.ts';
import { type Asked, AskedBlocks } from './asked-blocks.ts';
import type { FetchPeerOptions } from './fetch-peer-options.ts';
import { CountedPeer, violation } from './peer-chatter.ts';
import { PeerConnection } from './peer-connection.ts';
import { PeerPace } from './peer-pace.ts';
import { PeerPieces } from './peer-pieces.ts';

/** Blocks that are asked for together at the most, once the path is full: one read of the other side. */
const batchBlocks = 64;
/** Room for what comes with the blocks of a small torrent. */
const smallReadBytes = 32 * 1024;

export class FetchPeer extends CountedPeer {
  readonly key: string;
  readonly address: PeerAddress;
  readonly #options: FetchPeerOptions;
  readonly #connection: PeerConnection;
  readonly #pieces: PeerPieces;
  #choked = true;
  readonly #asked = new AskedBlocks();
  #togetherMax = 1;
  readonly #openedMs = performance.now();
  #arriving: Asked | undefined;
  #requestsMax: number;
  #rejects = 0;
  readonly #rejectsOfPiece = new Map<number, number>();
  #pausedUntilMs = 0;
  #deals = false;
  /** It deals with those who take part. */
  #dealsOut = false;
  readonly #suggested = new Set<number>();
  #everUnchoked = false;
  /** Since when its rate is looked at, and what it gave since. */
  #rateSinceMs = performance.now();
  #rateBytes = 0;
  /** It has delivered a block. */
  proven = false;
  /** What it gives, and how much of it is to be asked for. */
  readonly pace: PeerPace;

  constructor(options: FetchPeerOptions) {
    const { address, torrent, limits, key } = options;
    super(pieceCount(torrent) + 2 * limits.maxRequests + limits.chatter);
    this.#options = options;
    this.key = key;
    this.address = address;
    this.#pieces = new PeerPieces(pieceCount(torrent));
    this.#requestsMax = limits.assumedRequests;
    this.pace = new PeerPace(limits, options.startRequests, options.known);
    this.#connection = new PeerConnection({
      address,
      infoHash: torrent.infoHash,
      peerId: options.peerId,
      // A small torrent and what is said around it come at once, too.
      readBytes: Math.min(limits.readBytes, torrent.length + smallReadBytes),
      onHandshake: (handshake) => this.#greet(handshake),
      onClosed: () => this.#onClosed(),
      onFault: (error) => options.events.fault(error),
    });
  }

  /** Resolves when the socket is closed. */
  get gone(): Promise<void> {
    return this.#connection.gone;
  }

  /** Blocks asked for and not here. */
  get waitingFor(): number {
    return this.#asked.blocks;
  }

  get connected(): boolean {
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

  /**
   * Blocks that it may be asked for as one: less is to be said and done then for each byte. One that gives little gives small ones, which
   * another one can take over, and which tell sooner how fast it is.
   */
  get togetherMax(): number {
    const { window } = this.pace;
    // Some are always on their way while one is asked for.
    return window > this.#options.startRequests ? Math.min(this.#togetherMax, Math.floor(window / 4)) : 1;
  }

  /** The connection ended, not by us, after it had delivered something: over another one it may go on. */
  get brokenOff(): boolean {
    return this.proven && this.#connection.brokenOff;
  }

  has(index: number): boolean {
    return this.#pieces.has(index);
  }

  /** It wants to be asked for what it suggests, and for the rest only in need. */
  get deals(): boolean {
    return this.#deals;
  }

  /** Whether it is to be asked for a piece: one that deals only for those that it suggested. */
  offers(index: number): boolean {
    return this.has(index) && (!this.#deals || this.#suggested.has(index));
  }

  /** Says that a piece is here now. */
  tellHave(index: number): void {
    if (this.#connection.ready && this.#options.share !== undefined)
      this.#connection.send(encodeIndexed('have', index));
  }

  /** How many more blocks it should be asked for now. It fills up in batches, which the other side can read at once. */
  appetite(nowMs: number): number {
    if (this.#choked || this.#connection.closed || nowMs < this.#pausedUntilMs) return 0;
    const window = Math.min(this.pace.window, this.#requestsMax);
    const free = window - this.#asked.blocks;
    return free < Math.min(window / 4, batchBlocks) ? 0 : free;
  }

  /** How long a block would take that it is asked for now. While nothing is known of it, what its handshake took and some more. */
  get expectMs(): number {
    const { slackMs } = this.#options.limits;
    return this.pace.expectMs(this.#asked.blocks) ?? 2 * ((this.pace.roundTripMs ?? 0) + slackMs);
  }

  /** `all` of what it should be asked for, or less because there is not more. */
  ask(blocks: readonly BlockRequest[], all: boolean): void {
    const fresh = [...this.#asked.missing(blocks)];
    if (fresh.length === 0) return;
    const nowMs = performance.now();
    if (this.#asked.blocks === 0) this.#restartRate(nowMs);
    const at = this.pace.asks(nowMs);
    for (const block of fresh) this.#asked.add(block, at, !all);
    this.#connection.send(encodeRequests(fresh));
  }

  /** Says that blocks came from elsewhere. The answer, a block that crosses or a refusal, will be ignored. */
  noLongerNeeds(blocks: BlockRequest): void {
    const cancels = [...this.#asked.within(blocks)].filter((block) => !this.#isArriving(block));
    for (const block of cancels) {
      this.#asked.delete(block);
      this.chatter.excuse(block.lengthBytes);
    }
    if (cancels.length > 0) this.#connection.send(encodeCancels(cancels));
  }

  /**
   * Whether, for `ms`, it gave less than `leastBytes` although it was to give something: blocks that it was asked for, or its
   * handshake and leave to ask. Begins anew each time.
   */
  fellShort(nowMs: number, ms: number, leastBytes: number): boolean {
    if (nowMs - this.#rateSinceMs < ms) return false;
    const short = this.#rateBytes < leastBytes && (this.#asked.blocks > 0 || this.#choked);
    this.#restartRate(nowMs);
    return short;
  }

  /** The blocks that it was asked for are free for others; they are still taken if they come first. */
  standsStill(): BlockRequest[] {
    this.pace.restart();
    return this.#asked.all();
  }

  stayAlive(nowMs: number): void {
    if (this.connected && nowMs - this.#connection.sentMs >= this.#options.limits.keepAliveMs)
      this.#connection.send(encodeKeepAlive());
  }

  close(): void {
    this.#connection.close();
  }

  #onClosed(): void {
    this.#lose(this.#asked.all());
    this.#options.events.closed(this);
  }

  #restartRate(nowMs: number): void {
    this.#rateSinceMs = nowMs;
    this.#rateBytes = 0;
  }

  #greet(handshake: Handshake): WireDecoder {
    const { torrent, limits, share } = this.#options;
    this.pace.answeredAfter(performance.now() - this.#openedMs);
    this.#options.events.progressed(this);
    const messages = [encodeSimple('interested')];
    if (handshake.extended) {
      const hello = encodeExtendedHandshake({
        requestsQueuedMax: limits.assumedRequests,
        uploadOnly: false,
        ...(share && { deals: true, listenPort: share.listenPort }),
      });
      messages.unshift(encodeExtended(0, hello));
    }
    // What there is comes before anything else, and by BEP 6 also that there is nothing.
    const bits = share?.bits();
    if (bits !== undefined) messages.unshift(encodeBitfield(bits));
    else if (handshake.fast) messages.unshift(encodeSimple('haveNone'));
    this.#connection.send(Buffer.concat(messages));
    return new WireDecoder(this, { pieces: pieceCount(torrent), blockMaxBytes });
  }

  // What the peer says

  choke(): void {
    this.chatter.choked();
    this.#choked = true;
    // They are suggested to others now.
    this.#suggested.clear();
    // With the fast extension each request is refused by itself; without, all are forgotten.
    if (this.#connection.handshake?.fast === false) {
      for (const { lengthBytes } of this.#asked.all()) this.chatter.excuse(lengthBytes);
      this.#lose(this.#asked.all());
    }
  }

  unchoke(): void {
    this.chatter.said();
    // It comes again once that peer knows that we take part in what it deals.
    if (this.#connection.greeting && this.#dealsOut && this.#options.share !== undefined) return;
    this.#choked = false;
    if (!this.#everUnchoked) this.#options.events.progressed(this);
    this.#everUnchoked = true;
    this.#options.events.ready(this);
  }

  override have(index: number): void {
    this.chatter.said();
    this.#pieces.add(index);
    this.#options.events.ready(this);
  }

  bitfield(bits: Buffer): void {
    this.chatter.said(bits.length);
    this.#pieces.set(bits);
    this.#options.events.ready(this);
  }

  override haveAll(): void {
    this.chatter.said();
    this.#pieces.set('all');
    this.#options.events.ready(this);
  }

  reject(index: number, begin: number, lengthBytes: number): void {
    this.chatter.said();
    const block = this.#asked.get({ index, begin })?.block;
    // It may answer a cancel.
    if (block === undefined || block.lengthBytes !== lengthBytes) return;
    // After a choke, BEP 6 has every request refused by itself: that says nothing about the piece.
    if (this.#choked) {
      this.#lose([block]);
      return;
    }
    const { rejects, rejectsOfPiece, rejectedPauseMs } = this.#options.limits;
    if (lengthBytes > foreignBlockMaxBytes) {
      // It has no room for such large ones at the moment.
      this.#togetherMax = foreignBlockMaxBytes / blockBytes;
      this.#lose([block]);
      return;
    }
    if (++this.#rejects > rejects) throw violation('it refuses everything');
    const ofPiece = (this.#rejectsOfPiece.get(index) ?? 0) + 1;
    this.#rejectsOfPiece.set(index, ofPiece);
    // It said that it has it, and does not give it.
    if (ofPiece >= rejectsOfPiece) this.#pieces.delete(index);
    this.#pausedUntilMs = performance.now() + rejectedPauseMs;
    this.pace.restart();
    this.#lose([block]);
  }

  override suggest(index: number): void {
    this.chatter.said();
    this.#suggested.add(index);
    if (this.#deals) this.#options.events.ready(this);
  }

  extended(id: number, payload: Buffer): void {
    this.chatter.said(payload.length);
    if (id === dealExtension.ns_deal && this.#options.share !== undefined) {
      this.#deals = payload[0] === 1;
      this.#options.events.ready(this);
    }
    if (id !== 0) return;
    const {
      requestsQueuedMax,
      extensions,
      blockMaxBytes: largest = blockBytes,
    } = parseExtendedHandshake(payload);
    this.#togetherMax = Math.floor(largest / blockBytes);
    this.#dealsOut = extensions.has('ns_deal');
    const { assumedRequests, maxRequests } = this.#options.limits;
    this.#requestsMax = Math.min(Math.max(requestsQueuedMax ?? assumedRequests, 1), maxRequests);
  }

  pieceStart(index: number, begin: number, lengthBytes: number): void {
    const asked = this.#asked.get({ index, begin });
    // It may cross a cancel, or come after we gave up on it; what was never asked for is skipped as well.
    this.#arriving = asked?.block.lengthBytes === lengthBytes ? asked : undefined;
    if (this.#arriving === undefined) this.chatter.unasked(lengthBytes);
    else this.#options.events.blockBegins(this, this.#arriving.block);
  }

  piecePlace(offset: number): Buffer | undefined {
    return this.#arriving && this.#options.events.blockPlace(this, this.#arriving.block, offset);
  }

  pieceData(bytes: Buffer, offset: number): void {
    if (this.#arriving === undefined) return;
    this.#rateBytes += bytes.length;
    this.#options.events.blockBytes(this, this.#arriving.block, bytes, offset);
  }

  pieceEnd(): void {
    const asked = this.#arriving;
    this.#arriving = undefined;
    if (asked === undefined) return;
    const { block, at, limited } = asked;
    this.#asked.delete(block);
    this.#rejects = 0;
    this.#rejectsOfPiece.delete(block.index);
    this.chatter.gave();
    this.proven = true;
    this.pace.got(block.lengthBytes, at, performance.now(), limited);
    this.#options.events.blockEnds(this, block);
  }

  #isArriving({ index, begin }: BlockRequest): boolean {
    const block = this.#arriving?.block;
    return block?.index === index && block.begin === begin;
  }

  #lose(blocks: BlockRequest[]): void {
    for (const block of blocks) this.#asked.delete(block);
    if (blocks.length > 0) this.#options.events.lost(this, blocks);
  }
}
