/** The sockets of local service discovery: one for each family hears, in all networks that it has joined. */

import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { LocalNetwork } from './local-networks.ts';

/** Fixed by BEP 14. */
export const groups = { ipv4: '239.192.152.143', ipv6: 'ff15::efc0:988f' } as const;

/** Hears what is sent to the group of one family. */
export class Receiver {
  readonly socket: Socket;
  readonly #group: string;
  /** By network, the interface. A group can be joined once for each interface. */
  readonly #joined = new Map<string, string>();

  private constructor(socket: Socket, group: string) {
    this.socket = socket;
    this.#group = group;
  }

  static async open(
    family: 'ipv4' | 'ipv6',
    port: number,
    onPacket: (packet: Buffer, remote: RemoteInfo) => void,
  ): Promise<Receiver> {
    const group = groups[family];
    // Other programs listen there as well.
    const type = family === 'ipv4' ? 'udp4' : 'udp6';
    const socket = createSocket({ type, reuseAddr: true, ipv6Only: family === 'ipv6' });
    try {
      // At the group's own address: what is sent to this machine alone, as it could be from anywhere, is not heard.
      await bound(socket, group, port);
    } catch (error) {
      await closed(socket);
      throw error;
    }
    socket.on('message', onPacket);
    return new Receiver(socket, group);
  }

  join(key: string, network: LocalNetwork): void {
    const wanted = interfaceOf(network);
    if (![...this.#joined.values()].includes(wanted)) this.socket.addMembership(this.#group, wanted);
    this.#joined.set(key, wanted);
  }

  leave(key: string): void {
    const left = this.#joined.get(key);
    this.#joined.delete(key);
    if (left === undefined || [...this.#joined.values()].includes(left)) return;
    try {
      this.socket.dropMembership(this.#group, left);
    } catch {
      // The interface is gone, and the membership with it.
    }
  }
}

export function interfaceOf({ name, address, family }: LocalNetwork): string {
  return family === 'ipv4' ? address : `::%${name}`;
}

export async function bound(socket: Socket, address: string, port: number): Promise<void> {
  const listening = once(socket, 'listening');
  socket.bind({ address, port });
  await listening;
}

export async function closed(socket: Socket): Promise<void> {
  await new Promise<void>((resolve) => {
    socket.close(() => resolve());
  });
}
