/**
 * Fetches one torrent from several peers and gives its pieces in order, each checked against its hash.
 *
 * Built for streaming: the next piece to deliver is asked for first, nothing is asked for that there is no room for, and
 * it says quickly that the swarm does not give, so that the caller can go on elsewhere.
 */

import { hash } from 'node:crypto';
import { NarswarmError } from '../../nar/errors.ts';
import { type PeerAddress, parsePeer, printPeer } from '../address/peer-address.ts';
import type { Torrent } from '../torrent/torrent.ts';
import type { BlockRequest } from '../wire/wire-encode.ts';
import { makePeerId } from '../wire/wire-handshake.ts';
import { DealPatience } from './deal-patience.ts';
import { FetchAddresses } from './fetch-addresses.ts';
import { blocksFor } from './fetch-asking.ts';
import { type FetchLimits, fetchLimits } from './fetch-limits.ts';
import {
  type FetchStats,
  stallDefaultMs,
  type TorrentFetchOptions,
  type TorrentFetchShare,
  type VerifiedPiece,
} from './fetch-options.ts';
import { FetchPeer } from './fetch-peer.ts';
import type { FetchPeerEvents } from './fetch-peer-options.ts';
import { FetchProgress } from './fetch-progress.ts';
import { type HashThread, sha1Aside } from './hash-thread.ts';
import { type PeerBook, rememberEnd } from './peer-book.ts';
import type { PieceMemory } from './piece-memory.ts';
import { PieceWindow } from './piece-window.ts';

/**
 * Iterate it once. Throws `swarm-stalled` when nobody sent a byte for `stallMs` while the next piece was waited for, or when all
 * together gave next to nothing (`FetchLimits.leastBytesPerSecond`); `swarm-exhausted` when nobody is left who could; `aborted` at once
 * when the signal says so. Closes itself at the end.
 */
export class TorrentFetch implements AsyncIterable<VerifiedPiece>, FetchPeerEvents {
  /** Resolves when a peer can give what is wanted next: it has it, and lets us ask. Stays pending when none ever does; never rejects. */
  readonly live: Promise<void>;
  #isLive: () => void = () => {};
  /** Resolves when nothing more comes of it, also while nobody iterates it. */
  readonly ended: Promise<void>;
  #isOver: () => void = () => {};
  #held: boolean;
  readonly #heldSinceMs = performance.now();
  readonly #book: PeerBook | undefined;
  readonly #hashes: HashThread | undefined;
  readonly #memory: PieceMemory | undefined;
  readonly #torrent: Torrent;
  readonly #toByte: number;
  readonly #stallMs: number;
  readonly #limits: FetchLimits;
  #window: PieceWindow;
  readonly #share: TorrentFetchShare | undefined;
  readonly #peerId: Buffer;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => void this.close();

  readonly #addresses: FetchAddresses;
  readonly #peers = new Map<string, FetchPeer>();
  readonly #connectingSinceMs = new Map<string, number>();
  readonly #banned = new Set<string>();
  readonly #closing = new Set<Promise<void>>();
  #complete = false;
  #downloadedBytes = 0;

  readonly #progress: FetchProgress;
  readonly #patience: DealPatience;
  #wake: (() => void) | undefined;
  #error: unknown;
  #closed = false;
  readonly #timer: NodeJS.Timeout;

  constructor(options: TorrentFetchOptions) {
    const { torrent, fromByte = 0, toByte = torrent.length, stallMs = stallDefaultMs, signal } = options;
    this.#torrent = torrent;
    this.#share = options.share;
    this.#peerId = options.peerId ?? options.share?.peerId ?? makePeerId();
    this.#stallMs = stallMs;
    this.#limits = { ...fetchLimits, ...options.limits };
    const aside = torrent.pieceLength >= this.#limits.hashAsideBytes;
    this.#hashes = aside ? options.hashes : undefined;
    // Who shares what is fetched holds it for others, for as long as they take.
    this.#memory = this.#share === undefined ? this.#hashes?.memory : undefined;
    this.#toByte = toByte;
    this.#window = this.#windowFrom(fromByte);
    const nowMs = performance.now();
    this.#progress = new FetchProgress(stallMs, this.#limits, nowMs);
    this.#patience = new DealPatience(this.#limits, stallMs / 2, nowMs);
    this.live = new Promise((resolve) => {
      this.#isLive = resolve;
    });
    this.ended = new Promise((resolve) => {
      this.#isOver = resolve;
    });
    this.#held = options.hold ?? false;
    this.#book = options.book;
    this.#addresses = new FetchAddresses(this.#limits.addresses, options.book);
    this.#signal = signal;
    this.#timer = setInterval(() => this.#sweep(), this.#limits.sweepMs);
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (signal?.aborted) this.#onAbort();
  }

  /** True when nothing more comes of it: it is closed, or failed. */
  get over(): boolean {
    return this.#closed || this.#error !== undefined;
  }

  /**
   * Begins to ask, if it was held until now; with `fromByte` not where it was to begin, but there. What is asked for before it is iterated
   * waits, as far as there is room.
   */
  start(fromByte?: number): void {
    if (!this.#held) return;
    this.#held = false;
    if (fromByte !== undefined) this.#window = this.#windowFrom(fromByte);
    const nowMs = performance.now();
    this.#patience.waits(nowMs);
    this.#patience.heard(nowMs, false);
    this.#progress.waits(nowMs);
    this.#connectMore();
    this.#askAll();
  }

  /** Addresses that were named before are ignored. */
  addPeers(addresses: Iterable<PeerAddress>): void {
    this.#addresses.add(addresses);
    this.#connectMore();
  }

  /** From now on the swarm is exhausted when the peers that are known have failed. */
  noMorePeers(): void {
    this.#complete = true;
    this.#checkExhausted();
  }

  /** Takes back the bytes of a piece that was delivered, for one yet to come, when nobody will read them any more. Nobody has to. */
  recycle({ bytes }: VerifiedPiece): void {
    if (this.#share === undefined) this.#window.recycle(bytes);
  }

  stats(): FetchStats {
    const connected = [...this.#peers.values()].filter((peer) => peer.connected);
    const unusedBytes = this.#downloadedBytes - this.#window.usedBytes;
    return {
      downloadedBytes: this.#downloadedBytes,
      unusedBytes,
      peers: connected.length,
      banned: [...this.#banned],
    };
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<VerifiedPiece> {
    this.start();
    try {
      while (!this.#window.done) {
        if (this.#closed) throw this.#error;
        const piece = this.#window.deliver();
        if (piece !== undefined) {
          this.#patience.waits(performance.now());
          // There is room for one more.
          this.#askAll();
          yield piece;
          // While the caller was busy nobody was waited for.
          const nowMs = performance.now();
          this.#patience.waits(nowMs);
          this.#progress.waits(nowMs);
          continue;
        }
        // A piece that is being checked is whole.
        if (this.#error !== undefined && !this.#window.checkDue) throw this.#error;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
    } finally {
      await this.close();
    }
  }

  /** Resolves when all connections are closed. May be called twice, and during iteration, which then ends with `aborted`. */
  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      clearInterval(this.#timer);
      this.#signal?.removeEventListener('abort', this.#onAbort);
      this.#fail(new NarswarmError('aborted', 'fetching was given up'));
      for (const peer of [...this.#peers.values()]) peer.close();
    }
    await Promise.all(this.#closing);
  }

  // What peers tell; see FetchPeerEvents

  progressed(peer: FetchPeer): void {
    this.#connectingSinceMs.delete(peer.key);
    this.#book?.reached(peer.address);
    this.#progress.heard(performance.now());
  }

  ready(peer: FetchPeer): void {
    this.#ask(peer);
  }

  blockBegins(peer: FetchPeer, block: BlockRequest): void {
    this.#window.begin(peer.key, block);
  }

  blockPlace(peer: FetchPeer, block: BlockRequest, offset: number): Buffer | undefined {
    // Several give blocks of the same piece.
    return this.#peers.size === 1 ? this.#window.place(peer.key, block, offset) : undefined;
  }

  blockBytes(peer: FetchPeer, block: BlockRequest, bytes: Buffer, offset: number): void {
    this.#downloadedBytes += bytes.length;
    if (!this.#window.write(peer.key, block, bytes, offset)) return;
    const nowMs = performance.now();
    this.#progress.heard(nowMs);
    this.#patience.heard(nowMs, !peer.deals || peer.offers(block.index));
  }

  blockEnds(peer: FetchPeer, block: BlockRequest): void {
    const piece = this.#window.filled(peer.key, block);
    this.#progress.useful(block.lengthBytes);
    if (this.#peers.size > 1 && this.#window.isHere(block)) {
      for (const other of this.#peers.values()) if (other !== peer) other.noLongerNeeds(block);
    }
    if (piece !== undefined) this.#check(block.index, piece);
    this.#ask(peer);
  }

  #check(index: number, bytes: Buffer): void {
    if (bytes.length < this.#limits.hashAsideBytes) {
      this.#checked(index, hash('sha1', bytes, 'buffer'));
      return;
    }
    sha1Aside(this.#memory && this.#hashes, bytes).then(
      (digest) => this.#checked(index, digest),
      (error: unknown) => {
        this.#fail(error);
        void this.close();
      },
    );
  }

  #checked(index: number, digest: Buffer): void {
    const result = this.#window.checked(index, digest);
    if (this.#closed) return;
    for (const liar of result.liars) this.#ban(liar);
    if (result.kind === 'spoilt') {
      this.#progress.useful(-result.bytes);
      this.#askAll();
      this.#checkExhausted();
    } else {
      this.#tellVerified(index);
    }
    this.#wake?.();
  }

  #tellVerified(index: number): void {
    const bytes = this.#share && this.#window.bytesOf(index);
    if (bytes === undefined) return;
    this.#share?.onVerified(index, bytes);
    for (const peer of this.#peers.values()) peer.tellHave(index);
  }

  lost(peer: FetchPeer, blocks: BlockRequest[]): void {
    this.#window.giveBack(peer.key, blocks);
    if (!this.#closed) this.#askAll();
  }

  closed(peer: FetchPeer): void {
    this.#peers.delete(peer.key);
    if (this.#book !== undefined && !this.#banned.has(peer.key)) {
      rememberEnd(this.#book, peer, { sinceMs: this.#connectingSinceMs.get(peer.key), byUs: this.#closed });
    }
    this.#connectingSinceMs.delete(peer.key);
    this.#window.left(peer.key);
    this.#closing.add(peer.gone);
    void peer.gone.then(() => this.#closing.delete(peer.gone));
    if (this.#closed) return;
    if (peer.brokenOff) this.#addresses.again(peer.address, peer.pace.receivedBytes);
    this.#connectMore();
    this.#checkExhausted();
  }

  fault(error: unknown): void {
    this.#fail(error);
  }

  #windowFrom(fromByte: number): PieceWindow {
    const { length, pieceLength } = this.#torrent;
    const first = Math.floor(fromByte / pieceLength);
    const end = this.#toByte > fromByte ? Math.ceil(Math.min(this.#toByte, length) / pieceLength) : first;
    return new PieceWindow(this.#torrent, { first, end }, this.#limits.aheadBytes, this.#memory);
  }

  get #full(): boolean {
    const { peers, heldPeers } = this.#limits;
    return this.#peers.size >= (this.#held ? heldPeers : peers);
  }

  #connectMore(): void {
    const { startRequests, startRequestsOfSeveral } = this.#limits;
    while (!this.#closed && !this.#full) {
      const address = this.#addresses.take();
      if (address === undefined) return;
      const key = printPeer(address);
      const several = this.#peers.size + this.#addresses.waiting > 0;
      this.#connectingSinceMs.set(key, performance.now());
      const peer = new FetchPeer({
        address,
        key,
        torrent: this.#torrent,
        peerId: this.#peerId,
        share: this.#share?.with?.(address) === false ? undefined : this.#share,
        startRequests: several ? Math.min(startRequests, startRequestsOfSeveral) : startRequests,
        known: this.#book?.paceOf(address),
        limits: this.#limits,
        events: this,
      });
      this.#peers.set(key, peer);
    }
  }

  #askAll(): void {
    for (const peer of this.#peers.values()) this.#ask(peer);
  }

  #ask(peer: FetchPeer): void {
    const nowMs = performance.now();
    const appetite = peer.appetite(nowMs);
    if (appetite === 0) return;
    if (peer.has(this.#window.first)) this.#isLive();
    if (this.#held) return;
    const { blocks, all } = blocksFor(peer, appetite, {
      window: this.#window,
      peers: this.#peers,
      limits: this.#limits,
      patience: this.#patience,
      shared: this.#share !== undefined,
      waiting: this.#wake !== undefined,
      nowMs,
    });
    peer.ask(blocks, all);
  }

  #ban(key: string): void {
    this.#banned.add(key);
    const address = parsePeer(key);
    if (address !== undefined) this.#book?.ban(address, 'wrong-bytes');
    this.#window.distrust(key);
    this.#peers.get(key)?.close();
  }

  #sweep(): void {
    const nowMs = performance.now();
    for (const [key, sinceMs] of this.#connectingSinceMs) {
      if (nowMs - sinceMs > this.#limits.connectMs) this.#peers.get(key)?.close();
    }
    for (const peer of [...this.#peers.values()]) this.#watch(peer, nowMs);
    if (this.#held && nowMs - this.#heldSinceMs > this.#limits.holdMs) {
      this.#fail(new NarswarmError('swarm-stalled', `nobody wanted it for ${this.#limits.holdMs} ms`));
      void this.close();
      return;
    }
    this.#askAll();
    if (this.#wake === undefined) return;
    const why = this.#progress.stalled(nowMs);
    if (why !== undefined) this.#fail(new NarswarmError('swarm-stalled', why));
  }

  /** A peer that gives next to nothing keeps neither blocks from others nor others from their place. */
  #watch(peer: FetchPeer, nowMs: number): void {
    peer.stayAlive(nowMs);
    const ms = this.#stallMs / 2;
    const { key, proven } = peer;
    if (!peer.fellShort(nowMs, ms, (this.#limits.leastBytesPerSecond * ms) / 1_000)) return;
    const others = this.#full && this.#addresses.waiting > 0;
    if (others && (!proven || this.#addresses.hasBetterThan(key))) {
      peer.close();
    } else if (peer.waitingFor > 0 && this.#peers.size > 1) {
      this.#window.giveBack(key, peer.standsStill());
      for (const other of this.#peers.values()) if (other !== peer) this.#ask(other);
    }
  }

  #checkExhausted(): void {
    if (!this.#complete || this.#peers.size > 0 || this.#addresses.waiting > 0) return;
    this.#fail(new NarswarmError('swarm-exhausted', 'no usable peer is left'));
  }

  /** Pieces that are whole are still delivered. */
  #fail(error: unknown): void {
    this.#error ??= error;
    this.#isOver();
    this.#wake?.();
  }
}
