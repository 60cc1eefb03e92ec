/** Bytes that a rate allows: they come with time, and a few may be saved up. */
export class TokenBucket {
  #bytesPerSecond: number;
  readonly #burstMs: number;
  readonly #burstMinBytes: number;
  #bytes: number;
  #filledMs: number;

  /** Starts full. `burstMinBytes`: so much may always be saved up, however low the rate. */
  constructor(bytesPerSecond: number, burstMs: number, burstMinBytes: number, nowMs: number) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#burstMs = burstMs;
    this.#burstMinBytes = burstMinBytes;
    this.#bytes = this.#most();
    this.#filledMs = nowMs;
  }

  get bytesPerSecond(): number {
    return this.#bytesPerSecond;
  }

  setRate(bytesPerSecond: number, nowMs: number): void {
    this.available(nowMs);
    this.#bytesPerSecond = bytesPerSecond;
    this.#bytes = Math.min(this.#bytes, this.#most());
  }

  /** Bytes that may be taken now. */
  available(nowMs: number): number {
    const passedMs = Math.max(0, nowMs - this.#filledMs);
    this.#filledMs = nowMs;
    this.#bytes = Math.min(this.#bytes + (this.#bytesPerSecond * passedMs) / 1_000, this.#most());
    return this.#bytes;
  }

  take(bytes: number): void {
    this.#bytes -= bytes;
  }

  #most(): number {
    return Math.max((this.#bytesPerSecond * this.#burstMs) / 1_000, this.#burstMinBytes);
  }
}
