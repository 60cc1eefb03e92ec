/** One connection to a peer that has what we fetch: handshake, requests, blocks. What to ask for is decided elsewhere. */

import { connect, type Socket } from 'node:net';
import { NarswarmError } from '../nar/errors.ts';
import { encodeExtendedHandshake, parseExtendedHandshake } from './extension.ts';
import type { FetchLimits } from './fetch-limits.ts';
import { blockBytes } from './limits.ts';
import type { PeerAddress } from './peer-address.ts';
import { pieceCount, type Torrent } from './torrent.ts';
import { WireDecoder, type WireVisitor } from './wire.ts';
import {
  type BlockRequest,
  encodeCancels,
  encodeExtended,
  encodeRequests,
  encodeSimple,
} from './wire-encode.ts';
import { encodeHandshake, type Handshake, HandshakeReader } from './wire-handshake.ts';

/** What happens on the connection. Called while a socket is read: it records and decides, and waits for nothing. */
export interface FetchPeerEvents {
  /** It may be asked for something, or for more. */
  ready(peer: FetchPeer): void;
  blockBegins(peer: FetchPeer, block: BlockRequest): void;
  blockBytes(peer: FetchPeer, block: BlockRequest, bytes: Buffer, offset: number): void;
  blockEnds(peer: FetchPeer, block: BlockRequest): void;
  /** Blocks that it was asked for and will not send. */
  lost(peer: FetchPeer, blocks: BlockRequest[]): void;
  /** Last of all, and once. */
  closed(peer: FetchPeer): void;
}

export interface FetchPeerOptions {
  address: PeerAddress;
  /** Names the peer in `address`. */
  key: string;
  torrent: Torrent;
  peerId: Buffer;
  limits: FetchLimits;
  events: FetchPeerEvents;
}

export class FetchPeer implements WireVisitor {
  readonly key: string;
  readonly #options: FetchPeerOptions;
  readonly #socket: Socket;
  readonly #reader = new HandshakeReader();
  #decoder: WireDecoder | undefined;
  #handshake: Handshake | undefined;
  #pieces: 'all' | Buffer;
  #choked = true;
  readonly #asked = new Map<number, BlockRequest>();
  #arriving: BlockRequest | undefined;
  #requestsMax: number;
  #rejects = 0;
  #pausedUntilMs = 0;
  #closed = false;
  /** When it was last of use, or began: for telling whether it stands still. */
  lastUsefulMs = performance.now();
  /** Grows while it delivers; a peer that stood still begins anew. */
  #window: number;

  constructor(options: FetchPeerOptions) {
    const { address, torrent, limits, key } = options;
    this.#options = options;
    this.key = key;
    this.#pieces = Buffer.alloc(Math.ceil(pieceCount(torrent) / 8));
    this.#requestsMax = limits.assumedRequests;
    this.#window = limits.startRequests;
    this.#socket = connect({
      host: address.host,
      port: address.port,
      noDelay: true,
      onread: {
        buffer: Buffer.allocUnsafeSlow(limits.readBytes),
        callback: (bytes, buffer) => this.#read(Buffer.from(buffer.buffer, buffer.byteOffset, bytes)),
      },
    });
    this.#socket.on('connect', () => {
      this.#send(encodeHandshake({ infoHash: torrent.infoHash, peerId: options.peerId }));
    });
    this.#socket.on('error', () => this.close());
    this.#socket.on('end', () => this.close());
    this.#socket.on('close', () => this.close());
  }

  /** Blocks asked for and not here. */
  get waitingFor(): number {
    return this.#asked.size;
  }

  get connected(): boolean {
    return this.#handshake !== undefined;
  }

  has(index: number): boolean {
    if (this.#pieces === 'all') return true;
    return ((this.#pieces[index >> 3] ?? 0) & (0x80 >> (index & 7))) !== 0;
  }

  /** How many more blocks it should be asked for now. It fills up in batches, which the other side can read at once. */
  appetite(nowMs: number): number {
    if (this.#choked || this.#closed || nowMs < this.#pausedUntilMs) return 0;
    const window = Math.min(this.#window, this.#requestsMax);
    return this.#asked.size > window / 2 ? 0 : window - this.#asked.size;
  }

  ask(blocks: readonly BlockRequest[]): void {
    const fresh = blocks.filter((block) => !this.#asked.has(blockKey(block)));
    if (fresh.length === 0) return;
    if (this.#asked.size === 0) this.lastUsefulMs = performance.now();
    for (const block of fresh) this.#asked.set(blockKey(block), block);
    this.#send(encodeRequests(fresh));
  }

  /** Says that a block came from elsewhere. */
  noLongerNeeds(block: BlockRequest): void {
    if (this.#asked.has(blockKey(block)) && this.#arriving !== block) this.#send(encodeCancels([block]));
  }

  /** The blocks that it was asked for are free for others; they are still taken if they come first. */
  standsStill(): BlockRequest[] {
    this.#window = this.#options.limits.startRequests;
    return [...this.#asked.values()];
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#decoder?.stop();
    this.#socket.destroy();
    const lost = [...this.#asked.values()];
    this.#asked.clear();
    if (lost.length > 0) this.#options.events.lost(this, lost);
    this.#options.events.closed(this);
  }

  #send(bytes: Buffer): void {
    if (!this.#closed) this.#socket.write(bytes);
  }

  /** Returns true: what may be in flight is bounded by what was asked for, so that reading never pauses. */
  #read(bytes: Buffer): boolean {
    try {
      if (this.#decoder !== undefined) this.#decoder.push(bytes);
      else this.#readHandshake(bytes);
    } catch {
      // A violation by the peer: nothing that it says can be used any more.
      this.close();
    }
    return !this.#closed;
  }

  #readHandshake(bytes: Buffer): void {
    const read = this.#reader.push(bytes);
    if (read === undefined) return;
    const { torrent, peerId, limits } = this.#options;
    const { handshake, rest } = read;
    if (handshake.infoHash !== torrent.infoHash || handshake.peerId.equals(peerId)) {
      this.close();
      return;
    }
    this.#handshake = handshake;
    this.lastUsefulMs = performance.now();
    const messages = [encodeSimple('interested')];
    if (handshake.extended) {
      const hello = encodeExtendedHandshake({ requestsQueuedMax: limits.assumedRequests, uploadOnly: false });
      messages.unshift(encodeExtended(0, hello));
    }
    // BEP 6: who has nothing says so before anything else.
    if (handshake.fast) messages.unshift(encodeSimple('haveNone'));
    this.#send(Buffer.concat(messages));
    this.#decoder = new WireDecoder(this, { pieces: pieceCount(torrent), blockMaxBytes: blockBytes });
    this.#decoder.push(rest);
  }

  // What the peer says

  choke(): void {
    this.#choked = true;
    // With the fast extension each request is refused by itself; without, all are forgotten.
    if (this.#handshake?.fast === false) this.#lose([...this.#asked.values()]);
  }

  unchoke(): void {
    this.#choked = false;
    this.#options.events.ready(this);
  }

  have(index: number): void {
    if (this.#pieces === 'all') return;
    this.#pieces[index >> 3] = (this.#pieces[index >> 3] ?? 0) | (0x80 >> (index & 7));
    this.#options.events.ready(this);
  }

  bitfield(bits: Buffer): void {
    this.#pieces = Buffer.from(bits);
    this.#options.events.ready(this);
  }

  haveAll(): void {
    this.#pieces = 'all';
    this.#options.events.ready(this);
  }

  reject(index: number, begin: number, lengthBytes: number): void {
    const block = this.#asked.get(blockKey({ index, begin }));
    if (block === undefined || block.lengthBytes !== lengthBytes) return;
    if (++this.#rejects > this.#options.limits.rejects) throw violation('it refuses everything');
    this.#pausedUntilMs = performance.now() + this.#options.limits.rejectedPauseMs;
    this.#lose([block]);
  }

  extended(id: number, payload: Buffer): void {
    if (id !== 0) return;
    const { requestsQueuedMax } = parseExtendedHandshake(payload);
    const { assumedRequests, maxRequests } = this.#options.limits;
    this.#requestsMax = Math.min(Math.max(requestsQueuedMax ?? assumedRequests, 1), maxRequests);
  }

  pieceStart(index: number, begin: number, lengthBytes: number): void {
    const block = this.#asked.get(blockKey({ index, begin }));
    // It may cross a cancel, or come after we gave up on it; what was never asked for is skipped as well.
    this.#arriving = block?.lengthBytes === lengthBytes ? block : undefined;
    if (this.#arriving !== undefined) this.#options.events.blockBegins(this, this.#arriving);
  }

  pieceData(bytes: Buffer, offset: number): void {
    if (this.#arriving === undefined) return;
    this.lastUsefulMs = performance.now();
    this.#options.events.blockBytes(this, this.#arriving, bytes, offset);
  }

  pieceEnd(): void {
    const block = this.#arriving;
    this.#arriving = undefined;
    if (block === undefined) return;
    this.#asked.delete(blockKey(block));
    this.#rejects = 0;
    if (this.#window < this.#options.limits.maxRequests) this.#window++;
    this.#options.events.blockEnds(this, block);
  }

  #lose(blocks: BlockRequest[]): void {
    for (const block of blocks) this.#asked.delete(blockKey(block));
    if (blocks.length > 0) this.#options.events.lost(this, blocks);
  }
}

/** A number for each block: pieces have at most 4 MiB. */
function blockKey({ index, begin }: Pick<BlockRequest, 'index' | 'begin'>): number {
  return index * 0x800000 + begin;
}

function violation(why: string): NarswarmError {
  return new NarswarmError('wire-violation', why);
}
