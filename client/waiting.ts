/** Waiting for something to become true, with an AbortSignal. */

import { NarswarmError } from '../nar/errors.ts';

/** Wakes whoever waits, all at once; what they wait for they look up themselves. */
export class Bell {
  #waiting = new Set<() => void>();

  ring(): void {
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const wake of waiting) wake();
  }

  /** Resolves at the next `ring`; rejects with `aborted` when the signal fires first. */
  next(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(aborted(signal));
      const onAbort = (): void => {
        this.#waiting.delete(wake);
        reject(aborted(signal));
      };
      const wake = (): void => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
      this.#waiting.add(wake);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }
}

/** The error for a signal that fired; its reason when that is one of ours. */
export function aborted(signal: AbortSignal): NarswarmError {
  const { reason } = signal;
  return reason instanceof NarswarmError
    ? reason
    : new NarswarmError('aborted', 'given up', { cause: reason });
}

/** A signal that also fires, with `upstream-failed`, when `touch` is not called for `stallMs`; the first time within `firstMs`. */
export class StallGuard {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal;
  readonly #what: string;
  readonly #stallMs: number;
  #timerMs: number;
  #timer: NodeJS.Timeout;
  #stalled = false;

  constructor(stallMs: number, signal: AbortSignal, what: string, firstMs = stallMs) {
    this.#what = what;
    this.#stallMs = stallMs;
    this.#timerMs = firstMs;
    this.#timer = this.#start(firstMs);
    this.#outer = signal;
    // Not by AbortSignal.any, which takes longer than all else that is done here for a small file.
    if (signal.aborted) this.#onOuter();
    else signal.addEventListener('abort', this.#onOuter);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** True once it has fired. */
  get stalled(): boolean {
    return this.#stalled;
  }

  touch(): void {
    if (this.#timerMs === this.#stallMs) {
      this.#timer.refresh();
      return;
    }
    clearTimeout(this.#timer);
    this.#timerMs = this.#stallMs;
    this.#timer = this.#start(this.#stallMs);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#outer.removeEventListener('abort', this.#onOuter);
  }

  readonly #onOuter = (): void => {
    this.close();
    this.#controller.abort(this.#outer.reason);
  };

  #start(ms: number): NodeJS.Timeout {
    return setTimeout(() => {
      this.#outer.removeEventListener('abort', this.#onOuter);
      this.#stalled = true;
      this.#controller.abort(new NarswarmError('upstream-failed', `${this.#what}: nothing for ${ms} ms`));
    }, ms);
  }
}

/** Whether what is so old still holds. A negative age is that of a clock that was put back: nothing holds for as long as that. */
export function isWithin(ageMs: number, lifetimeMs: number): boolean {
  return ageMs >= 0 && ageMs < lifetimeMs;
}
