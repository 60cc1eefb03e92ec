/** Tells the catalogs' trackers what this client seeds, at a bounded rate, and takes it back when it stops. */

import { setTimeout as delay } from 'node:timers/promises';
import type { InfoHash, Sha256 } from '../../nar/hash.ts';
import { announce } from '../../swarm/tracker/tracker-client.ts';
import type { Logger } from '../../web/log.ts';
import type { ClientLimits } from '../config.ts';
import type { ClientState } from '../state/state.ts';
import type { SharedTorrents } from './shared-torrents.ts';

/** When a tracker cannot be reached, and the least and longest that one is taken at its word about when to come again. */
const retrySeconds = 300;
const intervalMinSeconds = 60;
const intervalMaxSeconds = 3_600;

/** For one announce. */
const announceDeadlineMs = 10_000;

/** For taking everything back when the client stops; what does not fit in is forgotten by the tracker in time. */
const stopBudgetMs = 500;
const stopsMax = 200;
const stopsAtOnce = 8;

/** How often it is looked for what there is to announce, when nothing new came meanwhile. */
const lookMs = 30_000;

export interface AnnouncerOptions {
  catalogs: string[];
  state: ClientState;
  shared: SharedTorrents;
  peerId: Buffer;
  port: number;
  /** Of everything, in bytes. */
  uploadedBytes(): number;
  limits: ClientLimits;
  logger: Logger;
  clock: () => number;
  /** Between 0 and 1; spreads the announces of many clients. */
  random: () => number;
}

interface Announced {
  infoHash: InfoHash;
  /** By the clock. */
  nextAt: number;
  started: boolean;
}

export class Announcer {
  readonly #options: AnnouncerOptions;
  readonly #announced = new Map<Sha256, Announced>();
  readonly #closing = new AbortController();
  readonly #loop: Promise<void>;
  #paused = false;
  #wake = new AbortController();
  #announces = 0;
  #failures = 0;

  constructor(options: AnnouncerOptions) {
    this.#options = options;
    this.#loop = this.#run();
  }

  /** A file is held that was not before. */
  onKept(): void {
    this.#wake.abort();
  }

  /** While it is paused nothing is announced, and what was is taken back: trackers would name somebody who gives nothing. */
  setPaused(paused: boolean): void {
    if (paused === this.#paused) return;
    this.#paused = paused;
    this.#wake.abort();
  }

  status() {
    const started = [...this.#announced.values()].filter((each) => each.started).length;
    return { announcedTorrents: started, announces: this.#announces, announceFailures: this.#failures };
  }

  /** Takes back what was announced, within a second. May be called twice. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return this.#loop;
    this.#closing.abort();
    await this.#loop;
    await this.#takeBack(AbortSignal.timeout(stopBudgetMs));
  }

  async #takeBack(signal: AbortSignal): Promise<void> {
    const stops = [...this.#announced.values()].filter((each) => each.started).slice(0, stopsMax);
    this.#announced.clear();
    const one = async (): Promise<void> => {
      for (let next = stops.pop(); next !== undefined && !signal.aborted; next = stops.pop()) {
        await this.#announce(next, 'stopped', signal).catch(() => undefined);
      }
    };
    await Promise.all(Array.from({ length: stopsAtOnce }, one));
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { limits, logger } = this.#options;
    const pauseMs = 60_000 / limits.announcesPerMinute;
    while (!signal.aborted) {
      try {
        if (this.#paused && this.#announced.size > 0)
          await this.#takeBack(AbortSignal.any([signal, AbortSignal.timeout(announceDeadlineMs)]));
        const due = this.#paused ? undefined : this.#due();
        if (due !== undefined) {
          await this.#announceDue(due);
          await delay(pauseMs, undefined, { signal });
          continue;
        }
        this.#wake = new AbortController();
        await delay(lookMs, undefined, { signal: AbortSignal.any([signal, this.#wake.signal]) });
      } catch (error) {
        if (signal.aborted || this.#wake.signal.aborted) continue;
        logger.error('announcer-failed', { error });
        await delay(lookMs, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  /** One that was never announced, or whose time has come. Forgets what is no longer held. */
  #due(): Announced | undefined {
    const { state, shared, limits, clock } = this.#options;
    const files = state.heldFiles('newest', limits.announcedTorrents);
    const held = new Set(files.map(({ fileHash }) => fileHash));
    for (const fileHash of this.#announced.keys()) if (!held.has(fileHash)) this.#announced.delete(fileHash);
    for (const file of files) {
      if (this.#announced.has(file.fileHash)) continue;
      const torrent = shared.torrentOf(file);
      if (torrent === undefined) continue;
      const fresh = { infoHash: torrent.infoHash, nextAt: 0, started: false };
      this.#announced.set(file.fileHash, fresh);
      return fresh;
    }
    const now = clock();
    return [...this.#announced.values()].find(({ nextAt }) => nextAt <= now);
  }

  async #announceDue(due: Announced): Promise<void> {
    const { clock, random, logger } = this.#options;
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(announceDeadlineMs)]);
    let seconds = retrySeconds;
    try {
      seconds = await this.#announce(due, due.started ? undefined : 'started', signal);
      due.started = true;
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      this.#failures++;
      logger.warn('announce-failed', { infoHash: due.infoHash, error });
    }
    due.nextAt = clock() + seconds * 1000 * (0.9 + 0.1 * random());
  }

  /** To all catalogs; resolves with the shortest of their intervals in seconds. Rejects when none took it. */
  async #announce(
    each: Announced,
    event: 'started' | 'stopped' | undefined,
    signal: AbortSignal,
  ): Promise<number> {
    const { catalogs, peerId, port, uploadedBytes } = this.#options;
    const intervals = await Promise.any(
      catalogs.map(async (catalog) => {
        this.#announces++;
        const { intervalSeconds } = await announce({
          url: `${catalog}/announce`,
          infoHash: each.infoHash,
          peerId,
          port,
          uploaded: uploadedBytes(),
          downloaded: 0,
          left: 0,
          numWant: 0,
          signal,
          ...(event === undefined ? {} : { event }),
        });
        return intervalSeconds;
      }),
    );
    return Math.min(Math.max(intervals, intervalMinSeconds), intervalMaxSeconds);
  }
}
