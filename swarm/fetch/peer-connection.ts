/** A connection that we make to a peer, up to what it says: socket, both handshakes, and the end, whoever makes it. */

import { connect, type Socket } from 'node:net';
import { isNarswarmError } from '../../nar/errors.ts';
import type { InfoHash } from '../../nar/hash.ts';
import type { PeerAddress } from '../address/peer-address.ts';
import { takeMemory } from '../wire/memory.ts';
import type { WireDecoder } from '../wire/wire.ts';
import { encodeHandshake, type Handshake, HandshakeReader } from '../wire/wire-handshake.ts';

/** Bytes that wait for a peer to take them: all requests that are ever made at once are 26 KiB, so that it reads nothing. */
const unsentMaxBytes = 1024 * 1024;

export interface PeerConnectionOptions {
  address: PeerAddress;
  infoHash: InfoHash;
  /** 20 bytes; whoever shows the same is ourselves. */
  peerId: Buffer;
  /** Bytes taken from the socket at once. */
  readBytes: number;
  /** The peer has shown the right handshake. Gives what reads the rest. */
  onHandshake(handshake: Handshake): WireDecoder;
  /** So much has come, and is read after this; it may throw wire-violation when it is too much. */
  onBytes?(bytes: number): void;
  /** Once, and nothing is read or sent any more. */
  onClosed?(): void;
  /** A fault of ours, after which the connection is closed; so it is, without this, after a violation by the peer. */
  onFault(error: unknown): void;
}

/**
 * Read at once after a block that was read to its place: the head of the next one, and little of it that has to be copied.
 */
const headReadBytes = 4 * 1024;

export class PeerConnection {
  /** Resolves when the socket is closed. */
  readonly gone: Promise<void>;
  readonly #options: PeerConnectionOptions;
  readonly #socket: Socket;
  readonly #reader = new HandshakeReader();
  #decoder: WireDecoder | undefined;
  #handshake: Handshake | undefined;
  #greeting = false;
  #closed = false;
  #connected = false;
  #refused = false;
  #brokenOff = false;
  #violated = false;
  #sentMs = performance.now();
  readonly #room: Buffer;
  /** What is read now goes to its place. */
  #placed = false;

  constructor(options: PeerConnectionOptions) {
    const { address, infoHash, peerId, readBytes } = options;
    this.#options = options;
    this.#room = takeMemory(readBytes);
    this.#socket = connect({
      ...{ host: address.host, port: address.port, noDelay: true },
      onread: {
        buffer: () => this.#place(),
        callback: (bytes, buffer) => this.#read(Buffer.from(buffer.buffer, buffer.byteOffset, bytes)),
      },
    });
    this.#socket.on('connect', () => {
      this.#connected = true;
      this.send(encodeHandshake({ infoHash, peerId }));
    });
    this.#socket.on('error', () => this.#lost());
    this.#socket.on('end', () => this.#lost());
    this.gone = new Promise((resolve) => {
      this.#socket.on('close', () => {
        this.close();
        resolve();
      });
    });
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** It was there, and ended the connection instead of showing its handshake: it may have other torrents. */
  get refused(): boolean {
    return this.#refused;
  }

  /** The peer ended it, or the network did. */
  get brokenOff(): boolean {
    return this.#brokenOff;
  }

  /** It broke the rules, after it had shown its handshake: whoever takes connections there speaks BitTorrent, and badly. */
  get violated(): boolean {
    return this.#violated;
  }

  /** The peer's, once it was shown and is the right one. */
  get handshake(): Handshake | undefined {
    return this.#handshake;
  }

  /** What is read now came with the handshake, before the peer knew anything of us. */
  get greeting(): boolean {
    return this.#greeting;
  }

  /** Messages are read, and may be sent. */
  get ready(): boolean {
    return this.#decoder !== undefined;
  }

  /** When something was last sent. */
  get sentMs(): number {
    return this.#sentMs;
  }

  /** Nothing happens once it is closed. */
  send(bytes: Buffer): void {
    if (this.#closed) return;
    this.#sentMs = performance.now();
    this.#socket.write(bytes);
    if (this.#socket.writableLength <= unsentMaxBytes) return;
    this.#violated = true;
    // Closed once whoever sends is done.
    this.#socket.destroy();
  }

  #lost(): void {
    if (this.#closed) return;
    this.#refused = this.#connected && this.#handshake === undefined;
    this.#brokenOff = true;
    this.close();
  }

  /** May be called twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#decoder?.stop();
    this.#socket.destroy();
    this.#options.onClosed?.();
  }

  /** Memory for what comes next. */
  #place(): Buffer {
    const place = this.#decoder?.place();
    const room = this.#placed ? this.#room.subarray(0, headReadBytes) : this.#room;
    this.#placed = place !== undefined;
    return place ?? room;
  }

  /** Returns true: what may be in flight is bounded by what was asked for, so that reading never pauses. */
  #read(bytes: Buffer): boolean {
    try {
      this.#options.onBytes?.(bytes.length);
      if (this.#decoder !== undefined) this.#decoder.push(bytes);
      else this.#readHandshake(bytes);
    } catch (error) {
      // After a violation by the peer nothing that it says can be used any more.
      this.#violated = isNarswarmError(error) && this.#handshake !== undefined;
      this.close();
      if (!isNarswarmError(error)) this.#options.onFault(error);
    }
    return !this.#closed;
  }

  #readHandshake(bytes: Buffer): void {
    const read = this.#reader.push(bytes);
    if (read === undefined) return;
    const { infoHash, peerId, onHandshake } = this.#options;
    const { handshake, rest } = read;
    if (handshake.infoHash !== infoHash || handshake.peerId.equals(peerId)) {
      this.close();
      return;
    }
    this.#handshake = handshake;
    this.#decoder = onHandshake(handshake);
    this.#greeting = true;
    this.#decoder.push(rest);
    this.#greeting = false;
  }
}
