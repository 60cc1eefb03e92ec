/**
 * A tracker for the torrents of one catalog: who has them, in bounded memory. Pure but for the clock it is given; the HTTP
 * server passes queries in and answers out. BEP 3, 7 (IPv6), 23 (compact), 48 (scrape).
 *
 * The seeder is in every answer without announcing: a torrent that nobody but the seeder has takes no memory here.
 */

import { isIP, isIPv4, isIPv6 } from 'node:net';
import { isNarswarmError } from '../nar/errors.ts';
import type { InfoHash } from '../nar/hash.ts';
import { addressKey } from './address-key.ts';
import { bencode } from './bencode.ts';
import { compactPeer, type PeerAddress } from './peer-address.ts';
import { type AnnounceQuery, parseAnnounceQuery, parseScrapeQuery } from './tracker-query.ts';

export interface TrackerLimits {
  /** Seconds between announces of one peer: half an hour is what public trackers ask for. */
  intervalSeconds: number;
  /** Seconds after which a peer that lost all its connections may ask again: aria2 asks for peers only then. */
  minIntervalSeconds: number;
  /** Torrents with peers besides the seeder; the one that was announced longest ago goes. 200 B each and 150 B a peer. */
  torrents: number;
  /** Peers of one torrent; the one that announced longest ago goes. An answer holds 50. */
  peersPerTorrent: number;
  /** Peers of one torrent at one address: a household, but too few to crowd the others out of the answers. */
  peersPerTorrentAndAddress: number;
  /** Peers of all torrents: 1,000,000 are some 200 MB. */
  peers: number;
  /** Peers that one address (a /64 of IPv6) may have over all torrents: a busy NAT, but no flood. */
  peersPerAddress: number;
  /** Torrents looked through for peers that went away, on each announce. */
  sweepTorrents: number;
}

export const trackerLimits: Readonly<TrackerLimits> = {
  intervalSeconds: 1_800,
  minIntervalSeconds: 30,
  torrents: 200_000,
  peersPerTorrent: 200,
  peersPerTorrentAndAddress: 8,
  peers: 500_000,
  peersPerAddress: 20_000,
  sweepTorrents: 2,
};

/** A peer that missed two announces is gone. */
const expiryIntervals = 2;

export interface TrackerOptions {
  /** Whether a torrent may be tracked. */
  known(infoHash: InfoHash): boolean;
  /** Milliseconds. */
  clock(): number;
  limits?: Partial<TrackerLimits>;
}

export interface TrackerRequest {
  /** The query as it came, without the question mark. */
  query: string;
  /** IP address of the requester: the only address at which it is ever named to others. */
  remoteAddress: string;
  /** Who has a torrent without announcing it; IP addresses. */
  permanentPeers(infoHash: InfoHash): PeerAddress[];
}

export interface TrackerStatus {
  torrents: number;
  peers: number;
  announces: number;
  scrapes: number;
  refused: number;
}

interface Peer extends PeerAddress {
  seed: boolean;
  seenMs: number;
}

export class Tracker {
  readonly #options: TrackerOptions;
  readonly #limits: TrackerLimits;
  /** Least recently announced first, and so are the peers of each. */
  readonly #torrents = new Map<InfoHash, Map<string, Peer>>();
  readonly #perAddress = new Map<string, number>();
  #peers = 0;
  #announces = 0;
  #scrapes = 0;
  #refused = 0;

  constructor(options: TrackerOptions) {
    this.#options = options;
    this.#limits = { ...trackerLimits, ...options.limits };
  }

  /** The bencoded answer; to what is refused, one with a failure reason. */
  announce(request: TrackerRequest): Buffer {
    return this.#answer(() => {
      this.#announces++;
      const query = parseAnnounceQuery(request.query);
      if (!this.#options.known(query.infoHash)) return this.#refuse('this tracker does not know the torrent');
      this.#sweep();
      const host = plainAddress(request.remoteAddress);
      this.#register(query, host);
      const permanent = request.permanentPeers(query.infoHash);
      return this.#peersAnswer(query, host, permanent);
    });
  }

  scrape(request: Pick<TrackerRequest, 'query' | 'permanentPeers'>): Buffer {
    return this.#answer(() => {
      this.#scrapes++;
      const files = new Map<string, Map<string, number>>();
      for (const infoHash of parseScrapeQuery(request.query)) {
        if (!this.#options.known(infoHash)) continue;
        const { seeds, others } = this.#count(infoHash);
        const complete = seeds + request.permanentPeers(infoHash).length;
        const counts = { complete, downloaded: 0, incomplete: others };
        files.set(Buffer.from(infoHash, 'hex').toString('latin1'), new Map(Object.entries(counts)));
      }
      return bencode(new Map([['files', files]]));
    });
  }

  /** At most `max` peers that announced the torrent, those that announced last first. */
  peersOf(infoHash: InfoHash, max: number): PeerAddress[] {
    const oldest = this.#oldestMs();
    return [...(this.#torrents.get(infoHash)?.values() ?? [])]
      .filter((peer) => peer.seenMs >= oldest)
      .slice(-max)
      .reverse()
      .map(({ host, port }) => ({ host, port }));
  }

  /** Seeds that announced the torrent: the permanent peers are not among them. */
  seedsOf(infoHash: InfoHash): number {
    return this.#count(infoHash).seeds;
  }

  status(): TrackerStatus {
    return {
      torrents: this.#torrents.size,
      peers: this.#peers,
      announces: this.#announces,
      scrapes: this.#scrapes,
      refused: this.#refused,
    };
  }

  #answer(make: () => Buffer): Buffer {
    try {
      return make();
    } catch (error) {
      if (isNarswarmError(error, 'tracker-failed')) return this.#refuse(error.message);
      throw error;
    }
  }

  #refuse(reason: string): Buffer {
    this.#refused++;
    return bencode(new Map([['failure reason', Buffer.from(reason)]]));
  }

  #register(query: AnnounceQuery, host: string): void {
    const { infoHash } = query;
    const peers = this.#torrents.get(infoHash) ?? new Map<string, Peer>();
    const key = `${host} ${query.peerId}`;
    this.#drop(peers, key);
    this.#dropGone(peers);
    if (query.event !== 'stopped' && query.port > 0 && isIP(host) !== 0 && this.#mayAdd(host)) {
      const neighbours = [...peers].filter(([, peer]) => addressKey(peer.host) === addressKey(host));
      if (neighbours.length >= this.#limits.peersPerTorrentAndAddress) this.#drop(peers, neighbours[0]?.[0]);
      if (peers.size >= this.#limits.peersPerTorrent) this.#drop(peers, first(peers));
      peers.set(key, { host, port: query.port, seed: query.left === 0, seenMs: this.#options.clock() });
      this.#peers++;
      this.#perAddress.set(addressKey(host), (this.#perAddress.get(addressKey(host)) ?? 0) + 1);
    }
    // Taken out and put back: the last in the map was announced last.
    this.#torrents.delete(infoHash);
    if (peers.size > 0) this.#torrents.set(infoHash, peers);
    while (this.#torrents.size > this.#limits.torrents || this.#peers > this.#limits.peers)
      this.#dropOldestTorrent();
  }

  #mayAdd(host: string): boolean {
    return (this.#perAddress.get(addressKey(host)) ?? 0) < this.#limits.peersPerAddress;
  }

  #drop(peers: Map<string, Peer>, key: string | undefined): void {
    const peer = key === undefined ? undefined : peers.get(key);
    if (key === undefined || peer === undefined) return;
    peers.delete(key);
    this.#peers--;
    const group = addressKey(peer.host);
    const left = (this.#perAddress.get(group) ?? 1) - 1;
    if (left > 0) this.#perAddress.set(group, left);
    else this.#perAddress.delete(group);
  }

  #dropOldestTorrent(): void {
    const infoHash = first(this.#torrents);
    const peers = infoHash && this.#torrents.get(infoHash);
    if (infoHash === undefined || peers === undefined) return;
    for (const key of [...peers.keys()]) this.#drop(peers, key);
    this.#torrents.delete(infoHash);
  }

  /** A few of the torrents that were announced longest ago lose the peers that went away: the work is spread, no timer is needed. */
  #sweep(): void {
    let looked = 0;
    for (const [infoHash, peers] of this.#torrents) {
      if (looked++ === this.#limits.sweepTorrents) return;
      this.#dropGone(peers);
      if (peers.size === 0) this.#torrents.delete(infoHash);
    }
  }

  #dropGone(peers: Map<string, Peer>): void {
    const oldest = this.#oldestMs();
    for (const [key, peer] of peers) {
      if (peer.seenMs >= oldest) return;
      this.#drop(peers, key);
    }
  }

  #oldestMs(): number {
    return this.#options.clock() - expiryIntervals * this.#limits.intervalSeconds * 1_000;
  }

  #count(infoHash: InfoHash): { seeds: number; others: number } {
    const oldest = this.#oldestMs();
    let seeds = 0;
    let others = 0;
    for (const peer of this.#torrents.get(infoHash)?.values() ?? []) {
      if (peer.seenMs < oldest) continue;
      if (peer.seed) seeds++;
      else others++;
    }
    return { seeds, others };
  }

  /** Compact whatever was asked for: every program of the last fifteen years reads it. */
  #peersAnswer(query: AnnounceQuery, host: string, permanent: PeerAddress[]): Buffer {
    const wanted = query.event === 'stopped' ? 0 : query.numWant;
    const isRequester = (peer: PeerAddress): boolean => peer.host === host && peer.port === query.port;
    const named = [...permanent, ...this.#others(query, wanted)]
      .filter((peer) => !isRequester(peer))
      .slice(0, wanted);
    const { seeds, others } = this.#count(query.infoHash);
    const pick = (family: (text: string) => boolean): Buffer =>
      Buffer.concat(named.filter((peer) => family(peer.host)).map(compactPeer));
    return bencode(
      new Map<string, number | Buffer>([
        ['complete', seeds + permanent.length],
        ['incomplete', others],
        ['interval', this.#limits.intervalSeconds],
        ['min interval', this.#limits.minIntervalSeconds],
        ['peers', pick(isIPv4)],
        ['peers6', pick(isIPv6)],
      ]),
    );
  }

  /** Peers of use to the requester. */
  #others(query: AnnounceQuery, max: number): PeerAddress[] {
    const oldest = this.#oldestMs();
    // A seed has no use for seeds. One that just starts may be none: with a magnet link aria2 does not know yet what is left, and says 0.
    const isSeed = query.left === 0 && query.event !== 'started';
    const useful = [...(this.#torrents.get(query.infoHash)?.values() ?? [])].filter(
      (peer) => peer.seenMs >= oldest && !(peer.seed && isSeed),
    );
    // From another place each time, so that all peers are named to some.
    const start = useful.length > max ? (this.#announces * max) % useful.length : 0;
    return [...useful.slice(start), ...useful.slice(0, start)].slice(0, max + 1);
  }
}

function first<K>(map: Map<K, unknown>): K | undefined {
  return map.keys().next().value;
}

/** Dual-stack sockets show IPv4 addresses as IPv6. */
function plainAddress(address: string): string {
  return address.startsWith('::ffff:') && isIPv4(address.slice(7)) ? address.slice(7) : address;
}
