/** A BitTorrent peer on loopback that behaves as a test wants it to: well, or in one of the ways in which peers let others down. */

import { createServer, type Socket } from 'node:net';
import { type InfoHash, parseInfoHash } from '../../nar/hash.ts';
import { pieceCount, type Torrent } from '../../swarm/torrent/torrent.ts';
import { encodeExtendedHandshake } from '../../swarm/wire/extension.ts';
import { WireDecoder } from '../../swarm/wire/wire.ts';
import {
  type BlockRequest,
  encodeBitfield,
  encodeExtended,
  encodeRejects,
  encodeSimple,
  fullBitfield,
  writePieceHeader,
} from '../../swarm/wire/wire-encode.ts';
import { encodeHandshake, HandshakeReader, makePeerId } from '../../swarm/wire/wire-handshake.ts';
import { listen } from './listen.ts';

export interface TestPeerOptions {
  torrent: Torrent;
  /** The file. */
  bytes: Buffer;
  host?: string;
  /** Pieces that it says it has; all of them by default. */
  says?: (index: number) => boolean;
  /** Whether it speaks BEP 6; it does by default. */
  fast?: boolean;
  /** What it announces as the requests that it lets wait; 500 by default. */
  requestsQueuedMax?: number;
  /** What it announces as the largest block that it gives; nothing by default. */
  blockMaxBytes?: number;
  /** What it does when it is greeted: answer by default. */
  greets?: 'well' | 'never' | 'without-unchoke' | 'with-noise' | 'as-another-torrent';
  /**
   * What it does with a request: `undefined` for silence, bytes to send as the block, or `reject`. The bytes of the file by default.
   * It may take its time: requests are answered one after the other.
   */
  answer?: (
    block: BlockRequest,
    right: Buffer,
    peer: TestPeer,
  ) => Buffer | 'reject' | undefined | Promise<Buffer | 'reject' | undefined>;
}

export class TestPeer {
  readonly host: string;
  port = 0;
  /** Every request, in the order of arrival. */
  readonly requests: BlockRequest[] = [];
  readonly cancels: BlockRequest[] = [];
  /** Bytes of blocks that were given to the kernel. */
  sentBytes = 0;
  /** Connections that were ever made, and those that are open. */
  connections = 0;
  readonly sockets = new Set<Socket>();
  readonly #options: TestPeerOptions;
  readonly #server = createServer({ noDelay: true }, (socket) => this.#accept(socket));

  private constructor(options: TestPeerOptions) {
    this.#options = options;
    this.host = options.host ?? '127.0.0.1';
  }

  /** Listens until the test is over. */
  static async open(
    t: { teardown(fn: () => Promise<void>): void },
    options: TestPeerOptions,
  ): Promise<TestPeer> {
    const peer = new TestPeer(options);
    peer.port = await listen(peer.#server, peer.host);
    t.teardown(() => peer.close());
    return peer;
  }

  get key(): string {
    return `${this.host}:${this.port}`;
  }

  /** Breaks off every connection. */
  hangUp(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.hangUp();
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(socket: Socket): void {
    this.connections++;
    this.sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.sockets.delete(socket));
    const { torrent, greets = 'well', fast = true, says, requestsQueuedMax = 500 } = this.#options;
    const { blockMaxBytes } = this.#options;
    const reader = new HandshakeReader();
    let decoder: WireDecoder | undefined;
    socket.on('data', (chunk) => {
      if (greets === 'never') return;
      if (decoder !== undefined) {
        decoder.push(chunk);
        return;
      }
      const done = reader.push(chunk);
      if (done === undefined) return;
      if (greets === 'with-noise') {
        socket.write(Buffer.alloc(1_000, 0x55));
        return;
      }
      const infoHash = greets === 'as-another-torrent' ? otherInfoHash(torrent) : torrent.infoHash;
      socket.write(encodeHandshake({ infoHash, peerId: makePeerId(), fast }));
      const bits = fullBitfield(pieceCount(torrent));
      for (let index = 0; says !== undefined && index < pieceCount(torrent); index++) {
        if (!says(index)) bits[index >> 3] = (bits[index >> 3] ?? 0) & ~(0x80 >> (index & 7));
      }
      socket.write(says === undefined && fast ? encodeSimple('haveAll') : encodeBitfield(bits));
      if (done.handshake.extended) {
        const hello = encodeExtendedHandshake({
          requestsQueuedMax,
          uploadOnly: true,
          ...(blockMaxBytes !== undefined && { blockMaxBytes }),
        });
        socket.write(encodeExtended(0, hello));
      }
      decoder = this.#decoder(socket);
      decoder.push(done.rest);
    });
  }

  #decoder(socket: Socket): WireDecoder {
    const { torrent, bytes, greets, answer = (_block, right) => right } = this.#options;
    const queue: BlockRequest[] = [];
    let busy = false;
    const work = async (): Promise<void> => {
      if (busy) return;
      busy = true;
      for (let block = queue.shift(); block !== undefined && !socket.destroyed; block = queue.shift()) {
        const at = block.index * torrent.pieceLength + block.begin;
        const given = await answer(block, bytes.subarray(at, at + block.lengthBytes), this);
        if (given === 'reject') socket.write(encodeRejects([block]));
        else if (given !== undefined) this.#send(socket, block, given);
      }
      busy = false;
    };
    return new WireDecoder(
      {
        interested: () => {
          if (greets !== 'without-unchoke') socket.write(encodeSimple('unchoke'));
        },
        request: (index, begin, lengthBytes) => {
          this.requests.push({ index, begin, lengthBytes });
          queue.push({ index, begin, lengthBytes });
          void work();
        },
        cancel: (index, begin, lengthBytes) => {
          this.cancels.push({ index, begin, lengthBytes });
          const at = queue.findIndex((block) => block.index === index && block.begin === begin);
          if (at >= 0) queue.splice(at, 1);
        },
      },
      { pieces: pieceCount(torrent) },
    );
  }

  #send(socket: Socket, block: BlockRequest, bytes: Buffer): void {
    const header = Buffer.alloc(13);
    writePieceHeader(header, 0, block);
    this.sentBytes += bytes.length;
    socket.cork();
    socket.write(header);
    socket.write(bytes);
    socket.uncork();
  }
}

/** The right bytes but for one. */
export function spoilt(bytes: Buffer): Buffer {
  const wrong = Buffer.from(bytes);
  wrong[0] = (wrong[0] ?? 0) ^ 1;
  return wrong;
}

function otherInfoHash({ infoHash }: Torrent): InfoHash {
  return parseInfoHash([...infoHash].reverse().join(''));
}
