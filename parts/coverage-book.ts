/**
 * Which mirrors hold which NAR files of a catalog, as far as they say so and it was tried: for the tracker, `/resolve` and the count of seeds.
 *
 * A mirror is believed when a NAR file that it names, chosen here at random, came from it; and only about its own address. Whoever claims
 * what it does not have is found out sooner or later, and is not named to anybody meanwhile.
 */

import type { Bitmap } from '../nar/bitmap.ts';
import { NarswarmError } from '../nar/errors.ts';
import { AddressCounts } from '../swarm/address/address-counts.ts';
import { networkKey } from '../swarm/address/address-key.ts';
import { IpAddress } from '../swarm/address/ip-address.ts';
import { type PeerAddress, printPeer } from '../swarm/address/peer-address.ts';
import type { Logger } from '../web/log.ts';
import { type CoverageAnswer, type OrdinalBase, parseCoverage } from './coverage.ts';

export interface CoverageLimits {
  /** Mirrors that are remembered. */
  mirrors: number;
  /** At one address, which may be that of a site with several. */
  mirrorsPerAddress: number;
  /** Bytes of all their bitmaps; those that hold everything take none. */
  bitmapBytes: number;
  /** Mirrors that are named for one torrent: a fetch does not connect to more. */
  namedPerTorrent: number;
  /** When mirrors are asked to come again. */
  intervalSeconds: number;
  /** A mirror that did not come again for so many intervals is gone. */
  expiryIntervals: number;
  /** Each may cost an inflated bitmap and a trial. */
  requestsPerAddressAndMinute: number;
  /** Trials under way; what comes meanwhile is asked to come again. */
  trials: number;
  /** Of them at one address: who lets each wait for its end must not keep everybody else from theirs. */
  trialsPerAddress: number;
  /** Milliseconds in which a mirror that failed its trial is not tried again. */
  failedMs: number;
}

export const coverageLimits: Readonly<CoverageLimits> = {
  mirrors: 64,
  mirrorsPerAddress: 4,
  bitmapBytes: 64 * 1024 * 1024,
  namedPerTorrent: 8,
  intervalSeconds: 30 * 60,
  expiryIntervals: 2,
  requestsPerAddressAndMinute: 12,
  trials: 8,
  trialsPerAddress: 2,
  failedMs: 60_000,
};

/** What a book is about, and who writes in it. */
export interface CoverageBookOptions {
  catalog: OrdinalBase;
  /** Whether this program itself has the NAR file. */
  holds(ordinal: number): boolean;
  /** Levels by ordinal of what was asked for; what is not there was not. */
  demand?(): Iterable<readonly [ordinal: number, level: number]>;
  /** Resolves when `peer` gave something of what it holds; rejects otherwise. */
  trial(peer: PeerAddress, held: Bitmap, signal: AbortSignal): Promise<void>;
  logger: Logger;
  /** Milliseconds that never go back. */
  clock: () => number;
  limits?: Partial<CoverageLimits>;
}

export interface MirrorStatus {
  peers: string;
  /** NAR files that it holds. */
  nars: number;
  /** Seconds since it was first believed, and since it came last. */
  knownSeconds: number;
  renewedSeconds: number;
}

export interface CoverageStatus {
  mirrors: MirrorStatus[];
  requests: number;
  refused: number;
  /** Trials that a mirror did not pass. */
  failedTrials: number;
}

interface Mirror {
  readonly key: string;
  readonly peer: PeerAddress;
  readonly sinceMs: number;
  readonly renewedMs: number;
  readonly held: HeldOrdinals;
}

/** A mirror that holds everything needs no bits. */
interface HeldOrdinals {
  readonly ordinals: number;
  readonly size: number;
  readonly bits: Bitmap | undefined;
}

/** How a request ends that is not taken, for HTTP. */
export interface CoverageRefusal {
  status: 400 | 403 | 429 | 503;
  message: string;
  retrySeconds?: number;
}

export class CoverageBook {
  readonly #options: CoverageBookOptions;
  readonly #limits: CoverageLimits;
  /** By `host:port`; the one that came longest ago first. */
  readonly #mirrors = new Map<string, Mirror>();
  readonly #failedUntil = new Map<string, number>();
  readonly #trials = new Map<string, { host: string; ended: Promise<void> }>();
  readonly #requestsAt = new AddressCounts();
  readonly #closing = new AbortController();
  #minute = 0;
  /** Mirrors by ordinal; empty while there are none. */
  #counts = new Uint8Array(0);
  #bitmapBytes = 0;
  #requests = 0;
  #refused = 0;
  #failedTrials = 0;
  #version = 0;
  #turn = 0;

  constructor(options: CoverageBookOptions) {
    this.#options = options;
    this.#limits = { ...coverageLimits, ...options.limits };
  }

  /** Changes with every mirror that comes, changes or goes. */
  get version(): number {
    this.#expire();
    return this.#version;
  }

  /** True when nobody is to be named for anything: the usual case costs nothing. */
  get isEmpty(): boolean {
    return this.#mirrors.size === 0;
  }

  /**
   * Takes what a mirror at `remoteAddress` says. What it holds counts once a trial succeeded, which is not waited for; the answer is
   * what is known of the others' copies.
   */
  async take(body: unknown, remoteAddress: string): Promise<CoverageAnswer | CoverageRefusal> {
    this.#requests++;
    this.#expire();
    const from = new IpAddress();
    if (!from.read(remoteAddress)) return this.#refuse(400, 'the address of the request is not known');
    if (!this.#admit(from)) return this.#refuse(429, 'too many requests from this address', 60);
    const { catalog } = this.#options;
    let coverage: Awaited<ReturnType<typeof parseCoverage>>;
    try {
      coverage = await parseCoverage(body, catalog);
    } catch (error) {
      if (!(error instanceof NarswarmError)) throw error;
      return this.#refuse(400, error.message);
    }
    const host = remoteAddress.replace(/^::ffff:(?=\d+\.)/, '').replace(/%.*$/, '');
    const peer = { host, port: coverage.port };
    const key = printPeer(peer);
    const known = this.#mirrors.get(key);
    const refusal = this.#room(known, key, host, bytesOf(ordinalsOf(coverage.held)));
    if (refusal !== undefined) return refusal;
    if (coverage.held.size === 0) this.#forget(known);
    else this.#try(key, peer, coverage.held);
    return this.#answer(coverage.held.length, this.#mirrors.get(key)?.held);
  }

  /** Mirrors that hold it, at most as many as are named; not the same ones first each time. */
  peersOf(ordinal: number): PeerAddress[] {
    this.#expire();
    const found = [...this.#mirrors.values()]
      .filter(({ held }) => hasOrdinal(held, ordinal))
      .map(({ peer }) => peer);
    const { namedPerTorrent } = this.#limits;
    if (found.length <= namedPerTorrent) return found;
    const start = this.#turn++ % found.length;
    return [...found.slice(start), ...found.slice(0, start)].slice(0, namedPerTorrent);
  }

  /** Mirrors that hold it. */
  seedsOf(ordinal: number): number {
    this.#expire();
    return this.#counts[ordinal] ?? 0;
  }

  /** As `seedsOf` at this moment, but mirrors in one network count once: whoever loses one may lose all of them. */
  independentSeeds(): (ordinal: number) => number {
    this.#expire();
    const networks = new Map<string, HeldOrdinals[]>();
    for (const { peer, held } of this.#mirrors.values()) {
      const network = networkKey(peer.host);
      networks.set(network, [...(networks.get(network) ?? []), held]);
    }
    const groups = [...networks.values()];
    return (ordinal) => groups.filter((group) => group.some((held) => hasOrdinal(held, ordinal))).length;
  }

  status(): CoverageStatus {
    this.#expire();
    const now = this.#options.clock();
    const seconds = (sinceMs: number): number => Math.round((now - sinceMs) / 1_000);
    return {
      mirrors: [...this.#mirrors.values()].map(({ key, held, sinceMs, renewedMs }) => ({
        peers: key,
        nars: held.size,
        knownSeconds: seconds(sinceMs),
        renewedSeconds: seconds(renewedMs),
      })),
      requests: this.#requests,
      refused: this.#refused,
      failedTrials: this.#failedTrials,
    };
  }

  /** Ends trials that are under way. May be called twice. */
  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#trials.values().map(({ ended }) => ended));
  }

  #refuse(status: CoverageRefusal['status'], message: string, retrySeconds?: number): CoverageRefusal {
    this.#refused++;
    return { status, message, ...(retrySeconds === undefined ? {} : { retrySeconds }) };
  }

  #admit(from: IpAddress): boolean {
    const minute = Math.floor(this.#options.clock() / 60_000);
    if (minute !== this.#minute) {
      this.#minute = minute;
      this.#requestsAt.clear();
    }
    if (this.#requestsAt.of(from) >= this.#limits.requestsPerAddressAndMinute) return false;
    this.#requestsAt.add(from, 1);
    return true;
  }

  /** Whether there is room for it. One that is known already is never refused for the others' sake. */
  #room(
    known: Mirror | undefined,
    key: string,
    host: string,
    wantedBytes: number,
  ): CoverageRefusal | undefined {
    const { mirrors, mirrorsPerAddress, bitmapBytes, trials, trialsPerAddress, intervalSeconds } =
      this.#limits;
    if (this.#closing.signal.aborted) return this.#refuse(503, 'the program is stopping');
    const before = known === undefined ? 0 : bytesOf(known.held);
    if (this.#bitmapBytes - before + wantedBytes > bitmapBytes)
      return this.#refuse(503, 'no memory is left for another mirror', intervalSeconds);
    const now = this.#options.clock();
    const failedUntil = this.#failedUntil.get(key) ?? 0;
    if (failedUntil > now) {
      const seconds = Math.ceil((failedUntil - now) / 1_000);
      return this.#refuse(403, `nothing came from ${key} when it was tried`, seconds);
    }
    const here = this.#trials.values().reduce((sum, trial) => sum + (trial.host === host ? 1 : 0), 0);
    if (this.#trials.has(key) || this.#trials.size >= trials || here >= trialsPerAddress)
      return this.#refuse(429, 'a trial is under way', 5);
    if (known !== undefined) return undefined;
    if (this.#mirrors.size >= mirrors)
      return this.#refuse(503, `${mirrors} mirrors are known already`, intervalSeconds);
    const beside = [...this.#mirrors.values()].filter(({ peer }) => peer.host === host);
    if (beside.length >= mirrorsPerAddress)
      return this.#refuse(403, `${mirrorsPerAddress} mirrors at this address are known already`);
    return undefined;
  }

  #try(key: string, peer: PeerAddress, held: Bitmap): void {
    const { trial, clock, logger } = this.#options;
    const { signal } = this.#closing;
    const ended = trial(peer, held, signal)
      .then(
        () => {
          if (!signal.aborted) this.#believe(key, peer, held);
        },
        (error: unknown) => {
          if (signal.aborted) return;
          this.#failedTrials++;
          this.#forget(this.#mirrors.get(key));
          this.#noteFailed(key, clock() + this.#limits.failedMs);
          logger.warn('mirror-failed-trial', { peers: key, error });
        },
      )
      .finally(() => this.#trials.delete(key));
    this.#trials.set(key, { host: peer.host, ended });
  }

  #believe(key: string, peer: PeerAddress, bits: Bitmap): void {
    const { clock, logger } = this.#options;
    const now = clock();
    const known = this.#mirrors.get(key);
    const sinceMs = known?.sinceMs ?? now;
    const held = ordinalsOf(bits);
    this.#forget(known);
    this.#count(held, 1);
    this.#bitmapBytes += bytesOf(held);
    this.#mirrors.set(key, { key, peer, sinceMs, renewedMs: now, held });
    this.#version++;
    if (known === undefined) logger.info('mirror-joined', { peers: key, nars: held.size });
  }

  #forget(mirror: Mirror | undefined): void {
    if (mirror === undefined || !this.#mirrors.delete(mirror.key)) return;
    this.#count(mirror.held, -1);
    this.#bitmapBytes -= bytesOf(mirror.held);
    this.#version++;
    if (this.#mirrors.size === 0) this.#counts = new Uint8Array(0);
  }

  #count({ ordinals, bits }: HeldOrdinals, change: 1 | -1): void {
    if (this.#counts.length < ordinals) {
      const longer = new Uint8Array(Math.max(ordinals, this.#options.catalog.ordinals));
      longer.set(this.#counts);
      this.#counts = longer;
    }
    const counts = this.#counts;
    if (bits === undefined)
      for (let ordinal = 0; ordinal < ordinals; ordinal++) counts[ordinal] = (counts[ordinal] ?? 0) + change;
    else for (const ordinal of bits) counts[ordinal] = (counts[ordinal] ?? 0) + change;
  }

  #noteFailed(key: string, untilMs: number): void {
    const now = this.#options.clock();
    for (const [other, until] of this.#failedUntil) if (until <= now) this.#failedUntil.delete(other);
    // Who fails from so many addresses costs itself more than us.
    if (this.#failedUntil.size < this.#limits.mirrors * 16) this.#failedUntil.set(key, untilMs);
  }

  #expire(): void {
    if (this.#mirrors.size === 0) return;
    const { intervalSeconds, expiryIntervals } = this.#limits;
    const goneMs = this.#options.clock() - intervalSeconds * expiryIntervals * 1_000;
    for (const mirror of this.#mirrors.values()) {
      if (mirror.renewedMs > goneMs) continue;
      this.#forget(mirror);
      this.#options.logger.info('mirror-gone', { peers: mirror.key });
    }
  }

  /** `counted`: what counts as the asker's own at this moment. */
  #answer(length: number, counted: HeldOrdinals | undefined): CoverageAnswer {
    const { holds, demand } = this.#options;
    const seeds = new Uint8Array(length);
    for (let ordinal = 0; ordinal < length; ordinal++) {
      const own = counted !== undefined && hasOrdinal(counted, ordinal) ? 1 : 0;
      seeds[ordinal] = (this.#counts[ordinal] ?? 0) - own + (holds(ordinal) ? 1 : 0);
    }
    const levels = new Uint8Array(length);
    for (const [ordinal, level] of demand?.() ?? [])
      if (ordinal < length) levels[ordinal] = Math.min(255, level);
    return { intervalSeconds: this.#limits.intervalSeconds, seeds, demand: levels };
  }
}

function ordinalsOf(held: Bitmap): HeldOrdinals {
  const { length: ordinals, size } = held;
  return { ordinals, size, bits: size === ordinals ? undefined : held };
}

function hasOrdinal({ ordinals, bits }: HeldOrdinals, ordinal: number): boolean {
  return bits === undefined ? ordinal < ordinals : bits.has(ordinal);
}

function bytesOf({ bits }: HeldOrdinals): number {
  return bits?.bytes.length ?? 0;
}
