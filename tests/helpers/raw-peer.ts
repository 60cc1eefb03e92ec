/** A peer on loopback that shakes hands as it should and from then on says whatever a test has it say, byte by byte. */

import { createServer, type Server, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { pieceCount, type Torrent } from '../../swarm/torrent/torrent.ts';
import { WireDecoder } from '../../swarm/wire/wire.ts';
import { type BlockRequest, writePieceHeader } from '../../swarm/wire/wire-encode.ts';
import { encodeHandshake, HandshakeReader, makePeerId } from '../../swarm/wire/wire-handshake.ts';
import { listen } from './listen.ts';

export interface RawPeerOptions {
  torrent: Torrent;
  /** The file. */
  bytes: Buffer;
  /** Whether it speaks BEP 6. */
  fast: boolean;
  /** What it says once hands are shaken. */
  greets(line: RawLine): Promise<void> | void;
  /** What it does with a request; nothing by default. */
  asked?: ((block: BlockRequest, line: RawLine) => void) | undefined;
}

/** One connection, from the side of the raw peer. */
export class RawLine {
  readonly socket: Socket;
  /** Requests that it was asked over this connection. */
  asked = 0;
  readonly #bytes: Buffer;
  readonly #pieceLength: number;

  constructor(socket: Socket, { bytes, torrent }: RawPeerOptions) {
    this.socket = socket;
    this.#bytes = bytes;
    this.#pieceLength = torrent.pieceLength;
  }

  say(...messages: Buffer[]): void {
    if (!this.socket.destroyed) this.socket.write(Buffer.concat(messages));
  }

  /** The right bytes of a block. */
  block({ index, begin, lengthBytes }: BlockRequest): Buffer {
    const at = index * this.#pieceLength + begin;
    return pieceMessage({ index, begin, lengthBytes }, this.#bytes.subarray(at, at + lengthBytes));
  }

  /** Says it again and again, as fast as it is taken, until the other side hangs up or it was said `most` times. */
  async pour(bytes: Buffer, most = Number.POSITIVE_INFINITY): Promise<void> {
    for (let i = 0; i < most && !this.socket.destroyed; i++) {
      const taken = this.socket.write(bytes);
      if (!taken) await new Promise((resolve) => this.#drained(() => resolve(undefined)));
      else if (i % 16 === 0) await setImmediate();
    }
  }

  #drained(then: () => void): void {
    const { socket } = this;
    const done = (): void => {
      socket.off('drain', done);
      socket.off('close', done);
      then();
    };
    socket.on('drain', done);
    socket.on('close', done);
  }
}

export class RawPeer {
  readonly host = '127.0.0.1';
  port = 0;
  /** Connections that were ever made to it, and bytes that were taken from it. */
  connections = 0;
  sentBytes = 0;
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;

  private constructor(options: RawPeerOptions) {
    this.#server = createServer({ noDelay: true }, (socket) => this.#accept(socket, options));
  }

  /** Listens until the test is over. */
  static async open(
    t: { teardown(fn: () => Promise<void>): void },
    options: RawPeerOptions,
  ): Promise<RawPeer> {
    const peer = new RawPeer(options);
    peer.port = await listen(peer.#server, peer.host);
    t.teardown(() => peer.close());
    return peer;
  }

  get key(): string {
    return `${this.host}:${this.port}`;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(socket: Socket, options: RawPeerOptions): void {
    this.connections++;
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#sockets.delete(socket);
      this.sentBytes += socket.bytesWritten;
    });
    const line = new RawLine(socket, options);
    const { torrent, fast, greets, asked } = options;
    const reader = new HandshakeReader();
    const decoder = new WireDecoder(
      {
        request(index, begin, lengthBytes) {
          line.asked++;
          asked?.({ index, begin, lengthBytes }, line);
        },
      },
      { pieces: pieceCount(torrent) },
    );
    let greeted = false;
    socket.on('data', (chunk) => {
      if (greeted) {
        decoder.push(chunk);
        return;
      }
      const done = reader.push(chunk);
      if (done === undefined) return;
      greeted = true;
      socket.write(encodeHandshake({ infoHash: torrent.infoHash, peerId: makePeerId(), fast }));
      void greets(line);
      decoder.push(done.rest);
    });
  }
}

export function pieceMessage(block: BlockRequest, bytes: Buffer): Buffer {
  const header = Buffer.alloc(13);
  writePieceHeader(header, 0, { ...block, lengthBytes: bytes.length });
  return Buffer.concat([header, bytes]);
}
