/**
 * Warm connections to the peers of packs: made before anything is wanted, kept while they are used, and shared by all NAR files of a pack.
 *
 * A NAR file is asked of one peer, the one that will have given it first; when that peer fails, the rest is asked of another.
 */

import { NarswarmError } from '../../nar/errors.ts';
import type { InfoHash } from '../../nar/hash.ts';
import { type PeerAddress, printPeer } from '../address/peer-address.ts';
import { packTorrentMaxBytes } from '../torrent/pack-torrent.ts';
import { makePeerId } from '../wire/wire-handshake.ts';
import { type PackLimits, packLimits } from './pack-limits.ts';
import { PackPeer, type PackPeerEvents } from './pack-peer.ts';
import { PackRange } from './pack-range.ts';
import { localFirst, type PeerBook } from './peer-book.ts';

export interface PackConnectionsOptions {
  limits?: Partial<PackLimits>;
  /** What is remembered of peers; nothing by default. */
  book?: PeerBook | undefined;
  /** 20 bytes; whoever shows the same is ourselves. A new one by default. */
  peerId?: Buffer | undefined;
  /** A fault of ours that cost something. For the log. */
  onFault?: (error: unknown) => void;
}

/** Where bytes are wanted from. */
export interface PackPlace {
  readonly infoHash: InfoHash;
  /** Of the first byte in the pack. */
  readonly offset: number;
  readonly lengthBytes: number;
  /** Who may have the pack. */
  readonly peers: readonly PeerAddress[];
  /** The bytes are given in multiples of this, the last ones as they are. */
  readonly stepBytes: number;
}

export interface PackRead {
  /** Resolves when somebody was asked: a peer is connected and lets us. Never rejects, and may never resolve. */
  readonly live: Promise<void>;
  /** Who gave something so far, `host:port`. */
  readonly givers: ReadonlySet<string>;
  /**
   * To be iterated once, which gives the place up when it ends. Throws swarm-exhausted when nobody is left who could give the rest, `aborted`
   * when the signal says so or all is closed.
   */
  readonly bytes: AsyncIterable<Buffer>;
}

export interface PackStatus {
  /** At this moment: connected, and let ask. */
  connections: number;
  warm: number;
  /** Packs that there are connections for. */
  packs: number;
  /** NAR files that are wanted at this moment. */
  wanted: number;
  /** Of blocks that were wanted. */
  downloadedBytes: number;
}

/** A pack that something is wanted of, or that somebody is connected for. */
interface Pack {
  readonly infoHash: InfoHash;
  readonly addresses: Map<string, PeerAddress>;
  readonly peers: Map<string, PackPeer>;
  readonly wanted: Map<PackRange, Wanted>;
}

interface Wanted {
  readonly range: PackRange;
  /** Who is asked for it; `undefined` while nobody can be. */
  peer: PackPeer | undefined;
  waitsSinceMs: number;
  isLive(): void;
}

export class PackConnections implements PackPeerEvents {
  readonly #limits: PackLimits;
  readonly #book: PeerBook | undefined;
  readonly #peerId: Buffer;
  readonly #onFault: (error: unknown) => void;
  readonly #packs = new Map<InfoHash, Pack>();
  readonly #closing = new Set<Promise<void>>();
  /** Until when somebody is not tried for a pack, by infohash and peer, or for any, by peer. */
  readonly #failed = new Map<string, number>();
  /** How often in a row somebody failed for a pack. */
  readonly #failures = new Map<string, number>();
  /** In how many packs somebody gave wrong bytes. */
  readonly #spoilt = new Map<string, number>();
  #connections = 0;
  #downloadedBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  /** A clock that goes on at each sweep, and never by much. */
  #patientMs = 0;
  #sweptMs = 0;
  #closed = false;

  constructor(options: PackConnectionsOptions = {}) {
    const { limits, book, peerId = makePeerId(), onFault = () => {} } = options;
    this.#limits = { ...packLimits, ...limits };
    this.#book = book;
    this.#peerId = peerId;
    this.#onFault = onFault;
  }

  /** Connects to some of these peers, so that one can be asked at once when something is wanted. Never waits. */
  warm(infoHash: InfoHash, peers: readonly PeerAddress[]): void {
    if (this.#closed) return;
    const pack = this.#packOf(infoHash, peers);
    this.#connectMore(pack);
    this.#tidy(pack);
  }

  /** Whether somebody who has the pack can be asked at once. */
  isWarm(infoHash: InfoHash): boolean {
    for (const peer of this.#packs.get(infoHash)?.peers.values() ?? []) if (peer.open) return true;
    return false;
  }

  /** Asks for a place, from now on. `undefined` when there is nobody to ask. */
  open(place: PackPlace, signal: AbortSignal): PackRead | undefined {
    const { infoHash, offset, lengthBytes, stepBytes, peers } = place;
    if (this.#closed || signal.aborted || lengthBytes < 1 || lengthBytes > this.#limits.rangeBytes)
      return undefined;
    // No pack is so long.
    if (offset + lengthBytes > packTorrentMaxBytes) return undefined;
    const pack = this.#packOf(infoHash, peers);
    const range = new PackRange(offset, lengthBytes);
    let isLive = (): void => {};
    const live = new Promise<void>((resolve) => {
      isLive = resolve;
    });
    const wanted: Wanted = { range, peer: undefined, waitsSinceMs: this.#patientMs, isLive };
    pack.wanted.set(range, wanted);
    this.#assign(pack, wanted);
    if (range.error !== undefined) {
      this.#giveUp(pack, wanted);
      return undefined;
    }
    const onAbort = (): void => {
      range.fail(new NarswarmError('aborted', 'fetching was given up'));
      this.#giveUp(pack, wanted);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    const end = (): void => {
      signal.removeEventListener('abort', onAbort);
      this.#giveUp(pack, wanted);
    };
    return { live, givers: range.givers, bytes: readUntilEnd(range, stepBytes, end) };
  }

  /**
   * What they gave were wrong bytes: they are left, for this pack, and after several for all. Not for ever, and nobody else is told: it may be
   * that the place was wrong.
   */
  distrust(infoHash: InfoHash, givers: Iterable<string>): void {
    const pack = this.#packs.get(infoHash);
    const { spoiltMs, spoiltPacks } = this.#limits;
    for (const key of [...givers]) {
      const id = failedId(infoHash, key);
      const count = (this.#spoilt.get(key) ?? 0) + (this.#isFailed(id) ? 0 : 1);
      remember(this.#spoilt, key, count, this.#limits.failedPeers);
      this.#fail(id, spoiltMs);
      if (count >= spoiltPacks) this.#fail(key, spoiltMs);
      pack?.peers.get(key)?.close();
    }
  }

  status(): PackStatus {
    const peers = [...this.#packs.values()].flatMap((pack) => [...pack.peers.values()]);
    let wanted = 0;
    for (const pack of this.#packs.values()) wanted += pack.wanted.size;
    return {
      connections: this.#connections,
      warm: peers.filter((peer) => peer.open).length,
      packs: this.#packs.size,
      wanted,
      downloadedBytes: peers.reduce((sum, peer) => sum + peer.gaveBytes, this.#downloadedBytes),
    };
  }

  /** Breaks everything off. Resolves when all connections are closed. May be called twice. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    for (const pack of [...this.#packs.values()]) {
      for (const { range } of pack.wanted.values())
        range.fail(new NarswarmError('aborted', 'fetching was given up'));
      for (const peer of [...pack.peers.values()]) peer.close();
    }
    await Promise.all(this.#closing);
  }

  // What peers tell; see PackPeerEvents

  opened(peer: PackPeer): void {
    this.#book?.reached(peer.address);
    const pack = this.#packs.get(peer.infoHash);
    if (pack === undefined) return;
    for (const wanted of pack.wanted.values()) if (wanted.peer === undefined) this.#assign(pack, wanted);
  }

  lost(peer: PackPeer, range: PackRange): void {
    const pack = this.#packs.get(peer.infoHash);
    const wanted = pack?.wanted.get(range);
    if (pack === undefined || wanted === undefined) return;
    wanted.peer = undefined;
    wanted.waitsSinceMs = this.#patientMs;
    if (!peer.open) range.refusedBy.add(peer.key);
    // One that is being closed makes room for another first.
    if (!peer.isClosed) this.#assign(pack, wanted);
  }

  closed(peer: PackPeer): void {
    const { infoHash, key, address, pace } = peer;
    this.#connections--;
    this.#downloadedBytes += peer.gaveBytes;
    this.#closing.add(peer.gone);
    void peer.gone.then(() => this.#closing.delete(peer.gone));
    if (peer.violated) this.#book?.ban(address, 'wire-violation');
    else if (!peer.greeted) this.#book?.missed(address, peer.refused || this.#closed);
    else if (pace !== undefined) this.#book?.gave(address, pace);
    const pack = this.#packs.get(infoHash);
    pack?.peers.delete(key);
    if (this.#closed || pack === undefined) return;
    if (!peer.greeted || peer.owed || peer.violated)
      this.#failedAgain(failedId(infoHash, key), peer.gaveBytes);
    for (const wanted of [...pack.wanted.values()]) if (wanted.peer === undefined) this.#assign(pack, wanted);
    this.#tidy(pack);
  }

  fault(error: unknown): void {
    this.#onFault(error);
  }

  /** The best who can be asked is; otherwise it waits for one who is being connected to, or fails. */
  #assign(pack: Pack, wanted: Wanted): void {
    const { range } = wanted;
    if (this.#closed || range.error !== undefined) return;
    let best: PackPeer | undefined;
    let bestMs = Number.POSITIVE_INFINITY;
    let hope = false;
    this.#connectMore(pack, range.refusedBy);
    for (const peer of pack.peers.values()) {
      if (range.refusedBy.has(peer.key)) continue;
      hope = true;
      const waitMs = peer.open ? peer.waitMs(range.missingBytes) : Number.POSITIVE_INFINITY;
      if (waitMs >= bestMs) continue;
      best = peer;
      bestMs = waitMs;
    }
    if (best !== undefined) {
      wanted.peer = best;
      wanted.isLive();
      best.want(range);
    } else if (!hope) {
      range.fail(new NarswarmError('swarm-exhausted', 'no usable peer is left'));
    }
  }

  #packOf(infoHash: InfoHash, peers: readonly PeerAddress[]): Pack {
    let pack = this.#packs.get(infoHash);
    if (pack === undefined) {
      pack = { infoHash, addresses: new Map(), peers: new Map(), wanted: new Map() };
      this.#packs.set(infoHash, pack);
    }
    for (const address of peers) {
      if (pack.addresses.size >= this.#limits.addressesPerPack) break;
      pack.addresses.set(printPeer(address), address);
    }
    return pack;
  }

  /** Those in `without` count as none: they will not give what is wanted. */
  #connectMore(pack: Pack, without: ReadonlySet<string> = new Set()): void {
    const { peersPerPack, connections } = this.#limits;
    let lacking = peersPerPack;
    for (const key of pack.peers.keys()) if (!without.has(key)) lacking--;
    if (lacking <= 0 || pack.peers.size >= pack.addresses.size) return;
    const rest = [...pack.addresses].filter(
      ([key, address]) =>
        !pack.peers.has(key) &&
        !this.#isFailed(key) &&
        !this.#isFailed(failedId(pack.infoHash, key)) &&
        this.#book?.rests(address) !== true,
    );
    const addresses = rest.map(([, address]) => address);
    for (const address of (this.#book?.rank(addresses) ?? localFirst(addresses)).slice(0, lacking)) {
      if (this.#connections >= connections && !this.#makeRoom(pack)) return;
      this.#connect(pack, address);
    }
  }

  #connect(pack: Pack, address: PeerAddress): void {
    const key = printPeer(address);
    const { infoHash } = pack;
    this.#connections++;
    if (this.#timer === undefined) {
      this.#sweptMs = performance.now();
      this.#timer = setInterval(() => this.#sweep(), this.#limits.sweepMs);
    }
    const clock = (): number => this.#patientMs;
    const shared = { peerId: this.#peerId, limits: this.#limits, events: this, clock };
    pack.peers.set(key, new PackPeer({ infoHash, address, key, ...shared }));
  }

  /**
   * Makes room for a connection: the one that has been idle longest goes. False when all are in use, or about to stand: whoever names pack after
   * pack makes this machine connect to no more addresses than it waits for.
   */
  #makeRoom(except: Pack): boolean {
    let oldest: PackPeer | undefined;
    for (const pack of this.#packs.values()) {
      if (pack === except) continue;
      for (const peer of pack.peers.values())
        if (peer.greeted && peer.idle && (oldest === undefined || peer.usedMs < oldest.usedMs)) oldest = peer;
    }
    if (oldest === undefined) return false;
    // Kept for this pack: the other one looks for somebody else at once.
    this.#connections++;
    oldest.close();
    this.#connections--;
    return true;
  }

  #giveUp(pack: Pack, wanted: Wanted): void {
    pack.wanted.delete(wanted.range);
    wanted.peer?.forget(wanted.range);
    this.#tidy(pack);
  }

  /** Forgets a pack that nobody is connected for. */
  #tidy(pack: Pack): void {
    if (pack.peers.size > 0 || pack.wanted.size > 0) return;
    if (this.#packs.get(pack.infoHash) === pack) this.#packs.delete(pack.infoHash);
    if (this.#packs.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Peers are not to blame for the time in which this process had no turn. */
  #advance(): number {
    const nowMs = performance.now();
    this.#patientMs += Math.min(nowMs - this.#sweptMs, this.#limits.sweepMs * 1.5);
    this.#sweptMs = nowMs;
    return this.#patientMs;
  }

  #sweep(): void {
    const nowMs = this.#advance();
    for (const pack of [...this.#packs.values()]) {
      for (const peer of [...pack.peers.values()]) if (peer.failing(nowMs) !== undefined) peer.close();
      for (const { range, peer, waitsSinceMs } of pack.wanted.values()) {
        // Connected to, perhaps, and never let ask.
        if (peer === undefined && nowMs - waitsSinceMs > this.#limits.connectMs)
          range.fail(new NarswarmError('swarm-stalled', 'no peer lets us ask'));
      }
    }
  }

  #isFailed(id: string): boolean {
    return performance.now() < (this.#failed.get(id) ?? 0);
  }

  #failedAgain(id: string, gaveBytes: number): void {
    const { failedMs, failedMostMs, failedPeers, provenBytes } = this.#limits;
    const before = gaveBytes >= provenBytes ? 0 : (this.#failures.get(id) ?? 0);
    remember(this.#failures, id, before + 1, failedPeers);
    this.#fail(id, Math.min(failedMs * 2 ** before, failedMostMs));
  }

  #fail(id: string, ms: number): void {
    const untilMs = Math.max(performance.now() + ms, this.#failed.get(id) ?? 0);
    remember(this.#failed, id, untilMs, this.#limits.failedPeers);
  }
}

async function* readUntilEnd(range: PackRange, stepBytes: number, end: () => void): AsyncGenerator<Buffer> {
  try {
    yield* range.read(stepBytes);
  } finally {
    end();
  }
}

function failedId(infoHash: InfoHash, key: string): string {
  return `${infoHash} ${key}`;
}

/** Puts it last; the first goes when there are too many. */
function remember(map: Map<string, number>, key: string, value: number, most: number): void {
  map.delete(key);
  map.set(key, value);
  const first = map.keys().next();
  if (map.size > most && !first.done) map.delete(first.value);
}
