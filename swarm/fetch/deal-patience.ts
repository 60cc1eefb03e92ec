/**
 * When a seed that deals is asked for what it did not suggest: others are to give that, but they may be silent, or not be reached. Decisions
 * only: no clock of its own.
 */

import type { FetchLimits } from './fetch-limits.ts';

export class DealPatience {
  readonly #limits: Pick<FetchLimits, 'dealNeeds' | 'dealPatienceMs'>;
  readonly #silentMs: number;
  /** Since when the piece that is to be delivered next is that one. */
  #firstSinceMs: number;
  #heardMs: number;
  /** Silences since anything came from a peer that does not deal, and when something had been heard before the last of them. */
  #needs = 0;
  #neededMs = 0;

  /** Nothing for `silentMs` is a silence. */
  constructor(limits: Pick<FetchLimits, 'dealNeeds' | 'dealPatienceMs'>, silentMs: number, nowMs: number) {
    this.#limits = limits;
    this.#silentMs = silentMs;
    this.#firstSinceMs = nowMs;
    this.#heardMs = nowMs;
  }

  /** Another piece is waited for, or the same one from now on. */
  waits(nowMs: number): void {
    this.#firstSinceMs = nowMs;
  }

  /** Bytes of use came; `asMeant` from whoever was to give them. */
  heard(nowMs: number, asMeant: boolean): void {
    this.#heardMs = nowMs;
    if (asMeant) this.#needs = 0;
  }

  /**
   * Whether it is asked for a piece all the same: the next one, when nothing comes from anybody or that piece is late; any, when nothing has
   * come from the others for many silences.
   */
  isOver(isNext: boolean, nowMs: number): boolean {
    if (this.#needs >= this.#limits.dealNeeds) return true;
    if (!isNext) return false;
    const silent = nowMs - this.#heardMs > this.#silentMs;
    if (!silent) return nowMs - this.#firstSinceMs > this.#limits.dealPatienceMs;
    // Once for each silence.
    if (this.#neededMs !== this.#heardMs) {
      this.#needs++;
      this.#neededMs = this.#heardMs;
    }
    return true;
  }
}
