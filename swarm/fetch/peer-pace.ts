/**
 * How many blocks a peer is asked for at once: as many as its path holds, by the rate and the round trip that are measured over it, so that
 * a far one is kept busy and a slow one keeps nothing waiting. Decisions only: no clock of its own.
 *
 * What comes while less was asked than its path holds grows with what is asked, so that it is doubled with each round trip until the rate
 * grows no more (as BBR begins); from then on a little more than what fits is asked for, to notice when more would.
 */

import { blockBytes } from '../wire/limits.ts';
import type { FetchLimits } from './fetch-limits.ts';
import type { PeerPace as RememberedPace } from './peer-book.ts';

/** When a block was asked for, and what had come until then. */
export interface AskedAt {
  readonly atMs: number;
  readonly receivedBytes: number;
}

export type PaceLimits = Pick<FetchLimits, 'maxRequests' | 'slackMs'>;

/** Blocks beyond what fits: one that is on its way while another is asked for. */
const spareBlocks = 2;
/** Round trips that the path is filled with, while its rate may still grow, and after that. */
const growingTrips = 2;
const steadyTrips = 1.25;
/** So much faster than in the round before still counts as growth, and so many rounds without it end it. */
const growth = 1.25;
const roundsWithoutGrowth = 2;
/** The best rate of the last one to two of these counts, so that a pause of the machine changes nothing. */
const rateMs = 500;

export class PeerPace {
  readonly #limits: PaceLimits;
  readonly #startBlocks: number;
  #receivedBytes = 0;
  #roundTripMs: number | undefined;
  /** Bytes in a millisecond: the best of this time and of the one before. */
  #best = 0;
  #bestBefore = 0;
  #rateSinceMs = Number.NEGATIVE_INFINITY;
  #growing = true;
  #grownTo = 0;
  #rounds = 0;
  #roundEndsAtBytes = 0;

  /** `startBlocks`: asked for while nothing is known of it. `known`: what it gave lately. */
  constructor(limits: PaceLimits, startBlocks: number, known?: RememberedPace) {
    this.#limits = limits;
    const knownBlocks =
      known === undefined
        ? 0
        : blocksOf((known.bytesPerSecond / 1_000) * (known.roundTripMs + limits.slackMs));
    this.#startBlocks = Math.min(Math.max(startBlocks, knownBlocks), limits.maxRequests);
  }

  /** Blocks that may be asked for and not here. */
  get window(): number {
    const rate = this.#rate;
    if (rate === 0) return this.#startBlocks;
    const tripMs = (this.#growing ? growingTrips : steadyTrips) * (this.#roundTripMs ?? 0);
    const blocks = blocksOf(rate * (tripMs + this.#limits.slackMs)) + spareBlocks;
    return Math.min(blocks, this.#limits.maxRequests);
  }

  /** 0 while nothing came. */
  get bytesPerSecond(): number {
    return this.#rate * 1_000;
  }

  /** The least that was seen from a request to the end of its block, or to the answer of the handshake. */
  get roundTripMs(): number | undefined {
    return this.#roundTripMs;
  }

  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  /** It answered something that cost it nothing. */
  answeredAfter(ms: number): void {
    this.#roundTripMs = Math.min(this.#roundTripMs ?? ms, ms);
  }

  /** To be kept with the blocks that are asked for now. */
  asks(nowMs: number): AskedAt {
    return { atMs: nowMs, receivedBytes: this.#receivedBytes };
  }

  /** A block has come; `limited` when less was asked of it than `window`, so that its rate says nothing about its path. */
  got(bytes: number, { atMs, receivedBytes }: AskedAt, nowMs: number, limited: boolean): void {
    this.#receivedBytes += bytes;
    // Clocks are not finer than that.
    const tookMs = Math.max(nowMs - atMs, 0.05);
    this.answeredAfter(tookMs);
    const rate = (this.#receivedBytes - receivedBytes) / tookMs;
    if (!limited && nowMs - this.#rateSinceMs > Math.max(rateMs, 2 * (this.#roundTripMs ?? 0))) {
      this.#bestBefore = this.#best;
      this.#best = 0;
      this.#rateSinceMs = nowMs;
    }
    this.#best = Math.max(this.#best, rate);
    if (!limited && this.#growing && receivedBytes >= this.#roundEndsAtBytes) this.#endRound();
  }

  /** How long a block would take that is asked for now, with `waiting` others before it; `undefined` while that is unknown. */
  expectMs(waiting: number): number | undefined {
    const rate = this.#rate;
    if (rate === 0) return undefined;
    return (this.#roundTripMs ?? 0) + ((waiting + 1) * blockBytes) / rate;
  }

  /** It stood still: what was measured does not hold any more. */
  restart(): void {
    this.#best = 0;
    this.#bestBefore = 0;
    this.#rateSinceMs = Number.NEGATIVE_INFINITY;
    this.#growing = true;
    this.#grownTo = 0;
    this.#rounds = 0;
    this.#roundEndsAtBytes = this.#receivedBytes;
  }

  get #rate(): number {
    return Math.max(this.#best, this.#bestBefore);
  }

  /** All has come that had been asked for when the last round ended. */
  #endRound(): void {
    this.#roundEndsAtBytes = this.#receivedBytes;
    const rate = this.#rate;
    if (rate >= growth * this.#grownTo) {
      this.#grownTo = rate;
      this.#rounds = 0;
    } else if (++this.#rounds >= roundsWithoutGrowth) {
      this.#growing = false;
    }
  }
}

function blocksOf(bytes: number): number {
  return Math.ceil(bytes / blockBytes);
}
