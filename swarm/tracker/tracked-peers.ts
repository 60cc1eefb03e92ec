/**
 * Who has which torrent, besides the permanent peers: who is taken in, who has to make room, who is gone. Torrents and peers are offsets
 * into the table, and `none`.
 */

import { randomInt } from 'node:crypto';
import type { InfoHash } from '../../nar/hash.ts';
import { AddressCounts } from '../address/address-counts.ts';
import { IpAddress } from '../address/ip-address.ts';
import { PeerTable } from './peer-table.ts';
import { none } from './slab.ts';
import type { TorrentCounts } from './tracker.ts';
import type { TrackerLimits } from './tracker-limits.ts';
import type { AnnounceQuery } from './tracker-query.ts';

/** A peer that missed two announces is gone. */
const expiryIntervals = 2;

export class TrackedPeers {
  readonly table: PeerTable;
  readonly #limits: Readonly<TrackerLimits>;
  readonly #perAddress = new AddressCounts();
  readonly #idKey = randomInt(2 ** 32);
  readonly #dropped = new IpAddress();

  constructor(limits: Readonly<TrackerLimits>) {
    this.#limits = limits;
    this.table = new PeerTable(limits.torrents, limits.peers);
  }

  /** Returns where the torrent is now, `none` when nobody is left. */
  register(found: number, query: AnnounceQuery, from: IpAddress | undefined, now: number): number {
    const table = this.table;
    const id = this.#fingerprint(query.peerId);
    let at = found;
    if (at !== none) {
      this.#dropGone(at, now);
      if (from !== undefined) this.#dropSame(at, id, from);
    }
    const stays = query.event !== 'stopped' && query.port > 0 && from !== undefined;
    if (stays && this.#perAddress.of(from) < this.#limits.peersPerAddress) {
      if (at === none) {
        if (table.torrents >= this.#limits.torrents) this.dropTorrent(table.oldest);
        at = table.add(query.infoHash);
      } else table.touch(at);
      this.#makeRoom(at, from);
      table.addPeer(at, from, { port: query.port, seed: query.left === 0, seen: now, id });
      this.#perAddress.add(from, 1);
    } else if (at !== none && table.peersOf(at) === 0) {
      table.remove(at);
      at = none;
    }
    return at;
  }

  #fingerprint(peerId: Uint8Array): number {
    // FNV-1a: it tells apart the few peers at one address.
    let hash = this.#idKey;
    for (const byte of peerId) hash = Math.imul(hash ^ byte, 0x01000193);
    return hash;
  }

  #dropSame(at: number, id: number, from: IpAddress): void {
    const table = this.table;
    let before = none;
    for (let of = table.firstPeer(at); of !== none; of = table.nextPeer(of)) {
      if (table.idOf(of) === id && table.isAt(of, from)) {
        this.#drop(at, before, of);
        return;
      }
      before = of;
    }
  }

  #makeRoom(at: number, from: IpAddress): void {
    const table = this.table;
    let before = none;
    let beside = 0;
    let first = none;
    let beforeFirst = none;
    for (let of = table.firstPeer(at); of !== none; of = table.nextPeer(of)) {
      if (table.isBeside(of, from) && beside++ === 0) {
        first = of;
        beforeFirst = before;
      }
      before = of;
    }
    if (beside >= this.#limits.peersPerTorrentAndAddress) this.#drop(at, beforeFirst, first);
    if (table.peersOf(at) >= this.#limits.peersPerTorrent) this.#drop(at, none, table.firstPeer(at));
    while (table.peers >= this.#limits.peers) {
      if (table.oldest === at) this.#drop(at, none, table.firstPeer(at));
      else this.dropTorrent(table.oldest);
    }
  }

  #drop(at: number, before: number, of: number): void {
    this.table.readAddress(of, this.#dropped);
    this.#perAddress.add(this.#dropped, -1);
    this.table.removePeer(at, before, of);
  }

  dropTorrent(at: number): void {
    const table = this.table;
    for (let of = table.firstPeer(at); of !== none; of = table.firstPeer(at)) this.#drop(at, none, of);
    table.remove(at);
  }

  /** A few of the torrents that were announced longest ago lose the peers that went away: the work is spread, no timer is needed. */
  sweep(now: number): void {
    let at = this.table.oldest;
    for (let looked = 0; at !== none && looked < this.#limits.sweepTorrents; looked++) {
      const next = this.table.newerThan(at);
      this.#dropGone(at, now);
      if (this.table.peersOf(at) === 0) this.table.remove(at);
      at = next;
    }
  }

  #dropGone(at: number, now: number): void {
    const table = this.table;
    const expirySeconds = expiryIntervals * this.#limits.intervalSeconds;
    for (let of = table.firstPeer(at); of !== none; of = table.firstPeer(at)) {
      if (now - table.seenOf(of) <= expirySeconds) return;
      this.#drop(at, none, of);
    }
  }

  /** Without peers that went away; `none` when no other is left. */
  findAlive(infoHash: InfoHash, now: number): number {
    const at = this.table.find(infoHash);
    if (at === none) return none;
    this.#dropGone(at, now);
    if (this.table.peersOf(at) > 0) return at;
    this.table.remove(at);
    return none;
  }

  countsOf(at: number): TorrentCounts {
    if (at === none) return noCounts;
    const seeds = this.table.seedsOf(at);
    return { seeds, others: this.table.peersOf(at) - seeds };
  }
}

const noCounts: Readonly<TorrentCounts> = { seeds: 0, others: 0 };
