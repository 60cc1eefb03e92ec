/** Reads the sources, once at a time, and says how far it is. */

import { isNarswarmError } from '../nar/errors.ts';
import type { Logger } from '../web/log.ts';
import type { Ingest } from './ingest.ts';

/** Between two lines about a long reading. */
const progressEveryMs = 5_000;

export class Reading {
  readonly #ingest: Ingest;
  readonly #logger: Logger;
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;

  constructor(ingest: Ingest, logger: Logger) {
    this.#ingest = ingest;
    this.#logger = logger;
  }

  /** Resolves when the sources were read, or reading was stopped; what failed is logged, and tried again next time. */
  read(): Promise<void> {
    if (this.#stopping.signal.aborted) return Promise.resolve();
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    await this.#ingest.close();
  }

  async #run(): Promise<void> {
    const timer = setInterval(
      () => this.#logger.info('ingest-progress', { ...this.#ingest.progress() }),
      progressEveryMs,
    );
    try {
      await this.#ingest.run(this.#stopping.signal);
      this.#logger.info('ingest-done', { ...this.#ingest.progress() });
    } catch (error) {
      if (!isNarswarmError(error, 'aborted')) this.#logger.error('ingest-failed', { error });
    } finally {
      clearInterval(timer);
    }
  }
}
