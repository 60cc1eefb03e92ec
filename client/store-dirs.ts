/**
 * Which store directory the caches behind this client serve. A client can serve one only, as its nix-cache-info says; a cache that serves
 * another one counts for nothing here.
 */

import { cacheInfoDefaultStoreDir } from '../nar/cache-info.ts';
import type { Logger } from '../web/log.ts';

export interface StoreDirsOptions {
  /** URLs of those that are asked, in the order in which they were given. What upstreams say counts before what catalogs say. */
  upstreams: readonly string[];
  catalogs: readonly string[];
  /** Where it is remembered what they said. */
  facts: { fact(name: string): string | undefined; setFact(name: string, value: string): void };
  logger: Logger;
}

export class StoreDirs {
  readonly #options: StoreDirsOptions;
  readonly #known = new Map<string, string>();
  #current: string | undefined;
  /** Said in the log already. */
  readonly #told = new Set<string>();

  constructor(options: StoreDirsOptions) {
    this.#options = options;
    const { upstreams, catalogs, facts } = options;
    for (const url of [...upstreams, ...catalogs]) {
      const storeDir = facts.fact(factOf(url));
      if (storeDir !== undefined) this.#known.set(url, storeDir);
    }
    this.#current = this.#choose();
  }

  /** That of the caches, also before this start; `undefined` when none ever said one. */
  get current(): string | undefined {
    return this.#current;
  }

  /** What one said, also before this start. */
  of(url: string): string | undefined {
    return this.#known.get(url);
  }

  /** Whether one serves a store directory that is not that of the others. */
  isForeign(url: string): boolean {
    const own = this.#known.get(url);
    return own !== undefined && own !== this.#current;
  }

  /** On a full disk it is known until the client stops. */
  learn(url: string, storeDir: string): void {
    const { facts, logger } = this.#options;
    if (this.#known.get(url) !== storeDir) {
      this.#known.set(url, storeDir);
      this.#current = this.#choose();
      try {
        facts.setFact(factOf(url), storeDir);
      } catch (error) {
        logger.warn('state-failed', { error });
      }
    }
    this.#tell();
  }

  /** Those that are left out, and those that are back. */
  #tell(): void {
    for (const [url, storeDir] of this.#known) {
      if (!this.isForeign(url)) this.#told.delete(url);
      else if (!this.#told.has(url)) {
        this.#told.add(url);
        this.#options.logger.warn('store-dir-differs', { source: url, storeDir, served: this.#current });
      }
    }
  }

  /** That of the most; of as many the one that nearly every machine has, or the first. One that is wrong then hides nobody. */
  #choose(): string | undefined {
    const { upstreams, catalogs } = this.#options;
    for (const urls of [upstreams, catalogs]) {
      const votes = new Map<string, number>();
      for (const url of urls) {
        const storeDir = this.#known.get(url);
        if (storeDir !== undefined) votes.set(storeDir, (votes.get(storeDir) ?? 0) + 1);
      }
      const most = Math.max(...votes.values());
      const best = [...votes.keys()].filter((storeDir) => votes.get(storeDir) === most);
      if (best.length > 0)
        return best.includes(cacheInfoDefaultStoreDir) ? cacheInfoDefaultStoreDir : best[0];
    }
    return undefined;
  }
}

function factOf(url: string): string {
  return `store-dir ${url}`;
}
