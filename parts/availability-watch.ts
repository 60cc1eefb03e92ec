/** Counts the seeds of a catalog's NAR files again and again, and keeps since when there are how many. */

import type { Sha256 } from '../nar/hash.ts';
import type { Logger } from '../web/log.ts';
import { Availability } from './availability.ts';
import type { ReportedNar, ReportSource } from './availability-report.ts';

/** Often enough to see a mirror go, which counts as there for an hour after it came last. */
const lookEveryMs = 10 * 60_000;
/** After the start mirrors need a while to come again: what they hold is not lost meanwhile. */
const firstLookMs = 60 * 60_000;

export interface AvailabilityWatchOptions {
  /** Of the file; its directory is there. */
  path: string;
  catalog: { readonly ordinals: number; byOrdinal(ordinal: number): Sha256 | undefined };
  /** Seeds by ordinal, at the moment of the call. */
  seeds(): (ordinal: number) => number;
  nar(ordinal: number): ReportedNar | undefined;
  /** What counts as a seed, for people. */
  counted: string;
  logger: Logger;
  /** Milliseconds since 1970. */
  now: () => number;
  firstLookMs?: number | undefined;
}

export class AvailabilityWatch {
  readonly #options: AvailabilityWatchOptions;
  #timer: NodeJS.Timeout | undefined;
  #availability: Availability | undefined;
  #looking: Promise<void> | undefined;
  #closed = false;

  constructor(options: AvailabilityWatchOptions) {
    this.#options = options;
    this.#wait(options.firstLookMs ?? firstLookMs);
  }

  /** `undefined` as long as the catalog is empty. Throws store-failed. */
  async source(): Promise<ReportSource | undefined> {
    const availability = await this.#open();
    const { nar, now, counted } = this.#options;
    return availability && { availability, nar, nowMs: now(), counted };
  }

  /** Resolves when the seeds were counted, or when that failed, which is logged. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  /** Waits for the look that is under way. May be called twice. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#looking;
    const availability = this.#availability;
    this.#availability = undefined;
    await availability?.close();
  }

  #wait(ms: number): void {
    this.#timer = setTimeout(async () => {
      await this.look();
      if (!this.#closed) this.#wait(lookEveryMs);
    }, ms);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    const { catalog, seeds, now, logger } = this.#options;
    try {
      const availability = await this.#open();
      if (availability !== undefined && !this.#closed)
        await availability.look(catalog.ordinals, seeds(), now());
    } catch (error) {
      logger.warn('availability-failed', { error });
    }
  }

  /** Opened when there is something to count: the file is about the catalog that begins with this NAR file. */
  async #open(): Promise<Availability | undefined> {
    const { catalog, path } = this.#options;
    if (this.#availability === undefined && catalog.ordinals > 0 && !this.#closed)
      this.#availability = await Availability.open(path, catalog.byOrdinal(0));
    return this.#availability;
  }
}
