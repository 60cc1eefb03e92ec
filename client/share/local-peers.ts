/** Who of the local network has what, as heard by multicast, and what others are told who ask there. */

import type { InfoHash } from '../../nar/hash.ts';
import { type PeerAddress, printPeer } from '../../swarm/address/peer-address.ts';
import { type Heard, LocalDiscovery, type LocalDiscoveryStatus } from '../../swarm/local/local-discovery.ts';
import type { LocalNetworks } from '../../swarm/local/local-networks.ts';
import type { Logger } from '../../web/log.ts';
import type { ClientLimits } from '../config.ts';

/** Those who said within so many milliseconds that they have something are about to serve whoever asked. */
const latelyMs = 1_000;

/** Somebody who was heard of. */
interface Known {
  readonly peer: PeerAddress;
  readonly atMs: number;
}

export interface LocalPeersOptions {
  networks: LocalNetworks;
  /** Where this client serves peers. */
  host: string;
  port: number;
  groupPort: number | undefined;
  /** Whether a torrent is to be had here now, told at little cost; a yes is looked at again before it is said. */
  mayHold(infoHash: InfoHash): boolean;
  has(infoHash: InfoHash): boolean;
  /** What is fetched and shared at this moment, and so many at most of those that are held and may be shared, the newest first. */
  fetched(): InfoHash[];
  newest(max: number): InfoHash[];
  /** Somebody else has, or fetches, a torrent. */
  onPeer(infoHash: InfoHash, peer: PeerAddress): void;
  limits: ClientLimits;
  logger: Logger;
  /** Milliseconds that never go back. */
  clock: () => number;
}

export class LocalPeers {
  readonly #options: LocalPeersOptions;
  #discovery: LocalDiscovery | undefined;
  /** Entries of all maps within `#heard`. */
  #count = 0;
  /** The one heard of last is last, in both. */
  readonly #heard = new Map<InfoHash, Map<string, Known>>();
  /** Said once for each reason: it is tried again every few seconds. */
  #fault: string | undefined;
  #paused = false;

  private constructor(options: LocalPeersOptions) {
    this.#options = options;
  }

  static async open(options: LocalPeersOptions): Promise<LocalPeers> {
    const { networks, host, port, groupPort, limits } = options;
    const peers = new LocalPeers(options);
    peers.#discovery = await LocalDiscovery.open({
      ...{ networks, host, port, groupPort },
      limits: { repeatMs: limits.localRepeatMs, repeatPacketMs: limits.localRepeatPacketMs },
      onHeard: (heard) => peers.#onHeard(heard),
      mayAnnounce: (infoHash) => !peers.#paused && !peers.#isCrowded(infoHash) && options.has(infoHash),
      shares: (max) =>
        peers.#paused ? { fetched: [], kept: [] } : { fetched: options.fetched(), kept: options.newest(max) },
      onFault: (error) => peers.#onFault(error),
    });
    return peers;
  }

  /** Those that were heard to have a torrent and are still in a local network, the one heard of last first. */
  known(infoHash: InfoHash): PeerAddress[] {
    const { networks, limits, clock } = this.#options;
    const sinceMs = clock() - limits.localPeersMs;
    const heard = [...(this.#heard.get(infoHash)?.values() ?? [])];
    const good = heard.filter(({ peer, atMs }) => atMs >= sinceMs && networks.has(peer.host));
    return good.map(({ peer }) => peer).reverse();
  }

  /** Asks who has a torrent that is fetched and shared from now on. */
  ask(infoHash: InfoHash): void {
    if (!this.#paused) this.#discovery?.ask(infoHash);
  }

  /** A torrent is held that was not before. */
  onKept(infoHash: InfoHash): void {
    if (!this.#paused) this.#discovery?.announce(infoHash);
  }

  /** While it is paused nothing is said, neither asked nor answered. */
  setPaused(paused: boolean): void {
    this.#paused = paused;
  }

  status(): (LocalDiscoveryStatus & { torrents: number; peers: number; fault?: string }) | undefined {
    const status = this.#discovery?.status();
    if (status === undefined) return undefined;
    const fault = this.#fault === undefined ? {} : { fault: this.#fault };
    return { ...status, torrents: this.#heard.size, peers: this.#count, ...fault };
  }

  async close(): Promise<void> {
    await this.#discovery?.close();
  }

  #onHeard({ infoHashes, peer, asks }: Heard): void {
    for (const infoHash of infoHashes) {
      if (this.#remember(infoHash, peer)) this.#options.onPeer(infoHash, peer);
      if (asks && !this.#paused && this.#options.mayHold(infoHash)) this.#discovery?.announce(infoHash);
    }
  }

  /** False for another one of too many at one address. */
  #remember(infoHash: InfoHash, peer: PeerAddress): boolean {
    const { limits, clock } = this.#options;
    const peers = this.#heard.get(infoHash) ?? new Map<string, Known>();
    const key = printPeer(peer);
    const nowMs = clock();
    const same = [...peers].filter(
      ([known, { peer: other, atMs }]) =>
        known !== key && other.host === peer.host && atMs >= nowMs - limits.localPeersMs,
    );
    if (same.length >= limits.localPortsOfPeer) return false;
    this.#forget(peers, key);
    peers.set(key, { peer, atMs: nowMs });
    this.#count++;
    for (const [oldest] of peers) if (peers.size > limits.localPeersOfTorrent) this.#forget(peers, oldest);
    this.#heard.delete(infoHash);
    this.#heard.set(infoHash, peers);
    for (const [oldest, { size }] of this.#heard) {
      if (this.#heard.size <= limits.localTorrents && this.#count <= limits.localPeers) break;
      this.#heard.delete(oldest);
      this.#count -= size;
    }
    return true;
  }

  #forget(peers: Map<string, Known>, key: string): void {
    if (peers.delete(key)) this.#count--;
  }

  #isCrowded(infoHash: InfoHash): boolean {
    const { limits, clock } = this.#options;
    const sinceMs = clock() - latelyMs;
    const lately = [...(this.#heard.get(infoHash)?.values() ?? [])].filter(({ atMs }) => atMs >= sinceMs);
    // One of them is who asks.
    return lately.length > limits.localAnswers;
  }

  #onFault(error: unknown): void {
    const text = String(error);
    if (text !== this.#fault) this.#options.logger.warn('local-discovery-failed', { error });
    this.#fault = text;
  }
}
