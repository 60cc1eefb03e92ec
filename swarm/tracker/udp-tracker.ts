/**
 * The tracker over UDP. BEP 15.
 *
 * Who has not shown by a connection id that it receives what is sent to its address gets nothing longer than what it sent, so that
 * nobody is flooded through this tracker, and does not reach the tracker at all.
 */

import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { NarswarmError } from '../../nar/errors.ts';
import type { InfoHash } from '../../nar/hash.ts';
import { IpAddress } from '../address/ip-address.ts';
import { type PeerAddress, printPeer } from '../address/peer-address.ts';
import { ConnectionIds } from './connection-ids.ts';
import type { Tracker, TrackerRequest } from './tracker.ts';
import {
  announceAnswer,
  connectAnswer,
  errorAnswer,
  packetKind,
  parseAnnounce,
  parseScrape,
  scrapeAnswer,
  udpScrapeMaxInfoHashes,
} from './udp-packets.ts';

/** Bytes of packets that the kernel holds for us: a burst of two thousand announces. */
export const udpReceiveBufferBytes = 1024 * 1024;
/** Answers that wait because the network takes no more; what comes on top is dropped, and asked for again. */
export const udpSendQueueMax = 1_000;

export interface UdpTrackerOptions {
  /** The address to listen on; `::` takes IPv4 as well. */
  host: string;
  /** 0 for any free one. */
  port: number;
  tracker: Tracker;
  /** Who is in every answer about a torrent. `boundHost` may be a wildcard: at which of this machine's addresses it was reached, no packet says. */
  permanentPeers(infoHash: InfoHash, remoteAddress: string, boundHost: string): readonly PeerAddress[];
  /** A fault of the socket, after which it goes on. For the log. */
  onFault?: (error: unknown) => void;
  /** Milliseconds. */
  clock?: () => number;
}

export interface UdpTrackerStatus {
  /** `host:port`; `undefined` when it does not listen. */
  address: string | undefined;
  connects: number;
  /** Packets that are none of the protocol; they get no answer. */
  malformed: number;
  /** Announces and scrapes with a connection id that is too old, of another address, or made up. */
  unconnected: number;
  /** Answers that were dropped because too many waited. */
  unsent: number;
}

/** The status of none. */
export const noUdpTracker: Readonly<UdpTrackerStatus> = {
  address: undefined,
  connects: 0,
  malformed: 0,
  unconnected: 0,
  unsent: 0,
};

export interface UdpTracker {
  readonly host: string;
  readonly port: number;
  status(): UdpTrackerStatus;
  /** May be called twice. */
  close(): Promise<void>;
}

/** Throws `config-invalid` when the address cannot be listened on. */
export async function openUdpTracker(options: UdpTrackerOptions): Promise<UdpTracker> {
  const { host, port } = options;
  try {
    const { address, family } = await lookup(host);
    const listener = new Listener(options, family === 6 ? 'udp6' : 'udp4');
    await listener.listen(address, port);
    return listener;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new NarswarmError('config-invalid', `cannot listen on ${host} UDP port ${port}: ${why}`, { cause });
  }
}

class Listener implements UdpTracker {
  host = '';
  port = 0;
  readonly #options: UdpTrackerOptions;
  readonly #tracker: Tracker;
  readonly #socket: Socket;
  readonly #ids: ConnectionIds;
  readonly #from = new IpAddress();
  readonly #status: UdpTrackerStatus = { ...noUdpTracker };
  #closing: Promise<void> | undefined;

  constructor(options: UdpTrackerOptions, type: 'udp4' | 'udp6') {
    this.#options = options;
    this.#tracker = options.tracker;
    this.#ids = new ConnectionIds(options.clock ?? Date.now);
    const family = type === 'udp4' ? 4 : 6;
    this.#socket = createSocket({
      type,
      // Addresses come from the socket itself: asking the resolver for each answer would take as long as the answer.
      lookup: (address, _options, found) => found(null, address, family),
    });
    this.#socket.on('message', (packet, remote) => this.#receive(packet, remote));
  }

  async listen(address: string, port: number): Promise<void> {
    const bound = once(this.#socket, 'listening');
    this.#socket.bind({ address, port });
    await bound.catch((error: unknown) => {
      this.#socket.close();
      throw error;
    });
    this.#socket.on('error', (error) => this.#options.onFault?.(error));
    const own = this.#socket.address();
    this.host = own.address;
    this.port = own.port;
    try {
      this.#socket.setRecvBufferSize(udpReceiveBufferBytes);
    } catch {
      // The system allows less, and keeps what it had.
    }
  }

  status(): UdpTrackerStatus {
    return { ...this.#status, address: printPeer(this) };
  }

  close(): Promise<void> {
    this.#closing ??= new Promise((resolve) => this.#socket.close(() => resolve()));
    return this.#closing;
  }

  #receive(packet: Buffer, remote: RemoteInfo): void {
    const from = this.#from;
    const kind = packetKind(packet);
    // From port 0 nobody can have sent it.
    if (kind === undefined || remote.port === 0 || !from.read(remote.address)) {
      this.#status.malformed++;
      return;
    }
    if (kind === 'connect') {
      this.#status.connects++;
      const answer = connectAnswer(packet);
      this.#ids.give(from, answer, 8);
      this.#send(answer, remote);
      return;
    }
    if (!this.#ids.isGood(from, packet, 0)) {
      this.#status.unconnected++;
      // 21 bytes to at least 36.
      this.#send(errorAnswer(packet, 'connect again'), remote);
      return;
    }
    const request: TrackerRequest = {
      from,
      family: from.isIpv4 ? 4 : 6,
      permanentPeers: (infoHash) => this.#options.permanentPeers(infoHash, remote.address, this.host),
    };
    this.#send(kind === 'announce' ? this.#announce(packet, request) : this.#scrape(packet, request), remote);
  }

  #announce(packet: Buffer, request: TrackerRequest): Buffer {
    const answer = this.#tracker.announce(parseAnnounce(packet), request);
    if ('refused' in answer) return errorAnswer(packet, answer.refused);
    const peers = request.family === 4 ? answer.ipv4 : answer.ipv6;
    return announceAnswer(packet, answer, peers, this.#tracker.limits.intervalSeconds);
  }

  #scrape(packet: Buffer, request: TrackerRequest): Buffer {
    const infoHashes = parseScrape(packet);
    if (infoHashes.length > udpScrapeMaxInfoHashes) {
      const { refused } = this.#tracker.refuse(`a scrape names at most ${udpScrapeMaxInfoHashes} torrents`);
      return errorAnswer(packet, refused);
    }
    const counts = this.#tracker.scrape(infoHashes, request);
    return 'refused' in counts ? errorAnswer(packet, counts.refused) : scrapeAnswer(packet, counts);
  }

  #send(answer: Buffer, { address, port }: RemoteInfo): void {
    if (this.#closing !== undefined) return;
    if (this.#socket.getSendQueueCount() >= udpSendQueueMax) {
      this.#status.unsent++;
      return;
    }
    // Without a callback, which would cost as much as the rest: nobody could do something about an address that is not reached.
    this.#socket.send(answer, 0, answer.length, port, address);
  }
}
