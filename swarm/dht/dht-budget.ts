/**
 * Which torrent is announced in the DHT next: of those asked for lately the hottest one that is due, at a bounded rate. Pure; its
 * only clock is the `nowMs` of each call.
 *
 * An announce costs seconds and dozens of packets, so that one node keeps a few hundred torrents announced, of millions. Whoever
 * has a torrent announces it as well: the seeder's own announce is what makes a first copy possible.
 */

import type { InfoHash } from '../../nar/hash.ts';
import type { DhtLimits } from './dht-limits.ts';

export type BudgetLimits = Pick<
  DhtLimits,
  | 'announcesPerMinute'
  | 'reannounceMs'
  | 'retryMs'
  | 'torrentsMax'
  | 'demandMs'
  | 'demandHalfLifeMs'
  | 'demandEveryMs'
>;

interface Wanted {
  /** What the demand came to at `notedMs`; it halves from there on. */
  heat: number;
  notedMs: number;
  dueMs: number;
}

const minuteMs = 60_000;

export class DhtBudget {
  readonly #limits: BudgetLimits;
  /** Announced before any other, whether it is asked for or not; with the time when it is due. */
  readonly #pinned = new Map<InfoHash, number>();
  /** The one asked for longest ago first. */
  readonly #wanted = new Map<InfoHash, Wanted>();
  #nextMs = Number.NEGATIVE_INFINITY;

  constructor(limits: BudgetLimits) {
    this.#limits = limits;
  }

  /** Torrents that were asked for lately. */
  get size(): number {
    return this.#wanted.size;
  }

  /** Somebody wants this torrent. Cheap enough for every read of an upload. */
  note(infoHash: InfoHash, nowMs: number): void {
    const wanted = this.#wanted.get(infoHash);
    if (wanted !== undefined && nowMs - wanted.notedMs < this.#limits.demandEveryMs) return;
    const heat = wanted === undefined ? 0 : this.#heat(wanted, nowMs);
    const dueMs = wanted?.dueMs ?? Number.NEGATIVE_INFINITY;
    this.#wanted.delete(infoHash);
    this.#wanted.set(infoHash, { heat: heat + 1, notedMs: nowMs, dueMs });
    if (this.#wanted.size <= this.#limits.torrentsMax) return;
    const [coldest] = this.#wanted.keys();
    if (coldest !== undefined) this.#wanted.delete(coldest);
  }

  /** Has a torrent announced for as long as it is not unpinned. For a few: they come before what is asked for. */
  pin(infoHash: InfoHash): void {
    if (!this.#pinned.has(infoHash)) this.#pinned.set(infoHash, Number.NEGATIVE_INFINITY);
  }

  unpin(infoHash: InfoHash): void {
    this.#pinned.delete(infoHash);
  }

  /** The torrent to announce now, which counts as an announce; `undefined` when none is due or the budget is spent. */
  next(nowMs: number): InfoHash | undefined {
    if (nowMs < this.#nextMs) return undefined;
    this.#forget(nowMs);
    for (const [infoHash, dueMs] of this.#pinned) {
      if (dueMs > nowMs) continue;
      this.#spend(nowMs);
      this.#pinned.set(infoHash, nowMs + this.#limits.reannounceMs);
      return infoHash;
    }
    let hottest: { infoHash: InfoHash; wanted: Wanted; heat: number } | undefined;
    for (const [infoHash, wanted] of this.#wanted) {
      if (wanted.dueMs > nowMs) continue;
      const heat = this.#heat(wanted, nowMs);
      if (hottest === undefined || heat > hottest.heat) hottest = { infoHash, wanted, heat };
    }
    if (hottest === undefined) return undefined;
    this.#spend(nowMs);
    hottest.wanted.dueMs = nowMs + this.#limits.reannounceMs;
    return hottest.infoHash;
  }

  /** The announce reached nobody: it is made again sooner. */
  failed(infoHash: InfoHash, nowMs: number): void {
    const wanted = this.#wanted.get(infoHash);
    if (wanted !== undefined) wanted.dueMs = nowMs + this.#limits.retryMs;
    if (this.#pinned.has(infoHash)) this.#pinned.set(infoHash, nowMs + this.#limits.retryMs);
  }

  #spend(nowMs: number): void {
    this.#nextMs = nowMs + minuteMs / this.#limits.announcesPerMinute;
  }

  #forget(nowMs: number): void {
    for (const [infoHash, wanted] of this.#wanted) {
      if (nowMs - wanted.notedMs < this.#limits.demandMs) return;
      this.#wanted.delete(infoHash);
    }
  }

  #heat({ heat, notedMs }: Wanted, nowMs: number): number {
    return heat * 2 ** (-(nowMs - notedMs) / this.#limits.demandHalfLifeMs);
  }
}
