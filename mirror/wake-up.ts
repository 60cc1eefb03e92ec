/** Waiting for something to happen, or for a time. */

/** Wakes whoever waits, all at once; what they wait for they look up themselves. A ring that nobody heard is heard by the next. */
export class WakeUp {
  #rung = false;
  #wake: (() => void) | undefined;

  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  /** Resolves at a ring since the last wait, after `ms`, or when the signal fires. Never rejects. One waits at a time. */
  async wait(ms: number, signal: AbortSignal): Promise<void> {
    if (!this.#rung && !signal.aborted) {
      let timer: NodeJS.Timeout | undefined;
      const wake = (): void => this.#wake?.();
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
        timer = setTimeout(resolve, Math.min(ms, 2 ** 31 - 1));
        signal.addEventListener('abort', wake, { once: true });
      });
      await woken;
      clearTimeout(timer);
      signal.removeEventListener('abort', wake);
      this.#wake = undefined;
    }
    this.#rung = false;
  }
}
