/**
 * Keeps a fetch from running away from a reader that is nearly as quick: what is still in memory when it is read costs neither a read of
 * the file nor the memory for it, and both share the machine. A slow reader is not waited for.
 */

/** Bytes that a reader may be behind before it is waited for. As of a fetch's room, only one fetch at a time fills it. */
export const behindMaxBytes = 8 * 1024 * 1024;

/** A reader that is no further behind is with the fetch, and is waited for from then on. */
const nearBytes = 2 * 1024 * 1024;

/** What a reader must take to be waited for: Nix takes less while it unpacks, and more of what is not compressed. */
const leastBytesPerMs = 100_000;

/** Waited for beyond that at a time: the machine may have been busy with something else. */
const patienceMs = 250;

export class ReaderPace {
  #takenTo = 0;
  #follows = false;
  /** What it may still be waited for. */
  #leftMs = patienceMs;
  #wake: (() => void) | undefined;

  /** A reader was given bytes up to there, of those up to `releasedTo`. */
  took(toByte: number, releasedTo: number): void {
    this.#takenTo = Math.max(this.#takenTo, toByte);
    if (!this.#follows && releasedTo - toByte <= nearBytes) {
      this.#follows = true;
      this.#leftMs = patienceMs;
    }
    this.#wake?.();
  }

  /** Whether what ends there is to be kept in memory for it. */
  needs(endByte: number): boolean {
    return this.#follows && endByte > this.#takenTo;
  }

  /** Called before `bytes` more come. Resolves, with the milliseconds that it took, when the reader is near enough or was found to be slow. */
  async follow(releasedTo: number, bytes: number): Promise<number> {
    if (!this.#follows) return 0;
    this.#leftMs = Math.min(patienceMs, this.#leftMs + bytes / leastBytesPerMs);
    let waitedMs = 0;
    while (releasedTo - this.#takenTo > behindMaxBytes && this.#follows) {
      const sinceMs = performance.now();
      await this.#next(this.#leftMs);
      const ms = performance.now() - sinceMs;
      waitedMs += ms;
      this.#leftMs -= ms;
      this.#follows = this.#leftMs > 0;
    }
    return waitedMs;
  }

  #next(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake?.(), Math.ceil(ms));
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = undefined;
        resolve();
      };
    });
  }
}
