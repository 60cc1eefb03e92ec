/** Finds the narinfo of a store path: in a view that is held here, from the upstreams in order, from the catalogs, or from what was given out before. */

import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { type NarInfo, parseNarInfo, withUrl } from '../nar/narinfo.ts';
import { type StoreHash, storeDirOf } from '../nar/store-path.ts';
import { isDiskFull } from '../store/disk-error.ts';
import type { HttpCache } from '../upstream/http-cache.ts';
import type { Logger } from '../web/log.ts';
import type { ClientLimits } from './config.ts';
import type { Counts } from './counts.ts';
import { isAbsoluteUrl, mayFollow, ownUrlOf, urlKeyOf, urlKeyOfNarUrl } from './local-url.ts';
import type { ClientState, GivenNarInfo } from './state.ts';
import type { Views } from './views.ts';

/** Made once: an abort without a reason makes an exception with a stack each time. */
const settledReason = new NarswarmError('aborted', 'another source was first');

export interface NarInfoFinderOptions {
  /** Upstreams, then catalogs. */
  sources: HttpCache[];
  views: Pick<Views, 'narInfo' | 'revoked'>;
  state: ClientState;
  counts: Counts;
  limits: ClientLimits;
  logger: Logger;
  /** A narinfo could not be remembered for lack of room. */
  onDiskFull(): void;
  /** The store directory of the caches, when it is known. */
  storeDir(): string | undefined;
}

export class NarInfoFinder {
  readonly #options: NarInfoFinderOptions;

  constructor(options: NarInfoFinderOptions) {
    this.#options = options;
  }

  /** What to give out, remembered before it is; `undefined` when nobody has it. Never throws, and takes at most the budget. */
  async find(storeHash: StoreHash, signal: AbortSignal): Promise<GivenNarInfo | undefined> {
    const given = await this.#find(storeHash, signal);
    const fileHash = given?.narInfo.fileHash;
    const revoked = fileHash && this.#options.views.revoked(fileHash);
    if (revoked === undefined) return given;
    this.#options.logger.warn('narinfo-revoked', { storeHash, fileHash, reason: revoked.reason });
    return undefined;
  }

  async #find(storeHash: StoreHash, signal: AbortSignal): Promise<GivenNarInfo | undefined> {
    const { counts, limits, logger, state } = this.#options;
    const viewed = this.#inViews(storeHash);
    if (viewed !== undefined) {
      counts.narInfos.viewed++;
      return this.#give(storeHash, viewed.narInfo, viewed.cache);
    }
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(limits.narInfoBudgetMs)]);
    const { found, failures } = await this.#ask(storeHash, deadline);
    if (found !== undefined) {
      counts.narInfos.found++;
      return this.#give(storeHash, found.narInfo, found.cache);
    }
    const remembered = failures > 0 ? state.givenByStoreHash(storeHash) : undefined;
    if (remembered === undefined) counts.narInfos.absent++;
    else {
      counts.narInfos.remembered++;
      logger.warn('narinfo-remembered', { storeHash, failures });
    }
    return remembered;
  }

  /** As if from the first source, which is asked for the NAR file first, too. */
  #inViews(storeHash: StoreHash): { narInfo: NarInfo; cache: HttpCache } | undefined {
    const { views, sources, logger } = this.#options;
    const [cache] = sources;
    if (cache === undefined) return undefined;
    try {
      const text = views.narInfo(storeHash)?.text;
      return text === undefined ? undefined : { narInfo: this.#parse(text), cache };
    } catch (error) {
      logger.warn('narinfo-source-failed', { storeHash, source: 'view', error });
      return undefined;
    }
  }

  /**
   * Asks one source after the other. One that takes long is not waited for: the next is asked besides, so that a
   * hanging one cannot use up the time of all. Then the first that has it wins.
   */
  #ask(
    storeHash: StoreHash,
    signal: AbortSignal,
  ): Promise<{ found: { narInfo: NarInfo; cache: HttpCache } | undefined; failures: number }> {
    const { sources, limits, logger } = this.#options;
    const hedgeMs = Math.min(limits.narInfoHedgeMs, limits.narInfoBudgetMs / (sources.length + 1));
    const settled = new AbortController();
    const all = AbortSignal.any([signal, settled.signal]);
    return new Promise((resolve) => {
      let started = 0;
      let ended = 0;
      let failures = 0;
      let hedge: NodeJS.Timeout | undefined;
      const settle = (found?: { narInfo: NarInfo; cache: HttpCache }): void => {
        clearTimeout(hedge);
        signal.removeEventListener('abort', giveUp);
        resolve({ found, failures });
        settled.abort(settledReason);
      };
      const giveUp = (): void => {
        failures += started - ended;
        settle();
      };
      const startNext = (): void => {
        clearTimeout(hedge);
        const cache = sources[started];
        if (cache === undefined) {
          if (ended === sources.length) settle();
          return;
        }
        started++;
        hedge = setTimeout(startNext, hedgeMs);
        this.#askOne(cache, storeHash, all)
          .then((narInfo) => {
            if (narInfo !== undefined) settle({ narInfo, cache });
          })
          .catch((error: unknown) => {
            failures++;
            if (!all.aborted) logger.warn('narinfo-source-failed', { storeHash, source: cache.url, error });
          })
          .finally(() => {
            ended++;
            if (!all.aborted) startNext();
          });
      };
      signal.addEventListener('abort', giveUp, { once: true });
      if (signal.aborted) giveUp();
      else startNext();
    });
  }

  async #askOne(cache: HttpCache, storeHash: StoreHash, signal: AbortSignal): Promise<NarInfo | undefined> {
    const text = await cache.getNarInfo(storeHash, signal);
    return text === undefined ? undefined : this.#parse(text);
  }

  /** That it is about the path asked for is seen to already. Throws when it does not parse, or is of another store. */
  #parse(text: string): NarInfo {
    const narInfo = parseNarInfo(text);
    const storeDir = this.#options.storeDir();
    if (storeDir !== undefined && storeDirOf(narInfo.storePath) !== storeDir) {
      throw new NarswarmError('store-dir-mismatch', `${narInfo.storePath} is not in ${storeDir}`);
    }
    return narInfo;
  }

  #give(storeHash: StoreHash, narInfo: NarInfo, cache: HttpCache): GivenNarInfo {
    const { state, logger } = this.#options;
    const given = {
      storeHash,
      origin: cache.url,
      narUrl: narInfo.url,
      ...this.#localUrl(storeHash, narInfo, cache),
    };
    // An absolute URL that is left as it is leads past us; there is nothing to remember.
    if (given.urlKey === undefined) return { ...given, urlKey: '' };
    const remembered = { ...given, urlKey: given.urlKey };
    try {
      state.give(remembered);
    } catch (error) {
      logger.error('state-failed', { error });
      if (isDiskFull(error)) this.#options.onDiskFull();
    }
    return remembered;
  }

  /** Verbatim whenever Nix will ask us for the URL and we can tell what it means. docs/decisions/0002-absolute-urls.md. */
  #localUrl(
    storeHash: StoreHash,
    narInfo: NarInfo,
    cache: HttpCache,
  ): { narInfo: NarInfo; urlKey: string | undefined } {
    const urlKey = urlKeyOfNarUrl(narInfo.url);
    if (urlKey !== undefined && !this.#meansAnother(urlKey, storeHash, narInfo)) return { narInfo, urlKey };
    if (isAbsoluteUrl(narInfo.url) && !this.#canFetch(cache, narInfo.url))
      return { narInfo, urlKey: undefined };
    const url = ownUrlOf(narInfo);
    return { narInfo: withUrl(narInfo, url), urlKey: urlKeyOf(`/${url}`) };
  }

  /** True when the URL was given out for the NAR of another path, as happens between caches that name files freely. */
  #meansAnother(urlKey: string, storeHash: StoreHash, { narHash, fileHash }: NarInfo): boolean {
    const before = this.#options.state.givenByUrl(urlKey);
    if (before === undefined || before.storeHash === storeHash) return false;
    return before.narInfo.narHash !== narHash || before.narInfo.fileHash !== fileHash;
  }

  #canFetch(cache: HttpCache, narUrl: string): boolean {
    try {
      return mayFollow(cache.resolveUrl(narUrl), this.#options.sources);
    } catch (error) {
      if (isNarswarmError(error)) return false;
      throw error;
    }
  }
}
