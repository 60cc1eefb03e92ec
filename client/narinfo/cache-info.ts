/** nix-cache-info: always there, also while everything else is down, with the store directory of the caches behind. */

import { setTimeout as delay } from 'node:timers/promises';
import {
  cacheInfoDefaultStoreDir,
  printCacheInfo,
  type CacheInfo as SourceInfo,
} from '../../nar/cache-info.ts';
import type { HttpCache } from '../../upstream/http-cache.ts';
import type { Logger } from '../../web/log.ts';
import type { ClientState } from '../state/state.ts';

/** Before cache.nixos.org, which says 40: lower wins. */
export const clientPriority = 30;

const storeDirFact = 'store-dir';

export interface CacheInfoOptions {
  /** Upstreams, then catalogs. */
  sources: HttpCache[];
  /** What a source says of itself. */
  onInfo(source: HttpCache, info: SourceInfo): void;
  state: ClientState;
  logger: Logger;
  budgetMs: number;
  /** One that comes before others is waited for so long when one of those has answered. */
  hedgeMs: number;
}

export class CacheInfo {
  readonly #options: CacheInfoOptions;
  readonly #closing = new AbortController();
  #asking: Promise<void> | undefined;
  /** Also those that are not waited for. */
  #answers: Promise<unknown> = Promise.resolve();
  /** Read from the disk once, and not for each narinfo. */
  #storeDir: string | undefined;

  /** Begins to ask the sources. */
  constructor(options: CacheInfoOptions) {
    this.#options = options;
    this.#storeDir = options.state.fact(storeDirFact);
    void this.#ask();
  }

  /** As a source once said; `undefined` when none ever did. */
  storeDir(): string | undefined {
    return this.#storeDir;
  }

  /** The text of nix-cache-info. Waits for a source only if none ever answered, and not longer than the budget. */
  async text(): Promise<string> {
    if (this.storeDir() === undefined) await this.#ask();
    const storeDir = this.storeDir() ?? cacheInfoDefaultStoreDir;
    return printCacheInfo({ storeDir, wantMassQuery: true, priority: clientPriority });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#asking;
    await this.#answers;
  }

  #ask(): Promise<void> {
    this.#asking ??= this.#askAll().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #askAll(): Promise<void> {
    const { sources, logger, budgetMs, hedgeMs, onInfo } = this.#options;
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(budgetMs)]);
    const answers = sources.map(async (source) => {
      try {
        const info = await source.getCacheInfo(signal);
        if (info !== undefined) onInfo(source, info);
        return info?.storeDir;
      } catch (error) {
        if (!this.#closing.signal.aborted) logger.warn('cache-info-failed', { source: source.url, error });
        return undefined;
      }
    });
    this.#answers = Promise.all(answers);
    const enough = Promise.race(
      answers.map(async (answer) => {
        if ((await answer) === undefined) await this.#answers;
        else await delay(hedgeMs, undefined, { ref: false });
        return undefined;
      }),
    );
    for (const answer of answers) {
      const storeDir = await Promise.race([answer, enough]);
      if (this.#closing.signal.aborted) return;
      if (storeDir === undefined) continue;
      this.#learn(storeDir);
      return;
    }
  }

  /** On a full disk it is known until the client stops. */
  #learn(storeDir: string): void {
    const { state, logger } = this.#options;
    const before = this.storeDir();
    this.#storeDir = storeDir;
    if (storeDir === before) return;
    try {
      state.setFact(storeDirFact, storeDir);
    } catch (error) {
      logger.warn('state-failed', { error });
    }
  }
}
