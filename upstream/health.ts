/**
 * Whether an upstream is worth waiting for. Only silence counts: what is refused at once, or answered with an error, costs nothing to ask again.
 *
 * asked → resting: so many requests in a row that got no answer. resting → asked: an answer; or the pause is over and nobody wanted it
 * meanwhile, so that the next request finds out. While it rests and is wanted, it is tried in the background at the end of each pause, and each is
 * longer than the one before: a dead upstream costs no request of Nix its time.
 */

export interface HealthLimits {
  /** Requests without an answer, one after the other, before it rests. */
  failures: number;
  /** A pause is so many times as long as the silence before it: trying a dead upstream takes about a tenth of the time. */
  pauseTimes: number;
  /** Each pause is twice as long as the one before, up to this many milliseconds: how long one that is back may go unnoticed. */
  pauseMaxMs: number;
  /** Milliseconds for one trial in the background. */
  trialMs: number;
  /** A silence of fewer milliseconds costs nobody anything. */
  silenceMinMs: number;
}

export const healthLimits: Readonly<HealthLimits> = {
  failures: 2,
  pauseTimes: 8,
  pauseMaxMs: 15_000,
  trialMs: 5_000,
  silenceMinMs: 100,
};

export interface HealthOptions {
  /** Asks it for something small. Whether it answers is told by `answered` and `failed`, as of any request. */
  trial(signal: AbortSignal): Promise<unknown>;
  /** It went to rest, or came back. */
  onChange?(state: 'asked' | 'resting', pauseMs: number): void;
  limits?: Partial<HealthLimits>;
  /** Milliseconds that only go forward. */
  clock?: () => number;
}

export class Health {
  readonly #options: HealthOptions;
  readonly #limits: HealthLimits;
  readonly #clock: () => number;
  readonly #closing = new AbortController();
  #failures = 0;
  #answeredMs = Number.NEGATIVE_INFINITY;
  /** Of the pause that is or comes next; 0 while it answers. */
  #pauseMs = 0;
  #restUntilMs: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #trying: Promise<void> | undefined;

  constructor(options: HealthOptions) {
    this.#options = options;
    this.#limits = { ...healthLimits, ...options.limits };
    this.#clock = options.clock ?? (() => performance.now());
  }

  /** True while it is not to be waited for. Whoever asks wants it, so that it is tried as soon as its pause is over. */
  resting(): boolean {
    if (this.#restUntilMs === undefined) return false;
    if (this.#trying !== undefined) return true;
    const leftMs = this.#restUntilMs - this.#clock();
    if (leftMs > 0) {
      this.#tryIn(leftMs);
      return true;
    }
    // One failure more, and it rests on.
    this.#restUntilMs = undefined;
    this.#failures = this.#limits.failures - 1;
    return false;
  }

  /** Whether it answered anything within so many milliseconds: if it rests all the same, it is slow rather than dead. */
  answeredWithin(ms: number): boolean {
    return this.#clock() - this.#answeredMs < ms;
  }

  /** It answered a request, whatever it said. */
  answered(): void {
    const rested = this.#pauseMs > 0;
    this.#answeredMs = this.#clock();
    this.#failures = 0;
    this.#pauseMs = 0;
    this.#restUntilMs = undefined;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (rested) this.#options.onChange?.('asked', 0);
  }

  /** A request got no answer in `tookMs`. */
  failed(tookMs: number): void {
    const { failures, pauseTimes, pauseMaxMs, silenceMinMs } = this.#limits;
    if (tookMs < silenceMinMs) return;
    this.#failures++;
    // Requests that were under way when it went to rest make its pause no longer.
    const late = this.#restUntilMs !== undefined && this.#trying === undefined;
    if (this.#failures < failures || late || this.#closing.signal.aborted) return;
    const first = this.#pauseMs === 0;
    this.#pauseMs = Math.min(Math.max(tookMs * pauseTimes, this.#pauseMs * 2), pauseMaxMs);
    this.#restUntilMs = this.#clock() + this.#pauseMs;
    if (first) this.#options.onChange?.('resting', this.#pauseMs);
  }

  status(): { state: 'asked' | 'resting'; failures: number; pauseMs: number } {
    const state = this.#restUntilMs === undefined ? 'asked' : 'resting';
    return { state, failures: this.#failures, pauseMs: Math.round(this.#pauseMs) };
  }

  /** Breaks a trial off. May be called twice. */
  async close(): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#timer);
    await this.#trying;
  }

  #tryIn(ms: number): void {
    if (this.#timer !== undefined || this.#closing.signal.aborted) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#restUntilMs !== undefined) this.#try();
    }, ms);
    // The process does not stay for it.
    this.#timer.unref();
  }

  #try(): void {
    const deadline = AbortSignal.timeout(this.#limits.trialMs);
    const signal = AbortSignal.any([this.#closing.signal, deadline]);
    // In a turn of its own, so that a trial which fails at once is known as one.
    this.#trying = Promise.resolve()
      .then(() => this.#options.trial(signal))
      .then(
        () => undefined,
        () => undefined,
      )
      .finally(() => {
        this.#trying = undefined;
      });
  }
}
