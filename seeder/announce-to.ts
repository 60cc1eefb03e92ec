/**
 * Announces the seeder to other trackers, which do not know that it has everything: the torrents that were asked for lately, within a
 * budget. Nothing is taken back at the end; a tracker forgets who does not come again.
 */

import type { InfoHash } from '../nar/hash.ts';
import { DhtBudget } from '../swarm/dht/dht-budget.ts';
import { announce } from '../swarm/tracker/tracker-client.ts';
import type { Logger } from '../web/log.ts';

/** What is announced, and how often. */
export const announceToLimits = {
  /** To each tracker: five a second are noise to it, and keep 6,000 torrents announced. */
  announcesPerMinute: 300,
  /** opentracker forgets a peer after 45 minutes and asks for it every half hour. */
  reannounceMs: 20 * 60_000,
  /** After an announce that no tracker took: the torrent may be so new that it is on its way into a whitelist. */
  retryMs: 10_000,
  /** Torrents remembered as asked for: what the budget keeps announced. */
  torrentsMax: 6_000,
  /** A torrent that nobody asked for any more after this long is left to the peers that have it. */
  demandMs: 24 * 3_600_000,
  demandHalfLifeMs: 3_600_000,
  /** Demand for one torrent counts once in this time. */
  demandEveryMs: 60_000,
} as const;

/** Other trackers: they are named in every .torrent file. */
export const announceToMax = 4;

/** How often it is looked for what is due when nobody asks for anything. */
const lookMs = 2_000;

export interface AnnounceToOptions {
  /** Of trackers, `http(s)://…/announce`. */
  urls: readonly string[];
  /** 20 bytes. */
  peerId: Buffer;
  /** Where peers are served. */
  port: number;
  logger: Logger;
}

export interface AnnounceToStatus {
  /** Torrents that are remembered as asked for. */
  torrents: number;
  announces: number;
  failures: number;
}

export class AnnounceTo {
  readonly #options: AnnounceToOptions;
  readonly #budget = new DhtBudget(announceToLimits);
  readonly #closing = new AbortController();
  readonly #underWay = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  /** Trackers that failed last time: what goes on failing is logged once. */
  readonly #failing = new Set<string>();
  #nextMs = 0;
  #announces = 0;
  #failures = 0;

  constructor(options: AnnounceToOptions) {
    this.#options = options;
    if (options.urls.length > 0) this.#wait(lookMs);
  }

  /** Somebody wants this torrent. Cheap enough for every read of an upload. */
  noteDemand(infoHash: InfoHash): void {
    if (this.#options.urls.length === 0 || this.#closing.signal.aborted) return;
    const now = performance.now();
    const before = this.#budget.size;
    this.#budget.note(infoHash, now);
    if (this.#budget.size !== before) this.#wait(Math.max(0, this.#nextMs - now));
  }

  status(): AnnounceToStatus {
    return { torrents: this.#budget.size, announces: this.#announces, failures: this.#failures };
  }

  /** Ends what is under way. May be called twice. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#closing.abort();
    await Promise.all(this.#underWay);
  }

  #wait(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#turn(), ms);
  }

  #turn(): void {
    const now = performance.now();
    const infoHash = this.#budget.next(now);
    if (infoHash === undefined) {
      this.#wait(lookMs);
      return;
    }
    const pauseMs = 60_000 / announceToLimits.announcesPerMinute;
    this.#nextMs = now + pauseMs;
    this.#wait(pauseMs);
    const announced: Promise<void> = this.#announce(infoHash).finally(() => this.#underWay.delete(announced));
    this.#underWay.add(announced);
  }

  async #announce(infoHash: InfoHash): Promise<void> {
    const taken = await Promise.all(this.#options.urls.map((url) => this.#announceAt(url, infoHash)));
    if (!taken.includes(true)) this.#budget.failed(infoHash, performance.now());
  }

  async #announceAt(url: string, infoHash: InfoHash): Promise<boolean> {
    const { peerId, port, logger } = this.#options;
    const amounts = { uploaded: 0, downloaded: 0, left: 0, numWant: 0 };
    try {
      await announce({ url, infoHash, peerId, port, ...amounts, signal: this.#closing.signal });
      this.#announces++;
      this.#failing.delete(url);
      return true;
    } catch (error) {
      if (this.#closing.signal.aborted) return false;
      this.#failures++;
      if (!this.#failing.has(url)) logger.warn('announce-failed', { tracker: url, infoHash, error });
      this.#failing.add(url);
      return false;
    }
  }
}
