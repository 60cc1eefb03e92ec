/** A seed server in another process, peers that attack it from one address, and an honest one at another. */

import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Torrent } from '../../swarm/torrent/torrent.ts';
import type { SeedLimits } from '../../swarm/wire/limits.ts';
import { WireDecoder } from '../../swarm/wire/wire.ts';
import { encodeRequests, encodeSimple } from '../../swarm/wire/wire-encode.ts';
import { encodeHandshake, HandshakeReader, makePeerId } from '../../swarm/wire/wire-handshake.ts';
import type { ChildReady, ChildState } from './hostile-child.ts';
import { hostileContent, hostileFileBytes } from './hostile-content.ts';
import { blocksOf } from './seed-fixture.ts';

export const attackerHost = '127.0.0.2';
const honestHost = '127.0.0.3';
const childFile = fileURLToPath(new URL('./hostile-child.ts', import.meta.url));
const content = hostileContent(hostileFileBytes);
/** Requests that the honest peer has under way: enough to keep the server busy. */
const honestWindow = 128;
/** On the busiest of machines. */
const patienceMs = 20_000;

export class HostileLab {
  readonly port: number;
  readonly torrent: Torrent;
  readonly #child: ReturnType<typeof fork>;
  readonly #attackers = new Set<Socket>();

  private constructor(child: ReturnType<typeof fork>, { port, torrent }: ChildReady) {
    this.#child = child;
    this.port = port;
    this.torrent = { ...torrent, pieces: Buffer.from(torrent.pieces, 'hex') };
  }

  static async open(
    t: { teardown(fn: () => Promise<void>): void },
    limits: Partial<SeedLimits>,
  ): Promise<HostileLab> {
    const child = fork(childFile, [JSON.stringify(limits)], { execArgv: ['--expose-gc'] });
    const exited = once(child, 'exit');
    const [ready] = (await once(child, 'message')) as [ChildReady];
    const lab = new HostileLab(child, ready);
    t.teardown(async () => {
      for (const socket of lab.#attackers) socket.destroy();
      child.disconnect();
      await exited;
    });
    return lab;
  }

  async state(): Promise<ChildState> {
    const answer = once(this.#child, 'message');
    this.#child.send('state');
    const [state] = (await answer) as [ChildState];
    return state;
  }

  /** How the server is once `condition` holds. What never comes to hold is told with the last state. */
  async stateWhere(condition: (state: ChildState) => boolean): Promise<ChildState> {
    const deadlineMs = performance.now() + patienceMs;
    for (;;) {
      const state = await this.state();
      if (condition(state)) return state;
      if (performance.now() > deadlineMs) throw new Error(`not so: ${condition}, ${JSON.stringify(state)}`);
      await setImmediate();
    }
  }

  /** A connection from the attackers' address; what comes back is read and thrown away unless the socket is paused. */
  attacker(): Socket {
    const socket = connect({ host: '127.0.0.1', port: this.port, localAddress: attackerHost });
    socket.on('error', () => {});
    socket.on('close', () => this.#attackers.delete(socket));
    this.#attackers.add(socket);
    socket.resume();
    return socket;
  }

  /** One that has shaken hands, and says this on top of it. */
  greeted(...messages: Uint8Array[]): Socket {
    const socket = this.attacker();
    const { infoHash } = this.torrent;
    // Of another kind than ours, whose peers are let ask with the greeting.
    const peerId = Buffer.concat([Buffer.from('-XX0001-'), randomBytes(12)]);
    socket.write(Buffer.concat([encodeHandshake({ infoHash, peerId }), ...messages]));
    return socket;
  }

  /** Downloads the whole file as a decent peer does, and compares it. Returns how many milliseconds that took. */
  async honestMs(): Promise<number> {
    const beganMs = performance.now();
    const socket = connect({ host: '127.0.0.1', port: this.port, localAddress: honestHost });
    const { infoHash, pieceLength } = this.torrent;
    const blocks = blocksOf(this.torrent);
    const got = Buffer.alloc(content.length);
    let asked = 0;
    let answered = 0;
    const done = Promise.withResolvers<void>();
    const ask = (): void => {
      if (asked - answered > honestWindow / 2) return;
      const some = blocks.slice(asked, answered + honestWindow);
      asked += some.length;
      if (some.length > 0) socket.write(encodeRequests(some));
    };
    let at = 0;
    const decoder = new WireDecoder(
      {
        unchoke: ask,
        pieceStart: (index, begin) => {
          at = index * pieceLength + begin;
        },
        pieceData: (bytes, offset) => bytes.copy(got, at + offset),
        pieceEnd: () => {
          answered++;
          if (answered === blocks.length) done.resolve();
          else ask();
        },
      },
      { pieces: this.torrent.pieces.length / 20 },
    );
    const reader = new HandshakeReader();
    let greeted = false;
    socket.on('data', (chunk) => {
      if (greeted) decoder.push(chunk);
      else {
        const read = reader.push(chunk);
        greeted = read !== undefined;
        if (read !== undefined) decoder.push(read.rest);
      }
    });
    socket.on('error', done.reject);
    socket.on('close', () => done.reject(new Error('an honest peer was sent away')));
    socket.write(
      Buffer.concat([encodeHandshake({ infoHash, peerId: makePeerId() }), encodeSimple('interested')]),
    );
    await done.promise;
    socket.destroy();
    assert.ok(got.equals(content), 'the bytes are right');
    return performance.now() - beganMs;
  }
}

/** Resolves when the sockets are closed, in whatever way. */
export async function gone(sockets: readonly Socket[]): Promise<void> {
  const closed = (socket: Socket): Promise<void> =>
    new Promise((resolve) => {
      if (socket.closed) resolve();
      else socket.once('close', () => resolve());
    });
  await Promise.all(sockets.map(closed));
}

/** Writes as long as the other side takes it, at most `most` times. */
export async function pour(socket: Socket, bytes: Buffer, most: number): Promise<void> {
  for (let i = 0; i < most && !socket.destroyed && socket.writableLength < 4 * 1024 * 1024; i++) {
    socket.write(bytes);
    if (i % 16 === 0) await setImmediate();
  }
}
