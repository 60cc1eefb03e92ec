/** A UDP socket as bittorrent-dht uses one, with the guard before it. */

import { createSocket, type RemoteInfo } from 'node:dgram';
import { EventEmitter } from 'node:events';
import { isIPv4 } from 'node:net';
import type { DhtGuard } from './dht-guard.ts';

export class DhtSocket extends EventEmitter {
  /** Named nodes are looked up by the library before it sends. */
  readonly #socket = createSocket('udp4');
  readonly #guard: DhtGuard;

  constructor(guard: DhtGuard) {
    super();
    this.#guard = guard;
    this.#socket.on('listening', () => this.emit('listening'));
    this.#socket.on('error', (error) => this.emit('error', error));
    this.#socket.on('close', () => this.emit('close'));
    this.#socket.on('message', (bytes, from) => this.#receive(bytes, from));
  }

  bind(port: number, host: string): void {
    this.#socket.bind(port, host);
  }

  address(): { address: string; port: number } {
    return this.#socket.address();
  }

  send(
    bytes: Uint8Array,
    _offset: number,
    _length: number,
    port: number,
    host: string,
    done: () => void,
  ): void {
    // A name that has an IPv6 address alone, or port 0 from a node's mouth: the question stays unanswered.
    if (!isIPv4(host) || port < 1 || port > 65_535) {
      done();
      return;
    }
    // An error is told to `done`, and has no other consequence: that node cannot be reached.
    this.#socket.send(this.#guard.outgoing(bytes, { host, port }), port, host, done);
  }

  close(): void {
    this.#socket.close();
  }

  #receive(bytes: Buffer, from: RemoteInfo): void {
    const checked = this.#guard.incoming(bytes, { host: from.address, port: from.port });
    if (checked !== undefined) this.emit('message', checked, from);
  }
}
