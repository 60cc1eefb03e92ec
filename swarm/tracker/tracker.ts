/**
 * A tracker for the torrents of one catalog: who has them, in bounded memory. Pure but for the clock it is given; what comes
 * over HTTP (tracker-http.ts) and over UDP (udp-tracker.ts) goes into the same one.
 *
 * The seeder is in every answer without announcing: a torrent that nobody but the seeder has takes no memory here.
 */

import type { InfoHash } from '../../nar/hash.ts';
import { AddressCounts } from '../address/address-counts.ts';
import type { IpAddress } from '../address/ip-address.ts';
import {
  type CompactPeers,
  compactPeers,
  type PeerAddress,
  parseCompactPeers,
} from '../address/peer-address.ts';
import type { PeerTable } from './peer-table.ts';
import { none } from './slab.ts';
import { TrackedPeers } from './tracked-peers.ts';
import { type TrackerLimits, trackerLimits } from './tracker-limits.ts';
import { type AnnounceQuery, numWantMax } from './tracker-query.ts';

/** `seeded`: the permanent peers have it. `tracked`: of the catalog as well, but only those who announce it have it. */
export type KnownTorrent = 'seeded' | 'tracked';

export interface TrackerOptions {
  /** What a torrent is to the catalog; `undefined` when it is not in there. */
  known(infoHash: InfoHash): KnownTorrent | undefined;
  /** Milliseconds. */
  clock(): number;
  limits?: Partial<TrackerLimits>;
}

/** Who has a seeded torrent without announcing it; IP addresses. The same array again is cheaper than an equal one. */
export type PermanentPeers = (infoHash: InfoHash) => readonly PeerAddress[];

export interface TrackerRequest {
  /** The only address at which the requester is ever named to others; `undefined` when it is gone already. */
  from: IpAddress | undefined;
  permanentPeers: PermanentPeers;
  /** Name peers of this family only. */
  family?: 4 | 6;
}

export interface TrackerAnswer extends TorrentCounts {
  /** Compact peers, valid until the next request. */
  ipv4: Buffer;
  ipv6: Buffer;
}

export interface TorrentCounts {
  /** The permanent peers included. */
  seeds: number;
  others: number;
}

export interface TrackerRefusal {
  /** For people. */
  refused: string;
  /** When it makes sense to ask again. */
  retrySeconds?: number;
}

export interface TrackerStatus {
  torrents: number;
  peers: number;
  announces: number;
  scrapes: number;
  /** All requests that were refused, those over the limit of an address included. */
  refused: number;
  limited: number;
  /** Bytes in which all of it is kept. */
  tableBytes: number;
}

export class Tracker {
  readonly limits: Readonly<TrackerLimits>;
  readonly #options: TrackerOptions;
  readonly #startMs: number;
  readonly #peers: TrackedPeers;
  readonly #table: PeerTable;
  readonly #requestsAt = new AddressCounts();
  #minute = 0;
  readonly #compact = new WeakMap<readonly PeerAddress[], CompactPeers>();
  readonly #ipv4 = Buffer.alloc(numWantMax * 6);
  readonly #ipv6 = Buffer.alloc(numWantMax * 18);
  #announces = 0;
  #scrapes = 0;
  #refused = 0;
  #limited = 0;

  constructor(options: TrackerOptions) {
    this.#options = options;
    this.limits = { ...trackerLimits, ...options.limits };
    this.#startMs = options.clock();
    this.#peers = new TrackedPeers(this.limits);
    this.#table = this.#peers.table;
  }

  announce(query: AnnounceQuery, request: TrackerRequest): TrackerAnswer | TrackerRefusal {
    this.#announces++;
    if (!this.#admit(request.from, 1)) return this.#overLimit();
    const now = this.#nowSeconds();
    this.#peers.sweep(now);
    const found = this.#table.find(query.infoHash);
    const facts = this.#facts(found, query.infoHash, now);
    if (facts === undefined) return this.refuse('this tracker does not know the torrent');
    const at = this.#peers.register(found, query, request.from, now);
    if (at !== none) this.#table.setFacts(at, facts);
    return this.#select(at, query, request, this.#permanent(facts, query.infoHash, request));
  }

  /** In the order of the infohashes; `undefined` for those that are not known. */
  scrape(
    infoHashes: readonly InfoHash[],
    request: TrackerRequest,
  ): (TorrentCounts | undefined)[] | TrackerRefusal {
    this.#scrapes++;
    if (!this.#admit(request.from, infoHashes.length)) return this.#overLimit();
    const now = this.#nowSeconds();
    return infoHashes.map((infoHash) => {
      const facts = this.#facts(this.#table.find(infoHash), infoHash, now);
      if (facts === undefined) return undefined;
      const { ipv4, ipv6 } = this.#permanent(facts, infoHash, request);
      const { seeds, others } = this.#peers.countsOf(this.#peers.findAlive(infoHash, now));
      return { seeds: seeds + ipv4.length / 6 + ipv6.length / 18, others };
    });
  }

  /** At most `max` peers that announced the torrent, those that announced last first. */
  peersOf(infoHash: InfoHash, max: number): PeerAddress[] {
    const at = this.#peers.findAlive(infoHash, this.#nowSeconds());
    if (at === none) return [];
    const table = this.#table;
    const found: PeerAddress[] = [];
    const compact = Buffer.alloc(18);
    let skip = table.peersOf(at) - max;
    for (let of = table.firstPeer(at); of !== none; of = table.nextPeer(of)) {
      if (skip-- > 0) continue;
      const end = table.writePeer(of, compact, 0);
      found.push(...parseCompactPeers(compact.subarray(0, end), end === 6 ? 4 : 6));
    }
    return found.reverse();
  }

  /** Seeds that announced the torrent: the permanent peers are not among them. A lookup in memory. */
  seedsOf(infoHash: InfoHash): number {
    return this.#peers.countsOf(this.#peers.findAlive(infoHash, this.#nowSeconds())).seeds;
  }

  status(): TrackerStatus {
    return {
      torrents: this.#table.torrents,
      peers: this.#table.peers,
      announces: this.#announces,
      scrapes: this.#scrapes,
      refused: this.#refused,
      limited: this.#limited,
      tableBytes: this.#table.sizeBytes,
    };
  }

  /** Counts a request that made no sense as well. */
  refuse(refused: string): TrackerRefusal {
    this.#refused++;
    return { refused };
  }

  #overLimit(): TrackerRefusal {
    this.#limited++;
    return { ...this.refuse('too many requests from this address'), retrySeconds: 60 };
  }

  #admit(from: IpAddress | undefined, requests: number): boolean {
    if (from === undefined) return true;
    const minute = Math.floor(this.#options.clock() / 60_000);
    if (minute !== this.#minute) {
      this.#minute = minute;
      this.#requestsAt.clear();
    }
    // What is refused counts no further: the counters are shared, and there is no more to know.
    if (this.#requestsAt.of(from) + requests > this.limits.requestsPerAddressAndMinute) return false;
    this.#requestsAt.add(from, requests);
    return true;
  }

  #nowSeconds(): number {
    return Math.max(0, Math.floor((this.#options.clock() - this.#startMs) / 1_000));
  }

  /**
   * When the catalog was asked for the torrent, and whether it is seeded: kept with the torrents that have peers, so that most
   * announces cost no query. Unknown ones leave no trace. A torrent that has left the catalog goes here as well.
   */
  #facts(at: number, infoHash: InfoHash, now: number): number | undefined {
    if (at !== none) {
      const facts = this.#table.factsOf(at);
      if (now - (facts >>> 1) < this.limits.knownSeconds) return facts;
    }
    const known = this.#options.known(infoHash);
    if (known !== undefined) return ((now << 1) | (known === 'seeded' ? 1 : 0)) >>> 0;
    if (at !== none) this.#peers.dropTorrent(at);
    return undefined;
  }

  #permanent(facts: number, infoHash: InfoHash, { permanentPeers }: TrackerRequest): CompactPeers {
    if ((facts & 1) === 0) return nobody;
    const peers = permanentPeers(infoHash);
    let compact = this.#compact.get(peers);
    if (compact === undefined) {
      compact = compactPeers(peers);
      this.#compact.set(peers, compact);
    }
    return compact;
  }

  /** Peers of use to the requester, the permanent ones first. */
  #select(at: number, query: AnnounceQuery, request: TrackerRequest, permanent: CompactPeers): TrackerAnswer {
    const { from, family } = request;
    const wanted = query.event === 'stopped' ? 0 : Math.min(query.numWant, numWantMax);
    let left = wanted;
    let ipv4 = 0;
    let ipv6 = 0;
    for (let index = 0; family !== 6 && left > 0 && index < permanent.ipv4.length; index += 6) {
      if (isRequester(permanent.ipv4, index, 6, query.port, from)) continue;
      permanent.ipv4.copy(this.#ipv4, ipv4, index, index + 6);
      ipv4 += 6;
      left--;
    }
    for (let index = 0; family !== 4 && left > 0 && index < permanent.ipv6.length; index += 18) {
      if (isRequester(permanent.ipv6, index, 18, query.port, from)) continue;
      permanent.ipv6.copy(this.#ipv6, ipv6, index, index + 18);
      ipv6 += 18;
      left--;
    }
    const counts = this.#peers.countsOf(at);
    if (at !== none && left > 0) {
      const table = this.#table;
      // A seed has no use for seeds. One that just starts may be none: with a magnet link aria2 does not know yet what is left, and says 0.
      const isSeed = query.left === 0 && query.event !== 'started';
      const isUseful = (of: number): boolean =>
        !(isSeed && table.isSeed(of)) &&
        (family === undefined || (family === 4) === table.isIpv4(of)) &&
        !(from !== undefined && table.portOf(of) === query.port && table.isAt(of, from));
      let useful = 0;
      for (let of = table.firstPeer(at); of !== none; of = table.nextPeer(of)) if (isUseful(of)) useful++;
      // From another place each time, so that all peers are named to some.
      let skip = useful > left ? (this.#announces * left) % useful : 0;
      left = Math.min(left, useful);
      for (let of = table.firstPeer(at); left > 0; of = table.nextPeer(of)) {
        if (of === none) of = table.firstPeer(at);
        if (!isUseful(of) || skip-- > 0) continue;
        if (table.isIpv4(of)) ipv4 = table.writePeer(of, this.#ipv4, ipv4);
        else ipv6 = table.writePeer(of, this.#ipv6, ipv6);
        left--;
      }
    }
    return {
      seeds: counts.seeds + permanent.ipv4.length / 6 + permanent.ipv6.length / 18,
      others: counts.others,
      ipv4: this.#ipv4.subarray(0, ipv4),
      ipv6: this.#ipv6.subarray(0, ipv6),
    };
  }
}

const nobody: CompactPeers = { ipv4: Buffer.alloc(0), ipv6: Buffer.alloc(0) };

/** Whether the compact peer at `at` is the one that asks. */
function isRequester(
  peers: Buffer,
  at: number,
  size: 6 | 18,
  port: number,
  from: IpAddress | undefined,
): boolean {
  if (from === undefined || from.isIpv4 !== (size === 6)) return false;
  return (
    peers.readUInt16BE(at + size - 2) === port &&
    from.bytes.compare(peers, at, at + size - 2, from.isIpv4 ? 12 : 0) === 0
  );
}
