/** Finds the narinfo of a store path: in a view that is held here, from the upstreams in order, from the catalogs, or from what was given out before. */

import { isNarswarmError, NarswarmError } from '../../nar/errors.ts';
import { lazyNarInfo } from '../../nar/lazy-narinfo.ts';
import { type NarInfo, parseNarInfo, withUrl } from '../../nar/narinfo.ts';
import { type StoreHash, storeDirOf } from '../../nar/store-path.ts';
import { isDiskFull } from '../../store/disk-error.ts';
import type { HttpCache } from '../../upstream/http-cache.ts';
import type { Logger } from '../../web/log.ts';
import type { ClientLimits } from '../config.ts';
import type { Counts } from '../counts.ts';
import { isAbsoluteUrl, isNamedByHash, mayFollow, ownUrlOf, urlKeyOf, urlKeyOfNarUrl } from '../local-url.ts';
import type { ClientState, GivenNarInfo } from '../state/state.ts';
import type { StoreDirs } from '../store-dirs.ts';
import { NarInfoCache, type Ready } from './narinfo-cache.ts';
import type { Views } from './views.ts';

/** Made once: an abort without a reason makes an exception with a stack each time. */
const settledReason = new NarswarmError('aborted', 'another source was first');
const closingReason = new NarswarmError('aborted', 'the client is stopping');
const lateReason = new NarswarmError('upstream-failed', 'no narinfo in time');

interface Found {
  narInfo: NarInfo;
  cache: HttpCache;
}

/** What became of asking the sources. */
interface Asked {
  found: Found | undefined;
  /** Sources that could not tell. */
  failures: number;
}

export interface NarInfoFinderOptions {
  /** Upstreams, then catalogs, in the order in which they are asked. */
  sources(): readonly HttpCache[];
  /** True for a source that is not to be waited for: it is as good as one that failed. */
  resting(source: HttpCache): boolean;
  /** True for one of those that answered not long ago. */
  slow(source: HttpCache): boolean;
  views: Pick<Views, 'narInfoText' | 'revoked' | 'version'>;
  state: ClientState;
  counts: Counts;
  limits: ClientLimits;
  logger: Logger;
  /** A narinfo could not be remembered for lack of room. */
  onDiskFull(): void;
  /** Those of the caches, as far as they are known. */
  storeDirs: Pick<StoreDirs, 'current' | 'of'>;
  clock: () => number;
}

export class NarInfoFinder {
  readonly #options: NarInfoFinderOptions;
  readonly #cache: NarInfoCache;
  /** Under way. */
  readonly #finding = new Map<StoreHash, Promise<GivenNarInfo | undefined>>();
  /** Requests whose answer came too late to matter, by source. */
  readonly #listening = new Set<HttpCache>();
  /** Gives up what is being asked. */
  readonly #asking = new Set<(reason: NarswarmError) => void>();
  #closed = false;

  constructor(options: NarInfoFinderOptions) {
    this.#options = options;
    const { clock, limits, state, views } = options;
    this.#cache = new NarInfoCache({
      limits,
      clock,
      version: () => views.version(),
      inserts: () => state.inserts,
    });
  }

  /** What to give out, if it is known without asking anybody; `absent` when nobody had it a moment ago. */
  ready(storeHash: StoreHash): GivenNarInfo | 'absent' | undefined {
    const ready = this.#cache.ready(storeHash);
    if (ready === undefined) return undefined;
    const { counts } = this.#options;
    if (ready === 'absent') {
      counts.narInfos.absent++;
      return ready;
    }
    counts.narInfos[ready.kind]++;
    return ready.given;
  }

  /** What to give out, remembered before it is; `undefined` when nobody has it. Takes at most the budget. */
  find(storeHash: StoreHash): Promise<GivenNarInfo | undefined> {
    const { promise, resolve } = Promise.withResolvers<GivenNarInfo | undefined>();
    if (!this.findViewed(storeHash, resolve)) resolve(this.findElsewhere(storeHash));
    return promise;
  }

  /** The same for what is in a view, at the end of this turn of the event loop, and without promises, as there are thousands. False if it is in none. */
  findViewed(storeHash: StoreHash, give: (given: GivenNarInfo | undefined) => void): boolean {
    const { counts, views } = this.#options;
    const version = views.version();
    const viewed = this.#inViews(storeHash);
    if (viewed === undefined) return false;
    counts.narInfos.viewed++;
    this.#give(storeHash, viewed, { kind: 'viewed', version }, give);
    return true;
  }

  /**
   * The same for what is in no view. Sources are asked once, however many ask. Whoever goes away leaves it to the others, and to
   * the cache.
   */
  findElsewhere(storeHash: StoreHash): Promise<GivenNarInfo | undefined> {
    const { counts, views } = this.#options;
    const version = views.version();
    // First: what was found is known to the state before it is written.
    const running = this.#finding.get(storeHash);
    if (running !== undefined) return running;
    const recent = this.#recent(storeHash);
    if (recent !== undefined) {
      if (this.#isRevoked(recent.given)) return Promise.resolve(undefined);
      counts.narInfos.cached++;
      this.#cache.keep({ kind: 'cached', given: recent.given }, version, recent.atMs);
      return Promise.resolve(recent.given);
    }
    const finding = this.#askFor(storeHash, version).finally(() => this.#finding.delete(storeHash));
    this.#finding.set(storeHash, finding);
    return finding;
  }

  /** The NAR file is not to be had as the narinfo says: sources are asked for it again, the next time. */
  distrust(storeHash: StoreHash): void {
    this.#cache.distrust(storeHash);
  }

  /** Breaks off what is being asked. */
  close(): void {
    this.#closed = true;
    for (const giveUp of this.#asking) giveUp(closingReason);
  }

  async #askFor(storeHash: StoreHash, version: number): Promise<GivenNarInfo | undefined> {
    const { counts, logger, state } = this.#options;
    const { found, failures } = await this.#ask(storeHash);
    if (found !== undefined) {
      counts.narInfos.found++;
      return new Promise((resolve) => this.#give(storeHash, found, { kind: 'cached', version }, resolve));
    }
    const remembered = failures > 0 ? state.givenByStoreHash(storeHash)?.given : undefined;
    if (remembered === undefined) {
      counts.narInfos.absent++;
      // A failure says nothing about the path.
      if (failures === 0) this.#cache.keepAbsent(storeHash, version);
      return undefined;
    }
    if (this.#isRevoked(remembered)) return undefined;
    counts.narInfos.remembered++;
    logger.warn('narinfo-remembered', { storeHash, failures });
    return remembered;
  }

  /** As if from the first source, which is asked for the NAR file first, too. */
  #inViews(storeHash: StoreHash): Found | undefined {
    const { views, sources, logger } = this.#options;
    const [cache] = sources();
    if (cache === undefined) return undefined;
    try {
      const text = views.narInfoText(storeHash);
      return text === undefined ? undefined : { narInfo: this.#checked(lazyNarInfo(text)), cache };
    } catch (error) {
      logger.warn('narinfo-source-failed', { storeHash, source: 'view', error });
      return undefined;
    }
  }

  /** What a source gave lately, in an earlier life of the client or before it left the memory. */
  #recent(storeHash: StoreHash): { given: GivenNarInfo; atMs: number } | undefined {
    const { sources, state } = this.#options;
    if (this.#cache.mustAsk(storeHash)) return undefined;
    const last = state.givenByStoreHash(storeHash);
    if (last === undefined || !this.#cache.isFresh(last.atMs)) return undefined;
    return sources().some(({ url }) => url === last.given.origin) ? last : undefined;
  }

  /**
   * Asks one source after the other. One that takes long is not waited for: the next is asked besides, so that a
   * hanging one cannot use up the time of all. Then the first that has it wins.
   */
  #ask(storeHash: StoreHash): Promise<Asked> {
    const { limits, logger, resting, slow } = this.#options;
    const all = this.#options.sources();
    // One that is slow is not waited for, unless nobody else has it.
    const sources = [...all.filter((cache) => !resting(cache)), ...all.filter(slow)];
    const hedgeMs = Math.min(limits.narInfoHedgeMs, limits.narInfoBudgetMs / (sources.length + 1));
    const running = new Map<HttpCache, { asking: AbortController; startedMs: number }>();
    return new Promise((resolve) => {
      let started = 0;
      let failures = all.length - sources.length;
      let settled = false;
      let hedge: NodeJS.Timeout | undefined;
      const settle = (found?: Found): void => {
        settled = true;
        clearTimeout(hedge);
        resolve({ found, failures });
        for (const [cache, { asking, startedMs }] of running) {
          const late = performance.now() - startedMs >= hedgeMs;
          if (!late || !this.#listensTo(cache)) asking.abort(settledReason);
        }
        endIfOver();
      };
      /** Also of those that are only listened to. */
      const giveUp = (reason: NarswarmError): void => {
        if (!settled) {
          failures += running.size;
          settle();
        }
        for (const { asking } of running.values()) asking.abort(reason);
      };
      const budget = setTimeout(giveUp, limits.narInfoBudgetMs, lateReason);
      const endIfOver = (): void => {
        if (running.size > 0) return;
        clearTimeout(budget);
        this.#asking.delete(giveUp);
      };
      const startNext = (): void => {
        clearTimeout(hedge);
        const cache = sources[started];
        if (cache === undefined) {
          if (running.size === 0) settle();
          return;
        }
        started++;
        hedge = setTimeout(startNext, hedgeMs);
        const asking = new AbortController();
        running.set(cache, { asking, startedMs: performance.now() });
        this.#askOne(cache, storeHash, asking.signal)
          .then((narInfo) => {
            running.delete(cache);
            if (narInfo !== undefined && !settled) settle({ narInfo, cache });
          })
          .catch((error: unknown) => {
            running.delete(cache);
            if (settled) return;
            failures++;
            logger.warn('narinfo-source-failed', { storeHash, source: cache.url, error });
          })
          .finally(() => {
            if (settled) {
              this.#listening.delete(cache);
              endIfOver();
            } else startNext();
          });
      };
      this.#asking.add(giveUp);
      if (this.#closed) giveUp(closingReason);
      else startNext();
    });
  }

  /**
   * Whether an answer that comes too late is waited for all the same, one for each source: it tells a slow one from a dead one, which
   * would otherwise cost every narinfo the time until the next is asked.
   */
  #listensTo(cache: HttpCache): boolean {
    if (this.#listening.has(cache)) return false;
    this.#listening.add(cache);
    return true;
  }

  async #askOne(cache: HttpCache, storeHash: StoreHash, signal: AbortSignal): Promise<NarInfo | undefined> {
    const text = await cache.getNarInfo(storeHash, signal);
    return text === undefined ? undefined : this.#checked(parseNarInfo(text), cache);
  }

  /** That it is about the path asked for is seen to already. Throws when it is of another store. */
  #checked(narInfo: NarInfo, cache?: HttpCache): NarInfo {
    const { storeDirs } = this.#options;
    const storeDir = (cache && storeDirs.of(cache.url)) ?? storeDirs.current;
    if (storeDir !== undefined && storeDirOf(narInfo.storePath) !== storeDir) {
      throw new NarswarmError('store-dir-mismatch', `${narInfo.storePath} is not in ${storeDir}`);
    }
    return narInfo;
  }

  /** `version`: of the views before they were looked at. */
  #give(
    storeHash: StoreHash,
    { narInfo, cache }: Found,
    { kind, version }: { kind: Ready['kind']; version: number },
    give: (given: GivenNarInfo | undefined) => void,
  ): void {
    const { clock, state } = this.#options;
    const { urlKey = '', narInfo: local } = this.#localUrl(storeHash, narInfo, cache);
    const given = { storeHash, origin: cache.url, narUrl: narInfo.url, narInfo: local, urlKey };
    if (this.#isRevoked(given)) {
      give(undefined);
      return;
    }
    const written = (error?: unknown): void => {
      if (error === undefined) this.#cache.keep({ kind, given }, version, clock());
      else this.#sayUnwritten(error);
      give(given);
    };
    // An absolute URL that is left as it is leads past us; there is nothing to remember.
    if (urlKey === '' || (local === narInfo && this.#isWritten(storeHash, kind, version))) written();
    else state.giveThen(given, written);
  }

  /** With its own URL, which means nothing else, and of the same view, it is the same as when it was written down. */
  #isWritten(storeHash: StoreHash, kind: Ready['kind'], version: number): boolean {
    return (
      kind === 'viewed' && this.#options.state.urlsAreHashes && this.#cache.isWritten(storeHash, version)
    );
  }

  #sayUnwritten(error: unknown): void {
    const { logger, onDiskFull } = this.#options;
    logger.error('state-failed', { error });
    if (isDiskFull(error)) onDiskFull();
  }

  #isRevoked({ storeHash, narInfo: { fileHash } }: GivenNarInfo): boolean {
    const revoked = fileHash && this.#options.views.revoked(fileHash);
    if (revoked === undefined) return false;
    this.#options.logger.warn('narinfo-revoked', { storeHash, fileHash, reason: revoked.reason });
    return true;
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
    const { state } = this.#options;
    if (state.urlsAreHashes && isNamedByHash(urlKey, fileHash)) return false;
    const another = state.storeHashByUrl(urlKey);
    if (another === undefined || another === storeHash) return false;
    const before = state.givenByUrl(urlKey);
    if (before === undefined) return false;
    return before.narInfo.narHash !== narHash || before.narInfo.fileHash !== fileHash;
  }

  #canFetch(cache: HttpCache, narUrl: string): boolean {
    try {
      return mayFollow(cache.resolveUrl(narUrl), this.#options.sources());
    } catch (error) {
      if (isNarswarmError(error)) return false;
      throw error;
    }
  }
}
