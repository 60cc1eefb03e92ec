/** What was given to peers and taken from them, in this month and in all, remembered across restarts. */

import type { Logger } from '../../web/log.ts';
import type { ClientState } from '../state/state.ts';

/** A kill costs what was counted in the meantime. */
const saveEveryMs = 10_000;

const fact = 'traffic';

interface Totals {
  /** `2026-11`, local time. */
  month: string;
  monthUploadedBytes: number;
  uploadedBytes: number;
  downloadedBytes: number;
}

export interface TrafficOptions {
  state: Pick<ClientState, 'fact' | 'setFact'>;
  /** From peers, since the client was started. */
  downloadedBytes(): number;
  logger: Logger;
  /** Milliseconds since 1970. */
  clock: () => number;
}

export class Traffic {
  readonly #options: TrafficOptions;
  readonly #totals: Totals;
  readonly #timer: NodeJS.Timeout;
  #downloadedBytes = 0;
  #saved: string;
  #failing = false;

  constructor(options: TrafficOptions) {
    this.#options = options;
    const month = monthOf(options.clock());
    this.#totals = parseTotals(options.state.fact(fact)) ?? {
      month,
      monthUploadedBytes: 0,
      uploadedBytes: 0,
      downloadedBytes: 0,
    };
    this.#saved = JSON.stringify(this.#totals);
    this.#timer = setInterval(() => this.#save(), saveEveryMs);
    this.#timer.unref();
  }

  uploaded(bytes: number): void {
    this.#turnMonth();
    this.#totals.monthUploadedBytes += bytes;
    this.#totals.uploadedBytes += bytes;
  }

  /** Uploaded in this month. */
  get monthUploadedBytes(): number {
    this.#turnMonth();
    return this.#totals.monthUploadedBytes;
  }

  /** Since the data directory was made. `ratio`: given for each byte that was taken; missing before anything was. */
  status(): { uploadedBytes: number; downloadedBytes: number; monthUploadedBytes: number; ratio?: number } {
    this.#countDownloads();
    const { uploadedBytes, downloadedBytes } = this.#totals;
    const ratio =
      downloadedBytes === 0 ? {} : { ratio: Math.round((100 * uploadedBytes) / downloadedBytes) / 100 };
    return { uploadedBytes, downloadedBytes, monthUploadedBytes: this.monthUploadedBytes, ...ratio };
  }

  /** May be called twice. */
  close(): void {
    clearInterval(this.#timer);
    this.#save();
  }

  #turnMonth(): void {
    const month = monthOf(this.#options.clock());
    if (month === this.#totals.month) return;
    this.#totals.month = month;
    this.#totals.monthUploadedBytes = 0;
  }

  #countDownloads(): void {
    const bytes = this.#options.downloadedBytes();
    this.#totals.downloadedBytes += bytes - this.#downloadedBytes;
    this.#downloadedBytes = bytes;
  }

  #save(): void {
    this.#countDownloads();
    const text = JSON.stringify(this.#totals);
    if (text === this.#saved) return;
    try {
      this.#options.state.setFact(fact, text);
      this.#saved = text;
      this.#failing = false;
    } catch (error) {
      // Said once, until it works again: a full disk stays full for a while.
      if (!this.#failing) this.#options.logger.warn('traffic-not-saved', { error });
      this.#failing = true;
    }
  }
}

function monthOf(ms: number): string {
  const date = new Date(ms);
  return `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, '0')}`;
}

/** `undefined` for what is none: what this program wrote is JSON, and a spoilt one costs no more than the counts. */
function parseTotals(text: string | undefined): Totals | undefined {
  if (text === undefined) return undefined;
  try {
    const found = JSON.parse(text) as Partial<Totals>;
    const { month, monthUploadedBytes, uploadedBytes, downloadedBytes } = found;
    const bytes = [monthUploadedBytes, uploadedBytes, downloadedBytes];
    if (typeof month !== 'string' || !bytes.every((each) => Number.isSafeInteger(each))) return undefined;
    return found as Totals;
  } catch {
    return undefined;
  }
}
