/**
 * What the client remembers about peers: who was fast, who cannot be reached, who lied. Asked and told while sockets are read, so all of it
 * is in memory; what should survive a restart is written to a database of its own now and then.
 *
 * A peer is an address with its port: behind one address there may be many. A host is left alone as a whole once several of its ports have
 * lied; this machine's own addresses never are, where proxies and tests give many peers one address.
 */

import { BlockList, isIP } from 'node:net';
import type { DatabaseSync } from 'node:sqlite';
import { addressKey } from '../../swarm/address/address-key.ts';
import { type PeerAddress, printPeer } from '../../swarm/address/peer-address.ts';
import type { BanReason, PeerBook, PeerPace } from '../../swarm/fetch/peer-book.ts';
import { isIn, isNear } from '../../swarm/local/local-networks.ts';
import type { Logger } from '../../web/log.ts';
import { openDisposable } from '../state/disposable-database.ts';
import { isWithin } from '../waiting.ts';

/** Raised by whoever changes the tables. An older database is made anew. */
const schemaVersion = 1;

/** Peers whose pace is kept, and peers that are banned; about 200 bytes each. Those that were heard of last stay. */
const pacesMax = 5_000;
const bansMax = 2_000;
const missedMax = 1_000;
/** A day on which a peer was fast says something for a week, and a lie is remembered as long: addresses change hands. */
const keptMs = 7 * 24 * 60 * 60_000;
/** What no sane peer says may be a fault of its program and not ill will: it is left alone for this long. */
const violationMs = 10 * 60_000;
/** A peer that was not there is tried after the others for this long. */
const missedMs = 10 * 60_000;
/** And not at all, beside anybody else, for this long at first, twice as long each time that it is not there again, up to the second figure. */
const restMs = 1_000;
const restMostMs = 60_000;
/** Milliseconds for which it was waited for, one wait or many, after which a peer that showed no handshake counts as not there. */
const unansweredMs = 2_000;
/** Ports of one host that have lied before all of it is left alone. */
const lyingPortsMax = 3;
/** Bytes a second from which on a known peer comes before unknown ones, and below which it comes after them. */
const fastBytesPerSecond = 1024 * 1024;
const slowBytesPerSecond = 64 * 1024;
/** Share of what was known in what is known next, when a peer was slower than before: it may have had little to give. */
const memoryShare = 0.75;
/** Addresses that wait to be written, of either table, before those that are forgotten meanwhile are left out. */
const unwrittenMax = 2 * pacesMax;
/** What is new is written after this long, in one transaction. */
const writeAfterMs = 5_000;

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');
loopback.addSubnet('::ffff:127.0.0.0', 104, 'ipv6');

const schema = `
CREATE TABLE paces (
  address TEXT PRIMARY KEY,
  bytes_per_second REAL NOT NULL,
  round_trip_ms REAL NOT NULL,
  at INTEGER NOT NULL
) STRICT;
CREATE TABLE bans (address TEXT PRIMARY KEY, host TEXT NOT NULL, why TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
`;

interface Pace extends PeerPace {
  readonly atMs: number;
}

interface Missed {
  readonly atMs: number;
  /** From then on. */
  readonly restMs: number;
}

/** Somebody who has not answered yet. */
interface Unanswered {
  /** Milliseconds in which it was waited for, and until when they are counted. */
  readonly ms: number;
  readonly untilMs: number;
}

interface Ban {
  readonly host: string;
  readonly why: BanReason;
  readonly atMs: number;
}

export interface KeptPeerBookOptions {
  /** Of its database. */
  path: string;
  logger: Logger;
  /** Milliseconds since the epoch. */
  clock: () => number;
}

export class KeptPeerBook implements PeerBook {
  readonly #logger: Logger;
  readonly #clock: () => number;
  /** Without one nothing survives a restart. */
  #db: DatabaseSync | undefined;
  /** By address, those that were told of last at the end. */
  readonly #paces = new Map<string, Pace>();
  readonly #bans = new Map<string, Ban>();
  readonly #missed = new Map<string, Missed>();
  readonly #unanswered = new Map<string, Unanswered>();
  /** Banned ports of each host. */
  readonly #lyingPorts = new Map<string, number>();
  /** Addresses whose rows are not written, or not removed, yet. */
  readonly #unwritten = { paces: new Set<string>(), bans: new Set<string>() };
  #timer: NodeJS.Timeout | undefined;

  /** Never throws: a database that cannot be used is made anew, and done without if that fails. */
  constructor({ path, logger, clock }: KeptPeerBookOptions) {
    this.#logger = logger;
    this.#clock = clock;
    try {
      this.#db = openDisposable({ path, schema, tables: ['paces', 'bans'], version: schemaVersion });
      this.#read(this.#db);
    } catch (error) {
      logger.warn('peer-book-failed', { error });
    }
  }

  isBanned({ host, port }: PeerAddress): boolean {
    const key = printPeer({ host, port });
    const ban = this.#bans.get(key);
    if (ban !== undefined && this.#expired(ban)) this.#forgive(key, ban);
    else if (ban !== undefined) return true;
    return !isLoopback(host) && this.#isHostBanned(addressKey(host));
  }

  ban(address: PeerAddress, why: BanReason): void {
    const key = printPeer(address);
    const before = this.#bans.get(key);
    if (before !== undefined && !this.#expired(before) && (before.why === why || why === 'wire-violation'))
      return;
    if (before !== undefined) this.#forgive(key, before);
    const host = addressKey(address.host);
    this.#bans.set(key, { host, why, atMs: this.#clock() });
    this.#lyingPorts.set(host, (this.#lyingPorts.get(host) ?? 0) + 1);
    this.#changed('bans', key);
    if (this.#paces.delete(key)) this.#changed('paces', key);
    this.#logger.warn('peer-banned', { peer: key, why });
    const [oldest] = this.#bans;
    if (this.#bans.size > bansMax && oldest !== undefined) this.#forgive(...oldest);
  }

  gave(address: PeerAddress, { bytesPerSecond, roundTripMs }: PeerPace): void {
    const key = printPeer(address);
    this.reached(address);
    const known = this.paceOf(address);
    const slower = known !== undefined && known.bytesPerSecond > bytesPerSecond;
    const farther = known !== undefined && known.roundTripMs < roundTripMs;
    this.#paces.delete(key);
    this.#paces.set(key, {
      bytesPerSecond: slower ? mix(known.bytesPerSecond, bytesPerSecond) : bytesPerSecond,
      roundTripMs: farther ? mix(known.roundTripMs, roundTripMs) : roundTripMs,
      atMs: this.#clock(),
    });
    this.#changed('paces', key);
    const [oldest] = this.#paces.keys();
    if (this.#paces.size <= pacesMax || oldest === undefined) return;
    this.#paces.delete(oldest);
    this.#changed('paces', oldest);
  }

  reached(address: PeerAddress): void {
    if (this.#missed.size + this.#unanswered.size === 0) return;
    const key = printPeer(address);
    this.#missed.delete(key);
    this.#unanswered.delete(key);
  }

  missed(address: PeerAddress, refused: boolean): void {
    const key = printPeer(address);
    this.#unanswered.delete(key);
    // Several fetches try at once.
    if (this.rests(address)) return;
    const restedMs = this.#missed.get(key)?.restMs ?? 0;
    const longer = Math.min(Math.max(restedMs * 2, restMs), restMostMs);
    remember(this.#missed, key, { atMs: this.#clock(), restMs: refused ? 0 : longer });
  }

  unanswered(address: PeerAddress, ms: number): void {
    const key = printPeer(address);
    const nowMs = this.#clock();
    const before = this.#unanswered.get(key);
    // Those who waited at the same time count once.
    const more = Math.min(ms, Math.max(0, nowMs - (before?.untilMs ?? 0)));
    const waitedMs = (before?.ms ?? 0) + more;
    if (waitedMs >= unansweredMs) this.missed(address, false);
    else remember(this.#unanswered, key, { ms: waitedMs, untilMs: nowMs });
  }

  rests(address: PeerAddress): boolean {
    if (this.#missed.size === 0) return false;
    const missed = this.#missed.get(printPeer(address));
    return missed !== undefined && isWithin(this.#clock() - missed.atMs, missed.restMs);
  }

  paceOf(address: PeerAddress): PeerPace | undefined {
    const pace = this.#paces.get(printPeer(address));
    return pace === undefined || this.#expired(pace) ? undefined : pace;
  }

  rank(addresses: readonly PeerAddress[]): PeerAddress[] {
    return addresses
      .filter((address) => !this.isBanned(address))
      .map((address) => ({
        address,
        place: this.#place(address),
        rate: this.paceOf(address)?.bytesPerSecond ?? 0,
      }))
      .sort((a, b) => a.place - b.place || b.rate - a.rate)
      .map(({ address }) => address);
  }

  /** `unwritten`: what is known to be written, or removed, and is not yet. */
  status(): { known: number; banned: number; unwritten: number } {
    const { paces, bans } = this.#unwritten;
    return { known: this.#paces.size, banned: this.#bans.size, unwritten: paces.size + bans.size };
  }

  /** Writes what is not written. May be called twice. */
  close(): void {
    this.#write();
    this.#db?.close();
    this.#db = undefined;
  }

  #isHostBanned(host: string): boolean {
    const isBanned = (): boolean => (this.#lyingPorts.get(host) ?? 0) >= lyingPortsMax;
    if (!isBanned()) return false;
    for (const [key, ban] of this.#bans) if (ban.host === host && this.#expired(ban)) this.#forgive(key, ban);
    return isBanned();
  }

  #place(address: PeerAddress): number {
    const missed = this.#missed.get(printPeer(address));
    if (missed !== undefined && isWithin(this.#clock() - missed.atMs, missedMs)) return 4;
    if (isNear(address.host)) return 0;
    const rate = this.paceOf(address)?.bytesPerSecond;
    if (rate === undefined || (rate < fastBytesPerSecond && rate >= slowBytesPerSecond)) return 2;
    return rate < slowBytesPerSecond ? 3 : 1;
  }

  /** Also what is from a time that is yet to come, by more than a clock is corrected. */
  #expired({ atMs, why }: { atMs: number; why?: BanReason }): boolean {
    return Math.abs(this.#clock() - atMs) > (why === 'wire-violation' ? violationMs : keptMs);
  }

  #forgive(key: string, { host }: Ban): void {
    this.#bans.delete(key);
    const ports = (this.#lyingPorts.get(host) ?? 0) - 1;
    if (ports > 0) this.#lyingPorts.set(host, ports);
    else this.#lyingPorts.delete(host);
    this.#changed('bans', key);
  }

  #changed(table: 'paces' | 'bans', key: string): void {
    if (this.#db === undefined) return;
    const keys = this.#unwritten[table];
    keys.add(key);
    this.#timer ??= setTimeout(() => this.#write(), writeAfterMs).unref();
    if (keys.size <= unwrittenMax) return;
    // The disk takes nothing for long. Rows of those that are forgotten here stay there, until their time is over.
    const known: ReadonlyMap<string, unknown> = table === 'paces' ? this.#paces : this.#bans;
    for (const each of keys) if (!known.has(each)) keys.delete(each);
  }

  #read(db: DatabaseSync): void {
    for (const table of ['paces', 'bans']) {
      const outdated = db.prepare(`DELETE FROM ${table} WHERE at NOT BETWEEN ? AND ?`);
      outdated.run(this.#clock() - keptMs, this.#clock() + keptMs);
    }
    for (const { address, bytes_per_second, round_trip_ms, at } of db
      .prepare('SELECT * FROM (SELECT * FROM paces ORDER BY at DESC LIMIT ?) ORDER BY at')
      .all(pacesMax)) {
      const pace = {
        bytesPerSecond: Number(bytes_per_second),
        roundTripMs: Number(round_trip_ms),
        atMs: Number(at),
      };
      if (!this.#expired(pace)) this.#paces.set(String(address), pace);
    }
    for (const { address, host, why, at } of db
      .prepare('SELECT * FROM (SELECT * FROM bans ORDER BY at DESC LIMIT ?) ORDER BY at')
      .all(bansMax)) {
      const reason = why === 'wire-violation' ? why : 'wrong-bytes';
      const ban: Ban = { host: String(host), why: reason, atMs: Number(at) };
      if (this.#expired(ban)) continue;
      this.#bans.set(String(address), ban);
      this.#lyingPorts.set(ban.host, (this.#lyingPorts.get(ban.host) ?? 0) + 1);
    }
  }

  #write(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const db = this.#db;
    const { paces, bans } = this.#unwritten;
    if (db === undefined || paces.size + bans.size === 0) return;
    try {
      db.exec('BEGIN IMMEDIATE');
      try {
        const setPace = db.prepare('INSERT OR REPLACE INTO paces VALUES (?, ?, ?, ?)');
        const dropPace = db.prepare('DELETE FROM paces WHERE address = ?');
        for (const key of paces) {
          const pace = this.#paces.get(key);
          if (pace === undefined) dropPace.run(key);
          else setPace.run(key, pace.bytesPerSecond, pace.roundTripMs, Math.floor(pace.atMs));
        }
        const setBan = db.prepare('INSERT OR REPLACE INTO bans VALUES (?, ?, ?, ?)');
        const dropBan = db.prepare('DELETE FROM bans WHERE address = ?');
        for (const key of bans) {
          const ban = this.#bans.get(key);
          if (ban === undefined) dropBan.run(key);
          else setBan.run(key, ban.host, ban.why, Math.floor(ban.atMs));
        }
        db.exec('COMMIT');
      } catch (error) {
        db.exec('ROLLBACK');
        throw error;
      }
      paces.clear();
      bans.clear();
    } catch (error) {
      // They are written with what comes next; a full disk takes nothing from what is known until the client stops.
      this.#logger.warn('peer-book-failed', { error });
    }
  }
}

function mix(known: number, now: number): number {
  return memoryShare * known + (1 - memoryShare) * now;
}

/** Puts it last; the first goes when there are too many. */
function remember<Value>(map: Map<string, Value>, key: string, value: Value): void {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > missedMax && oldest !== undefined) map.delete(oldest);
}

function isLoopback(host: string): boolean {
  return isIP(host) !== 0 && isIn(loopback, host);
}
