/** A seed that lets its peers down: a TCP proxy on loopback in front of a real one, which spoils what passes. */

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export const peerFaults = ['mute', 'without-blocks', 'flaky', 'lying'] as const;
/**
 * `mute` takes connections and says nothing, `without-blocks` says everything but blocks, `flaky` breaks each connection off after a
 * while and some at once, `lying` changes a byte of each block.
 */
export type PeerFault = (typeof peerFaults)[number];

export interface BadPeer {
  /** `host:port` */
  readonly address: string;
  /** Connections ever made to it. */
  accepted(): number;
  close(): Promise<void>;
}

/** What a flaky connection carries to the peer: more than a small NAR file, less than a large one. */
const flakyBytes = 700_000;
/** Of the connections to a flaky peer, each so many-th breaks off at once. */
const flakyEvery = 3;
/** Longest message but for a block: a bitfield. */
const messageMaxBytes = 1 << 20;

const handshakeBytes = 68;
const pieceId = 7;
/** Length, id, index, begin. */
const pieceHeaderBytes = 13;

/** `target` is the `host:port` of a seed that speaks without encryption. */
export async function openBadPeer(target: string, fault: PeerFault): Promise<BadPeer> {
  const sockets = new Set<Socket>();
  let accepted = 0;
  const track = (socket: Socket): void => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
  };
  const server = createServer({ noDelay: true }, (near) => {
    accepted++;
    track(near);
    if (fault === 'mute') {
      near.resume();
      return;
    }
    if (fault === 'flaky' && accepted % flakyEvery === 0) {
      near.destroy();
      return;
    }
    const at = target.lastIndexOf(':');
    const far = connect({ host: target.slice(0, at), port: Number(target.slice(at + 1)), noDelay: true });
    track(far);
    near.on('close', () => far.destroy());
    far.on('close', () => near.destroy());
    near.pipe(far);
    let passed = 0;
    const messages = new Messages(fault);
    far.on('data', (chunk) => {
      const passes = fault === 'flaky' ? chunk : messages.push(chunk);
      passed += passes.length;
      if (passes.length > 0 && !near.write(passes)) {
        far.pause();
        near.once('drain', () => far.resume());
      }
      if (fault === 'flaky' && passed > flakyBytes) near.destroySoon();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    accepted: () => accepted,
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** The stream of a seed, taken apart at the borders of its messages (BEP 3). */
class Messages {
  readonly #fault: PeerFault;
  #waiting = Buffer.alloc(0);
  #greeted = false;

  constructor(fault: PeerFault) {
    this.#fault = fault;
  }

  /** What of it the peer gets. */
  push(chunk: Buffer): Buffer {
    this.#waiting = Buffer.concat([this.#waiting, chunk]);
    const passes: Buffer[] = [];
    for (let next = this.#take(); next !== undefined; next = this.#take()) {
      const isBlock = next.length > pieceHeaderBytes && next[4] === pieceId && this.#greeted;
      if (isBlock && this.#fault === 'lying') next[pieceHeaderBytes] = ~(next[pieceHeaderBytes] ?? 0);
      if (!isBlock || this.#fault !== 'without-blocks') passes.push(next);
      this.#greeted = true;
    }
    return Buffer.concat(passes);
  }

  #take(): Buffer | undefined {
    if (this.#greeted && this.#waiting.length < 4) return undefined;
    const length = this.#greeted ? 4 + this.#waiting.readUInt32BE(0) : handshakeBytes;
    if (length > messageMaxBytes) throw new Error(`a message of ${length} bytes: the stream is encrypted`);
    if (this.#waiting.length < length) return undefined;
    const message = Buffer.from(this.#waiting.subarray(0, length));
    this.#waiting = this.#waiting.subarray(length);
    return message;
  }
}
