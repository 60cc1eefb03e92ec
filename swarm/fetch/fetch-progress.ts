/** Tells whether a swarm gives what is waited for: silence is one way not to, dripping another. Decisions only: no clock of its own. */

import type { FetchLimits } from './fetch-limits.ts';

export class FetchProgress {
  readonly #stallMs: number;
  readonly #windowMs: number;
  readonly #windowBytes: number;
  #heardMs: number;
  #windowSinceMs: number;
  #usefulBytes = 0;

  constructor(stallMs: number, limits: Pick<FetchLimits, 'slowMs' | 'leastBytesPerSecond'>, nowMs: number) {
    this.#stallMs = stallMs;
    // Who grants a longer silence than that waits for it first.
    this.#windowMs = Math.max(limits.slowMs, stallMs);
    this.#windowBytes = (limits.leastBytesPerSecond * this.#windowMs) / 1_000;
    this.#heardMs = nowMs;
    this.#windowSinceMs = nowMs;
  }

  /** From now on something is waited for. */
  waits(nowMs: number): void {
    this.#heardMs = nowMs;
    this.#windowSinceMs = nowMs;
    this.#usefulBytes = 0;
  }

  /** Somebody sent something that takes us further. */
  heard(nowMs: number): void {
    this.#heardMs = nowMs;
  }

  /** Bytes came that were asked for; negative when they turn out to be wrong. */
  useful(bytes: number): void {
    this.#usefulBytes += bytes;
  }

  /** Why the swarm counts as stalled, if it does. To be called often. */
  stalled(nowMs: number): string | undefined {
    if (nowMs - this.#heardMs > this.#stallMs) return `no peer sent a byte for ${this.#stallMs} ms`;
    if (nowMs - this.#windowSinceMs < this.#windowMs) return undefined;
    if (this.#usefulBytes < this.#windowBytes)
      return `all peers together gave ${Math.max(0, this.#usefulBytes)} bytes in ${this.#windowMs} ms`;
    this.#windowSinceMs = nowMs;
    this.#usefulBytes = 0;
    return undefined;
  }
}
