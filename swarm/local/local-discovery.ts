/**
 * Local service discovery: peers in one's own network find each other by multicast, without a tracker. BEP 14.
 *
 * Whoever fetches a torrent asks for it, and those who have it say so. To other programs question and answer are announces like any other; ours
 * tell them apart by the cookie. Unasked, what is fetched and what was kept last is said again as often as the BEP allows, in local-repeats.ts.
 */

import { randomBytes } from 'node:crypto';
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import type { InfoHash } from '../../nar/hash.ts';
import type { PeerAddress } from '../address/peer-address.ts';
import { TokenBucket } from '../token-bucket.ts';
import { isLinkLocal, type LocalNetwork, type LocalNetworks, networksForMs } from './local-networks.ts';
import {
  localPacketMaxBytes,
  localPacketMaxInfoHashes,
  parseLocalAnnounce,
  printLocalAnnounce,
} from './local-packets.ts';
import { LocalRepeats, type LocalShares } from './local-repeats.ts';
import { bound, closed, groups, interfaceOf, Receiver } from './local-sockets.ts';

/** Fixed by the BEP. */
export const localDiscoveryPort = 6771;

export interface LocalDiscoveryLimits {
  /** Packets sent in a second to each network, and how many seconds' worth may leave at once after a silence. */
  sentPerSecond: number;
  sentBurstSeconds: number;
  /** Infohashes that wait for that; what comes on top is not said. */
  waitingMax: number;
  /** Milliseconds within which a torrent is not asked for again: somebody has heard it, or nobody will. Answers may be for one who has just come. */
  askAgainMs: number;
  /** Milliseconds after which a torrent is said again unasked, and between two packets of that: both fixed by the BEP. */
  repeatMs: number;
  repeatPacketMs: number;
  /** Milliseconds that an answer waits, a random part of it more: for others to be said with it, and for others to say it first. */
  answerMs: number;
  /** Packets read in a second from one address, from all of them, and addresses that they come from: a flood costs no more than these. */
  heardPerAddress: number;
  heardPerSecond: number;
  addressesPerSecond: number;
  /** Packets of a second, read or not, from which on nothing is listened to for so many milliseconds: to throw one away takes 8 µs. */
  floodPerSecond: number;
  floodMs: number;
  /** Networks that are spoken to. */
  networks: number;
}

export const localDiscoveryLimits: Readonly<LocalDiscoveryLimits> = {
  sentPerSecond: 10,
  sentBurstSeconds: 3,
  waitingMax: 2_000,
  askAgainMs: 5_000,
  repeatMs: 5 * 60_000,
  repeatPacketMs: 60_000,
  answerMs: 10,
  heardPerAddress: 30,
  heardPerSecond: 200,
  addressesPerSecond: 500,
  floodPerSecond: 5_000,
  floodMs: 60_000,
  networks: 8,
};

/** How often within the time between two packets it is looked whether the next is due. */
const repeatLooks = 6;

export interface Heard {
  infoHashes: InfoHash[];
  /** Who takes connections for them. */
  peer: PeerAddress;
  /** True unless it was the answer to a question, which asks for no answer. */
  asks: boolean;
}

export interface LocalDiscoveryOptions {
  networks: LocalNetworks;
  /** Where peers are served. The address says to which networks this speaks: to its own, or for a wildcard to all. */
  host: string;
  port: number;
  /** `localDiscoveryPort` unless a test says otherwise. */
  groupPort?: number | undefined;
  /** Called for packets from local addresses alone. */
  onHeard(heard: Heard): void;
  /** Whether it is to be had here, and not so many others have just said so that this machine need not. Asked just before it is said. */
  mayAnnounce(infoHash: InfoHash): boolean;
  /** What is to be said again: so many torrents at most. Asked once a minute. */
  shares(torrentsMax: number): LocalShares;
  /** A socket cannot be opened or has failed; it is tried again. For the log. */
  onFault(error: unknown): void;
  limits?: Partial<LocalDiscoveryLimits>;
  /** Milliseconds that never go back. */
  clock?: () => number;
}

export interface LocalDiscoveryStatus {
  /** Addresses of this machine from which it speaks. */
  networks: string[];
  asked: number;
  answered: number;
  heard: number;
  /** Packets that are none of the protocol, from no local address, or too many. */
  ignored: number;
  /** Times that so many packets came that it stopped listening for a while. */
  floods: number;
}

type Word = 'ask' | 'have';

export class LocalDiscovery {
  readonly #options: LocalDiscoveryOptions;
  readonly #limits: LocalDiscoveryLimits;
  readonly #clock: () => number;
  readonly #groupPort: number;
  readonly #cookie = randomBytes(8).toString('hex');
  readonly #senders = new Map<string, { socket: Socket; network: LocalNetwork }>();
  readonly #receivers = new Map<'ipv4' | 'ipv6', Receiver>();
  readonly #waiting: Record<Word, Set<InfoHash>> = { ask: new Set(), have: new Set() };
  readonly #timers: Record<Word, NodeJS.Timeout | undefined> = { ask: undefined, have: undefined };
  /** When each was asked for last. */
  readonly #asked = new Map<InfoHash, number>();
  readonly #bucket: TokenBucket;
  readonly #repeats: LocalRepeats;
  readonly #heardFrom = new Map<string, number>();
  #heardInSecond = 0;
  #arrivedInSecond = 0;
  /** Until then nothing is listened to. */
  #deafUntilMs = 0;
  #secondSinceMs: number;
  #look: NodeJS.Timeout | undefined;
  #repeatLook: NodeJS.Timeout | undefined;
  #refreshing: Promise<void> = Promise.resolve();
  #closed = false;
  readonly #counts = { asked: 0, answered: 0, heard: 0, ignored: 0, floods: 0 };

  private constructor(options: LocalDiscoveryOptions) {
    this.#options = options;
    this.#limits = { ...localDiscoveryLimits, ...options.limits };
    this.#clock = options.clock ?? (() => performance.now());
    this.#groupPort = options.groupPort ?? localDiscoveryPort;
    this.#secondSinceMs = this.#clock();
    const { sentPerSecond, sentBurstSeconds } = this.#limits;
    const { repeatMs, repeatPacketMs } = this.#limits;
    this.#repeats = new LocalRepeats(
      { againMs: repeatMs, packetMs: repeatPacketMs, packetInfoHashes: localPacketMaxInfoHashes },
      this.#clock(),
    );
    this.#bucket = new TokenBucket(sentPerSecond, sentBurstSeconds * 1_000, 1, this.#clock());
  }

  /** Resolves when it listens in the networks of this moment. Never rejects: it goes on looking for networks. */
  static async open(options: LocalDiscoveryOptions): Promise<LocalDiscovery> {
    const discovery = new LocalDiscovery(options);
    await discovery.refresh();
    discovery.#look = setInterval(() => void discovery.refresh(), networksForMs);
    const repeatLookMs = discovery.#limits.repeatPacketMs / repeatLooks;
    discovery.#repeatLook = setInterval(() => discovery.#repeat(), repeatLookMs);
    return discovery;
  }

  /** Asks who has a torrent, and says by it that it is to be had here soon. */
  ask(infoHash: InfoHash): void {
    this.#forgetAsked();
    this.#say('ask', infoHash, 0);
  }

  /** Says that a torrent is to be had here. */
  announce(infoHash: InfoHash): void {
    this.#say('have', infoHash, this.#limits.answerMs * (1 + Math.random()));
  }

  status(): LocalDiscoveryStatus {
    return { networks: [...this.#senders.values()].map(({ network }) => network.address), ...this.#counts };
  }

  /** Looks which networks there are now; it does so every few seconds itself. */
  refresh(): Promise<void> {
    this.#refreshing = this.#refreshing.then(() => this.#refresh());
    return this.#refreshing;
  }

  /** May be called twice. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#look);
    clearInterval(this.#repeatLook);
    for (const word of ['ask', 'have'] as const) clearTimeout(this.#timers[word]);
    await this.#refreshing;
    const sockets = [...this.#senders.values(), ...this.#receivers.values()].map(({ socket }) => socket);
    this.#senders.clear();
    this.#receivers.clear();
    await Promise.all(sockets.map(closed));
  }

  #say(word: Word, infoHash: InfoHash, afterMs: number): void {
    const waiting = this.#waiting[word];
    if (this.#closed || waiting.size >= this.#limits.waitingMax) return;
    if (word === 'ask' && this.#asked.has(infoHash)) return;
    waiting.add(infoHash);
    this.#timers[word] ??= setTimeout(() => this.#send(word), afterMs);
  }

  /** Says again what it is time for. */
  #repeat(): void {
    const repeat = this.#repeats.next(this.#options.shares, this.#clock());
    for (const infoHash of repeat?.infoHashes ?? []) {
      if (repeat?.word === 'ask') this.ask(infoHash);
      else this.announce(infoHash);
    }
  }

  #send(word: Word): void {
    const nowMs = this.#clock();
    const waiting = this.#waiting[word];
    this.#timers[word] = undefined;
    while (waiting.size > 0 && this.#bucket.available(nowMs) >= 1) {
      const infoHashes = this.#take(word, nowMs);
      if (infoHashes.length === 0) continue;
      this.#bucket.take(1);
      this.#counts[word === 'ask' ? 'asked' : 'answered'] += infoHashes.length;
      this.#sendPacket(infoHashes, `${this.#cookie}-${word}`);
    }
    if (waiting.size > 0)
      this.#timers[word] = setTimeout(() => this.#send(word), 1_000 / this.#limits.sentPerSecond);
  }

  /** What goes into one packet. */
  #take(word: Word, nowMs: number): InfoHash[] {
    const taken: InfoHash[] = [];
    for (const infoHash of this.#waiting[word]) {
      if (taken.length >= localPacketMaxInfoHashes) break;
      this.#waiting[word].delete(infoHash);
      if (word === 'have' && !this.#options.mayAnnounce(infoHash)) continue;
      if (word === 'ask') this.#asked.set(infoHash, nowMs);
      this.#repeats.said(infoHash, nowMs);
      taken.push(infoHash);
    }
    return taken;
  }

  #sendPacket(infoHashes: InfoHash[], cookie: string): void {
    for (const { socket, network } of this.#senders.values()) {
      const group = groups[network.family];
      const host = `${isIPv6(group) ? `[${group}]` : group}:${this.#groupPort}`;
      const packet = printLocalAnnounce(host, { port: this.#options.port, infoHashes, cookie });
      // An interface that has just gone takes none; it is left out at the next look.
      socket.send(packet, this.#groupPort, group, () => undefined);
    }
  }

  #forgetAsked(): void {
    const nowMs = this.#clock();
    // Oldest first.
    for (const [infoHash, askedMs] of this.#asked) {
      if (nowMs - askedMs < this.#limits.askAgainMs) return;
      this.#asked.delete(infoHash);
    }
  }

  #receive(packet: Buffer, remote: RemoteInfo): void {
    if (this.#isFlood()) return;
    const heard = this.#isTooMuch(remote.address) ? undefined : this.#read(packet, remote);
    if (heard === undefined) this.#counts.ignored++;
    else if (heard !== 'own') {
      this.#counts.heard++;
      this.#options.onHeard(heard);
    }
  }

  #read(packet: Buffer, { address }: RemoteInfo): Heard | 'own' | undefined {
    if (packet.length > localPacketMaxBytes || !this.#options.networks.has(address)) return undefined;
    const announce = parseLocalAnnounce(packet);
    if (announce === undefined) return undefined;
    const { port, infoHashes, cookie = '' } = announce;
    if (cookie.startsWith(this.#cookie)) return 'own';
    return { infoHashes, peer: { host: address, port }, asks: !cookie.endsWith('-have') };
  }

  /** What is thrown away still wakes this process up for each packet: from a flood only closed sockets help. */
  #isFlood(): boolean {
    const nowMs = this.#clock();
    if (nowMs < this.#deafUntilMs) return true;
    if (nowMs - this.#secondSinceMs >= 1_000) {
      this.#secondSinceMs = nowMs;
      this.#heardInSecond = 0;
      this.#arrivedInSecond = 0;
      this.#heardFrom.clear();
    }
    const { floodPerSecond, floodMs } = this.#limits;
    if (++this.#arrivedInSecond <= floodPerSecond) return false;
    this.#deafUntilMs = nowMs + floodMs;
    this.#counts.floods++;
    this.#options.onFault(
      new Error(`more than ${floodPerSecond} packets in a second: deaf for ${floodMs} ms`),
    );
    void this.refresh();
    return true;
  }

  #isTooMuch(address: string): boolean {
    const { heardPerAddress, heardPerSecond, addressesPerSecond } = this.#limits;
    const before = this.#heardFrom.get(address) ?? 0;
    if (before >= heardPerAddress || this.#heardInSecond >= heardPerSecond) return true;
    if (before === 0 && this.#heardFrom.size >= addressesPerSecond) return true;
    this.#heardFrom.set(address, before + 1);
    this.#heardInSecond++;
    return false;
  }

  async #refresh(): Promise<void> {
    if (this.#closed) return;
    const { networks, host, onFault } = this.#options;
    const deaf = this.#clock() < this.#deafUntilMs;
    const wanted = new Map(
      spokenTo(deaf ? [] : networks.of(host))
        .slice(0, this.#limits.networks)
        .map((network) => [`${network.name} ${network.address}`, network]),
    );
    for (const [key, { socket, network }] of this.#senders) {
      if (wanted.has(key)) continue;
      this.#senders.delete(key);
      this.#receivers.get(network.family)?.leave(key);
      await closed(socket);
    }
    for (const [family, { socket }] of this.#receivers) {
      if (!deaf) break;
      this.#receivers.delete(family);
      await closed(socket);
    }
    for (const [key, network] of wanted) {
      if (this.#senders.has(key)) continue;
      try {
        await this.#join(key, network);
      } catch (error) {
        onFault(error);
      }
    }
  }

  async #join(key: string, network: LocalNetwork): Promise<void> {
    const { family } = network;
    let receiver = this.#receivers.get(family);
    if (receiver === undefined) {
      receiver = await Receiver.open(family, this.#groupPort, (...heard) => this.#receive(...heard));
      // What it hears no more, it hears after the next start.
      receiver.socket.on('error', this.#options.onFault);
      this.#receivers.set(family, receiver);
    }
    const socket = createSocket(family === 'ipv4' ? 'udp4' : 'udp6');
    try {
      await bound(socket, network.address, 0);
      socket.on('error', this.#options.onFault);
      socket.setMulticastInterface(interfaceOf(network));
      // Nothing of this leaves the network.
      socket.setMulticastTTL(1);
      // Others may run on this very machine.
      socket.setMulticastLoopback(true);
      receiver.join(key, network);
      this.#senders.set(key, { socket, network });
    } catch (error) {
      await closed(socket);
      throw error;
    }
  }
}

/** Once for each address of IPv4 and, from its link-local address, for each interface of IPv6: the others change. */
function spokenTo(networks: LocalNetwork[]): LocalNetwork[] {
  const linkLocal = networks.filter(({ address }) => isLinkLocal(address));
  return networks.filter(
    ({ name, address, family }) =>
      family === 'ipv4' || isLinkLocal(address) || !linkLocal.some((other) => other.name === name),
  );
}
