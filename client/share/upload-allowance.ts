/** What sharing may upload at this moment: nothing on a metered connection or beyond the month's quota, else what the schedule says. */

import { followSchedules, rateAt, type ScheduledRate } from '../../parts/upload-schedule.ts';
import type { Logger } from '../../web/log.ts';
import { type MeteredAnswer, MeteredWatch, type MeteredWatchOptions } from './metered.ts';
import type { Traffic } from './traffic.ts';

/** How often it is looked whether a new month has begun. */
const lookMs = 60_000;

export interface UploadAllowanceOptions {
  /** Bytes in a calendar month; no limit without it. */
  quotaBytes: number | undefined;
  /** Bytes a second while no schedule says otherwise; no limit without it. */
  bytesPerSecond: number | undefined;
  schedules: readonly ScheduledRate[];
  /** Whether sharing pauses on a metered connection. */
  pauseOnMetered: boolean;
  /** For tests. */
  metered?: Pick<MeteredWatchOptions, 'everyMs' | 'env'> | undefined;
  traffic: Traffic;
  /** Called with each change, first before `open` resolves. 0: nothing is shared now. */
  onRate(bytesPerSecond: number | undefined): void;
  logger: Logger;
  /** Milliseconds since 1970. */
  clock: () => number;
}

/** Why nothing is shared at the moment. */
export type UploadPause = 'metered' | 'quota' | 'schedule';

export interface UploadAllowanceStatus {
  paused: UploadPause | false;
  /** `null`: no limit. */
  bytesPerSecond: number | null;
  monthQuotaBytes: number | null;
  metered: boolean | 'unknown' | 'not asked';
}

export class UploadAllowance {
  readonly #options: UploadAllowanceOptions;
  #scheduled: number | undefined;
  #metered: MeteredWatch | undefined;
  #isMetered: MeteredAnswer;
  #schedules: { stop(): void } | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** As it was told last. */
  #told: { rate: number | undefined; pause: UploadPause | undefined } | undefined;

  private constructor(options: UploadAllowanceOptions) {
    this.#options = options;
    this.#scheduled = rateAt(options.schedules, options.bytesPerSecond, new Date(options.clock()));
  }

  /** Resolves when it is known whether the connection is metered, if that matters. */
  static async open(options: UploadAllowanceOptions): Promise<UploadAllowance> {
    const allowance = new UploadAllowance(options);
    const { schedules, bytesPerSecond, pauseOnMetered, logger, metered: asked } = options;
    if (pauseOnMetered) {
      allowance.#metered = await MeteredWatch.open({
        onChange(metered) {
          allowance.#isMetered = metered;
          if (allowance.#told !== undefined) allowance.#tell();
        },
        logger,
        ...asked,
      });
    }
    allowance.#schedules = followSchedules(schedules, bytesPerSecond, (rate) => {
      allowance.#scheduled = rate;
      allowance.#tell();
    });
    allowance.#timer = setInterval(() => allowance.#tell(), lookMs);
    allowance.#timer.unref();
    allowance.#tell();
    return allowance;
  }

  /** Nothing is shared at this moment. */
  get paused(): boolean {
    return this.#pause() !== undefined;
  }

  /** Bytes left. */
  uploaded(bytes: number): void {
    this.#options.traffic.uploaded(bytes);
    if (this.#pause() !== this.#told?.pause) this.#tell();
  }

  status(): UploadAllowanceStatus {
    const { quotaBytes, pauseOnMetered } = this.#options;
    const rate = this.#pause() === undefined ? this.#scheduled : 0;
    return {
      paused: this.#pause() ?? false,
      bytesPerSecond: rate ?? null,
      monthQuotaBytes: quotaBytes ?? null,
      metered: pauseOnMetered ? (this.#isMetered ?? 'unknown') : 'not asked',
    };
  }

  /** May be called twice. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#schedules?.stop();
    await this.#metered?.close();
  }

  #pause(): UploadPause | undefined {
    const { quotaBytes = Number.POSITIVE_INFINITY, traffic } = this.#options;
    if (this.#isMetered === true) return 'metered';
    if (traffic.monthUploadedBytes >= quotaBytes) return 'quota';
    return this.#scheduled === 0 ? 'schedule' : undefined;
  }

  #tell(): void {
    const pause = this.#pause();
    const rate = pause === undefined ? this.#scheduled : 0;
    const before = this.#told;
    if (before !== undefined && before.rate === rate && before.pause === pause) return;
    this.#told = { rate, pause };
    if (before !== undefined || pause !== undefined)
      this.#options.logger.info('upload-rate', { bytesPerSecond: rate ?? null, paused: pause ?? false });
    this.#options.onRate(rate);
  }
}
