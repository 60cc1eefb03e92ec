/** Looks at the heads of all catalogs again and again, each for itself, and says when one has changed. */

import { isNarswarmError } from '../nar/errors.ts';
import type { Logger } from '../web/log.ts';
import type { MirrorCatalog } from './catalogs.ts';
import { WakeUp } from './wake-up.ts';

export interface FollowersOptions {
  catalogs: readonly MirrorCatalog[];
  everyMs: number;
  logger: Logger;
  /** A catalog says something that it did not say before; or, at start, what it said last time. */
  onChange(): void;
  /** A catalog is there again after it could not be followed. */
  onReached(): void;
}

export class Followers {
  readonly #options: FollowersOptions;
  readonly #closing = new AbortController();
  readonly #loops: Promise<void>[];

  constructor(options: FollowersOptions) {
    this.#options = options;
    this.#loops = options.catalogs.map((catalog) => this.#run(catalog));
    options.onChange();
  }

  /** May be called twice. */
  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#loops);
  }

  async #run(catalog: MirrorCatalog): Promise<void> {
    const { everyMs, logger, onChange, onReached } = this.#options;
    const { signal } = this.#closing;
    let failed = '';
    while (!signal.aborted) {
      try {
        await catalog.follow(signal, () => {
          logger.info('catalog-followed', { ...catalog.status() });
          onChange();
        });
        if (failed !== '') onReached();
        failed = '';
      } catch (error) {
        if (signal.aborted) return;
        const code = isNarswarmError(error) ? error.code : 'unknown';
        // What goes on failing in the same way is logged once.
        if (code !== failed) logger.warn('catalog-not-followed', { catalog: catalog.name, error });
        failed = code;
      }
      await new WakeUp().wait(everyMs, signal);
    }
  }
}
