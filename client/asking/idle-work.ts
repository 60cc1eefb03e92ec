/** Work that can wait until Nix has not asked for anything for a while: a little in each turn, the oldest first. */

/** In one turn: a millisecond or two. */
const turnActions = 8;

export interface IdleWorkOptions {
  /** Milliseconds without `touch` after which it begins. */
  quietMs: number;
  /** What waits at most; of more, the oldest is left undone. */
  most: number;
}

export class IdleWork {
  readonly #options: IdleWorkOptions;
  readonly #waiting = new Set<() => void>();
  #touchedMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: IdleWorkOptions) {
    this.#options = options;
  }

  /** Nix is being answered. */
  touch(): void {
    this.#touchedMs = performance.now();
  }

  /** `action` must not throw. */
  add(action: () => void): void {
    if (this.#closed) return;
    this.#waiting.add(action);
    const oldest = this.#waiting.values().next();
    if (this.#waiting.size > this.#options.most && !oldest.done) this.#waiting.delete(oldest.value);
    this.#timer ??= this.#later(this.#options.quietMs);
  }

  /** What waits is left undone. May be called twice. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#waiting.clear();
  }

  #later(ms: number): NodeJS.Timeout {
    return setTimeout(() => this.#turn(), ms).unref();
  }

  #turn(): void {
    this.#timer = undefined;
    const { quietMs } = this.#options;
    const leftMs = this.#touchedMs + quietMs - performance.now();
    if (leftMs > 0) {
      this.#timer = this.#later(leftMs);
      return;
    }
    let actions = 0;
    for (const action of this.#waiting) {
      this.#waiting.delete(action);
      action();
      if (++actions === turnActions) break;
    }
    if (this.#waiting.size > 0) this.#timer = this.#later(1);
  }
}
