/** A UDP tracker on loopback, and packets made by hand. */

import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { Test } from 'tap';
import { type InfoHash, infoHashToDigest, parseInfoHash } from '../../nar/hash.ts';
import type { PeerAddress } from '../../swarm/address/peer-address.ts';
import { Tracker } from '../../swarm/tracker/tracker.ts';
import type { TrackerLimits } from '../../swarm/tracker/tracker-limits.ts';
import { openUdpTracker, type UdpTracker } from '../../swarm/tracker/udp-tracker.ts';

export const known = parseInfoHash('ab'.repeat(20));
export const unknown = parseInfoHash('00'.repeat(20));

export interface UdpLab {
  tracker: Tracker;
  udp: UdpTracker;
  nowMs: number;
  permanent: PeerAddress[];
}

export async function udpLab(
  t: Test,
  limits: Partial<TrackerLimits> = {},
  host = '127.0.0.1',
): Promise<UdpLab> {
  const times = { nowMs: 1_000_000_000_000 };
  const clock = (): number => times.nowMs;
  const tracker = new Tracker({
    known: (infoHash) => (infoHash === unknown ? undefined : 'seeded'),
    clock,
    limits,
  });
  const permanent: PeerAddress[] = [
    { host: '192.0.2.1', port: 1 },
    { host: '2001:db8::1', port: 2 },
  ];
  const udp = await openUdpTracker({ host, port: 0, tracker, clock, permanentPeers: () => permanent });
  t.teardown(() => udp.close());
  return Object.assign(times, { tracker, udp, permanent });
}

/** Somebody at an address of its own: all of 127.0.0.0/8 is this machine. */
export class UdpClient {
  readonly socket: Socket;
  readonly #udp: UdpTracker;

  private constructor(socket: Socket, udp: UdpTracker) {
    this.socket = socket;
    this.#udp = udp;
  }

  static async open(t: Test, { udp }: UdpLab, address = '127.0.0.1'): Promise<UdpClient> {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
    t.teardown(() => socket.close());
    socket.bind(0, address);
    await once(socket, 'listening');
    return new UdpClient(socket, udp);
  }

  send(packet: Uint8Array): void {
    this.socket.send(packet, this.#udp.port, this.#udp.host);
  }

  /** The next packet that comes. */
  async ask(packet: Uint8Array): Promise<Buffer> {
    const answer = once(this.socket, 'message');
    this.send(packet);
    const [bytes]: [Buffer] = (await answer) as [Buffer];
    return bytes;
  }

  async connect(): Promise<Buffer> {
    return (await this.ask(connectPacket())).subarray(8);
  }
}

export function connectPacket(transaction = 7): Buffer {
  const packet = Buffer.from('000004172710198000000000ffffffff', 'hex');
  packet.writeUInt32BE(transaction, 12);
  return packet;
}

export interface AnnouncePacket {
  infoHash?: InfoHash;
  peerId?: string;
  left?: bigint;
  event?: number;
  /** An address of its own choice, which trackers ignore. */
  ip?: number;
  numWant?: number;
  port?: number;
  transaction?: number;
  /** BEP 41. */
  options?: Uint8Array;
}

export function announcePacket(id: Uint8Array, announce: AnnouncePacket = {}): Buffer {
  const { infoHash = known, peerId = 'peer', left = 1n, event = 2, ip = 0, options = [] } = announce;
  const packet = Buffer.alloc(98);
  packet.set(id);
  packet.writeUInt32BE(1, 8);
  packet.writeUInt32BE(announce.transaction ?? 7, 12);
  packet.set(infoHashToDigest(infoHash), 16);
  packet.write(peerId.padEnd(20, '-'), 36, 'latin1');
  packet.writeBigUInt64BE(left, 64);
  packet.writeUInt32BE(event, 80);
  packet.writeUInt32BE(ip, 84);
  packet.writeInt32BE(announce.numWant ?? -1, 92);
  packet.writeUInt16BE(announce.port ?? 6881, 96);
  return Buffer.concat([packet, Uint8Array.from(options)]);
}

export function scrapePacket(id: Uint8Array, infoHashes: readonly InfoHash[]): Buffer {
  const head = Buffer.alloc(16);
  head.set(id);
  head.writeUInt32BE(2, 8);
  head.writeUInt32BE(7, 12);
  return Buffer.concat([head, ...infoHashes.map(infoHashToDigest)]);
}
