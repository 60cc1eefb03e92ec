/** A peer that wants one block of a torrent, and times it. */
import { connect, type Socket } from 'node:net';
import { pieceCount, pieceSize, type Torrent } from '../../swarm/torrent/torrent.ts';
import { blockBytes } from '../../swarm/wire/limits.ts';
import { WireDecoder } from '../../swarm/wire/wire.ts';
import { encodeRequest, encodeSimple } from '../../swarm/wire/wire-encode.ts';
import { encodeHandshake, HandshakeReader, makePeerId } from '../../swarm/wire/wire-handshake.ts';

/** A peer that waits longer has failed. */
const deadlineMs = 20_000;
const peerId = makePeerId();

export interface FirstBlock {
  /** From the call of connect, and from sending the handshake, to the last byte of the block. */
  fromConnectMs: number;
  fromHandshakeMs: number;
  bytes: Buffer;
  /** The connection, which goes on. */
  socket: Socket;
}

export interface FirstBlockOptions {
  port: number;
  torrent: Torrent;
  /** The block wanted: the first one unless given. */
  index?: number;
  /** Loopback has 16 million addresses. */
  localAddress?: string;
}

/** Rejects when the connection ends before, or after 20 s. */
export function fetchFirstBlock(options: FirstBlockOptions): Promise<FirstBlock> {
  const { port, torrent, index = 0, localAddress } = options;
  const lengthBytes = Math.min(blockBytes, pieceSize(torrent, index));
  const block = Buffer.allocUnsafe(lengthBytes);
  const started = performance.now();
  let greeted = 0;
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true, ...(localAddress && { localAddress }) });
    const timer = setTimeout(() => socket.destroy(new Error('no block in time')), deadlineMs);
    const handshake = new HandshakeReader();
    let greetedBack = false;
    const decoder = new WireDecoder(
      {
        unchoke: () => socket.write(encodeRequest({ index, begin: 0, lengthBytes })),
        pieceData: (bytes, offset) => void bytes.copy(block, offset),
        pieceEnd() {
          const now = performance.now();
          clearTimeout(timer);
          resolve({
            fromConnectMs: now - started,
            fromHandshakeMs: now - greeted,
            bytes: block,
            socket,
          });
        },
      },
      { pieces: pieceCount(torrent) },
    );
    socket.on('connect', () => {
      greeted = performance.now();
      const hello = encodeHandshake({ infoHash: torrent.infoHash, peerId });
      socket.write(Buffer.concat([hello, encodeSimple('interested')]));
    });
    socket.on('data', (chunk) => {
      if (greetedBack) decoder.push(chunk);
      else {
        const done = handshake.push(chunk);
        if (done === undefined) return;
        greetedBack = true;
        decoder.push(done.rest);
      }
    });
    socket.on('error', reject);
    socket.on('close', () => {
      clearTimeout(timer);
      reject(new Error('the connection ended before the block was there'));
    });
  });
}
