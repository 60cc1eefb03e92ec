/** Waiting for something to become true, with an AbortSignal. */

import { NarswarmError } from '../nar/errors.ts';
import { Deadline } from '../upstream/deadline.ts';

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
  readonly #deadline: Deadline;
  readonly #stallMs: number;

  constructor(stallMs: number, signal: AbortSignal, what: string, firstMs = stallMs) {
    this.#stallMs = stallMs;
    this.#deadline = new Deadline(firstMs, signal, (ms) => `${what}: nothing for ${ms} ms`);
  }

  get signal(): AbortSignal {
    return this.#deadline.signal;
  }

  /** True once it has fired by itself. */
  get stalled(): boolean {
    return this.#deadline.passed;
  }

  touch(): void {
    this.#deadline.restart(this.#stallMs);
  }

  close(): void {
    this.#deadline.close();
  }
}

/** Whether what is so old still holds. A negative age is that of a clock that was put back: nothing holds for as long as that. */
export function isWithin(ageMs: number, lifetimeMs: number): boolean {
  return ageMs >= 0 && ageMs < lifetimeMs;
}
