/** Whoever opens, closes: what a program has opened is closed in the opposite order, also when a later step of its start fails. */

import type { Logger } from '../web/log.ts';

export class Closers {
  readonly #logger: Logger;
  readonly #closers: (() => unknown)[] = [];
  #closing: Promise<void> | undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  push(close: () => unknown): void {
    this.#closers.push(close);
  }

  /** One that fails is logged, and does not keep the others from being closed. May be called twice. */
  close(): Promise<void> {
    this.#closing ??= this.#closeAll();
    return this.#closing;
  }

  async #closeAll(): Promise<void> {
    for (let close = this.#closers.pop(); close !== undefined; close = this.#closers.pop()) {
      try {
        await close();
      } catch (error) {
        this.#logger.error('close-failed', { error });
      }
    }
  }
}
