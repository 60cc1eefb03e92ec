/** nix-cache-info: always there, also while everything else is down, with the store directory of the caches behind. */

import { setTimeout as delay } from 'node:timers/promises';
import {
  cacheInfoDefaultStoreDir,
  printCacheInfo,
  type CacheInfo as SourceInfo,
} from '../../nar/cache-info.ts';
import type { HttpCache } from '../../upstream/http-cache.ts';
import type { Logger } from '../../web/log.ts';
import type { StoreDirs } from '../store-dirs.ts';

/** Before cache.nixos.org, which says 40: lower wins. */
export const clientPriority = 30;

export interface CacheInfoOptions {
  /** Upstreams, then catalogs. */
  sources: HttpCache[];
  /** What a source says of itself. */
  onInfo(source: HttpCache, info: SourceInfo): void;
  storeDirs: Pick<StoreDirs, 'current' | 'isForeign' | 'of'>;
  logger: Logger;
  budgetMs: number;
  /** One that serves another store directory, or has not said which, is asked again so often. */
  againMs: number;
  /** One that comes before others is waited for so long when one of those has answered. */
  hedgeMs: number;
}

export class CacheInfo {
  readonly #options: CacheInfoOptions;
  readonly #closing = new AbortController();
  #asking: Promise<void> | undefined;
  /** Also those that are not waited for. */
  #answers: Promise<unknown> = Promise.resolve();
  readonly #again: NodeJS.Timeout;

  /** Begins to ask the sources. */
  constructor(options: CacheInfoOptions) {
    this.#options = options;
    void this.#ask();
    this.#again = setInterval(() => this.#askAgain(), options.againMs);
  }

  /** The text of nix-cache-info. Waits for a source only if none ever answered, and not longer than the budget. */
  async text(): Promise<string> {
    const { storeDirs } = this.#options;
    if (storeDirs.current === undefined) await this.#ask();
    const storeDir = storeDirs.current ?? cacheInfoDefaultStoreDir;
    return printCacheInfo({ storeDir, wantMassQuery: true, priority: clientPriority });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    clearInterval(this.#again);
    await this.#asking;
    await this.#answers;
  }

  #ask(): Promise<void> {
    this.#asking ??= this.#askAll().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  /** Resolves when enough of them have answered. */
  async #askAll(): Promise<void> {
    const { sources, hedgeMs } = this.#options;
    const answers = sources.map((source) => this.#askOne(source));
    this.#answers = Promise.all(answers);
    const enough = Promise.race(
      answers.map(async (answer) => {
        if (await answer) await delay(hedgeMs, undefined, { ref: false });
        else await this.#answers;
      }),
    );
    await Promise.race([enough, this.#answers]);
  }

  /** Whether it answered. */
  async #askOne(source: HttpCache): Promise<boolean> {
    const { logger, budgetMs, onInfo } = this.#options;
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(budgetMs)]);
    try {
      const info = await source.getCacheInfo(signal);
      if (info === undefined) return false;
      onInfo(source, info);
      return true;
    } catch (error) {
      if (!this.#closing.signal.aborted) logger.warn('cache-info-failed', { source: source.url, error });
      return false;
    }
  }

  /** Whoever has not said which it serves is taken to serve that of the others, and has nothing to give if they are wrong. */
  #askAgain(): void {
    const { sources, storeDirs } = this.#options;
    const asked = sources.filter(({ url }) => storeDirs.isForeign(url) || storeDirs.of(url) === undefined);
    if (asked.length > 0)
      this.#answers = Promise.all([this.#answers, ...asked.map((each) => this.#askOne(each))]);
  }
}
