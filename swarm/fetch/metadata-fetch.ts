/**
 * Gets the info dictionary of a torrent of which nothing is known but the infohash, from peers (ut_metadata, BEP 9). Whatever they
 * send, it is that dictionary or nothing.
 */

import { NarswarmError } from '../../nar/errors.ts';
import type { InfoHash } from '../../nar/hash.ts';
import { type PeerAddress, printPeer } from '../address/peer-address.ts';
import { encodeMetadata, metadataPieceCount, parseMetadata } from '../torrent/metadata.ts';
import { infoHashOf } from '../torrent/torrent.ts';
import { encodeExtendedHandshake, ourExtensions, parseExtendedHandshake } from '../wire/extension.ts';
import { controlMessageMaxBytes, metadataPieceBytes } from '../wire/limits.ts';
import { WireDecoder, type WireVisitor } from '../wire/wire.ts';
import { encodeExtended, encodeSimple } from '../wire/wire-encode.ts';
import { type Handshake, makePeerId } from '../wire/wire-handshake.ts';
import { PeerConnection } from './peer-connection.ts';

export interface MetadataLimits {
  /** Peers that are asked at once: the first good answer counts, and a few keep a silent one from costing time. */
  atOnce: number;
  /** Peers that are asked in all; the DHT names 100. */
  peers: number;
  /** Milliseconds that one peer gets for everything. Half a world away is 300 ms, a round trip for each step. */
  peerMs: number;
  /** Bytes that one peer may send beyond the info dictionary: its bitfield, and what peers tell each other at first. */
  otherBytes: number;
}

export const metadataLimits: Readonly<MetadataLimits> = {
  atOnce: 4,
  peers: 100,
  peerMs: 10_000,
  otherBytes: 256 * 1024,
};

export interface FetchMetadataOptions {
  infoHash: InfoHash;
  peers: Iterable<PeerAddress>;
  /** A peer that has an info dictionary of more bytes is not asked for it. */
  maxBytes: number;
  signal?: AbortSignal;
  limits?: Partial<MetadataLimits>;
}

/** Throws swarm-exhausted when no peer has it, aborted. */
export async function fetchMetadata(options: FetchMetadataOptions): Promise<Buffer> {
  const { infoHash, maxBytes, signal } = options;
  const limits = { ...metadataLimits, ...options.limits };
  const addresses = new Map<string, PeerAddress>();
  for (const peer of options.peers) if (addresses.size < limits.peers) addresses.set(printPeer(peer), peer);
  const over = new AbortController();
  const stop = signal === undefined ? over.signal : AbortSignal.any([signal, over.signal]);
  let info: Buffer | undefined;
  const waiting = addresses.values();
  const worker = async (): Promise<void> => {
    for (const address of waiting) {
      if (stop.aborted) return;
      const peer = new MetadataPeer({ address, infoHash, maxBytes, limits, signal: stop });
      const bytes = await peer.done;
      if (bytes === undefined) continue;
      info ??= bytes;
      over.abort();
    }
  };
  await Promise.all(Array.from({ length: limits.atOnce }, worker));
  if (info !== undefined) return info;
  if (signal?.aborted === true)
    throw new NarswarmError('aborted', 'fetching an info dictionary was given up');
  throw new NarswarmError('swarm-exhausted', `none of ${addresses.size} peers has the torrent ${infoHash}`);
}

interface MetadataPeerOptions {
  address: PeerAddress;
  infoHash: InfoHash;
  maxBytes: number;
  limits: MetadataLimits;
  signal: AbortSignal;
}

/** Room for a piece of metadata with what is around it. */
const readBytes = 32 * 1024;

/** One connection. It says who it is, asks for all pieces of the info dictionary, and ends. */
class MetadataPeer implements WireVisitor {
  /** The info dictionary if the peer gave it; resolves when the socket is closed. */
  readonly done: Promise<Buffer | undefined>;
  readonly #options: MetadataPeerOptions;
  readonly #connection: PeerConnection;
  #leftBytes: number;
  /** Filled piece by piece. */
  #info: Buffer | undefined;
  readonly #missing = new Set<number>();
  #result: Buffer | undefined;
  /** Ours, not the peer's. */
  #fault: unknown;

  constructor(options: MetadataPeerOptions) {
    const { address, infoHash, limits, signal } = options;
    this.#options = options;
    this.#leftBytes = limits.otherBytes;
    this.#connection = new PeerConnection({
      ...{ address, infoHash, peerId: makePeerId(), readBytes },
      onHandshake: (handshake) => this.#greet(handshake),
      onBytes: (bytes) => {
        this.#leftBytes -= bytes;
        if (this.#leftBytes < 0) throw new NarswarmError('wire-violation', 'it sends too much');
      },
      onFault: (error) => {
        this.#fault = error;
      },
    });
    const end = (): void => this.#connection.close();
    const timer = setTimeout(end, limits.peerMs);
    signal.addEventListener('abort', end, { once: true });
    this.done = this.#connection.gone.then(() => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      if (this.#fault !== undefined) throw this.#fault;
      return this.#result;
    });
    if (signal.aborted) end();
  }

  #greet(handshake: Handshake): WireDecoder {
    if (!handshake.extended) throw new NarswarmError('wire-violation', 'it knows no extensions');
    const hello = encodeExtendedHandshake({ requestsQueuedMax: 1, uploadOnly: false });
    const none = handshake.fast ? [encodeSimple('haveNone')] : [];
    this.#connection.send(Buffer.concat([...none, encodeExtended(0, hello)]));
    return new WireDecoder(this, { pieces: 'unknown', blockMaxBytes: 0 });
  }

  extended(id: number, payload: Buffer): void {
    if (id === 0) this.#ask(payload);
    else if (id === ourExtensions.ut_metadata) this.#take(payload);
  }

  #ask(payload: Buffer): void {
    if (this.#info !== undefined) return;
    const { extensions, metadataBytes } = parseExtendedHandshake(payload);
    const theirId = extensions.get('ut_metadata');
    // One that does not have it yet may say so later; the others will have it before.
    if (theirId === undefined || metadataBytes === undefined || metadataBytes > this.#options.maxBytes) {
      this.#connection.close();
      return;
    }
    this.#info = Buffer.allocUnsafeSlow(metadataBytes);
    const pieces = metadataPieceCount(metadataBytes);
    // Each with the dictionary before it, and in the envelope of a message.
    this.#leftBytes += metadataBytes + pieces * (controlMessageMaxBytes - metadataPieceBytes);
    const requests: Buffer[] = [];
    for (let piece = 0; piece < pieces; piece++) {
      this.#missing.add(piece);
      requests.push(encodeExtended(theirId, encodeMetadata('request', piece)));
    }
    this.#connection.send(Buffer.concat(requests));
  }

  #take(payload: Buffer): void {
    const message = parseMetadata(payload);
    if (message === undefined || message.type === 'request' || this.#info === undefined) return;
    if (message.type === 'reject') {
      this.#connection.close();
      return;
    }
    const { piece, totalBytes, bytes } = message;
    const start = piece * metadataPieceBytes;
    const expected = Math.min(metadataPieceBytes, this.#info.length - start);
    if (totalBytes !== this.#info.length || bytes.length !== expected)
      throw new NarswarmError('wire-violation', 'a piece of metadata that was not asked for');
    if (!this.#missing.delete(piece)) return;
    bytes.copy(this.#info, start);
    if (this.#missing.size > 0) return;
    if (infoHashOf(this.#info) === this.#options.infoHash) this.#result = this.#info;
    this.#connection.close();
  }
}
