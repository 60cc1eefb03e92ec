/** The upstreams, and in the same way the HTTP side of the catalogs: in which order they are asked, and which of them rest. */

import { readFile, stat } from 'node:fs/promises';
import type { CacheInfo } from '../../nar/cache-info.ts';
import { NarswarmError } from '../../nar/errors.ts';
import { Health } from '../../upstream/health.ts';
import { HttpCache, type HttpCacheOptions } from '../../upstream/http-cache.ts';
import {
  basicAuthorization,
  type NetrcEntry,
  netrcEntryFor,
  netrcMaxBytes,
  parseNetrc,
} from '../../upstream/netrc.ts';
import type { Logger } from '../../web/log.ts';
import type { ClientState } from '../state/state.ts';
import type { StoreDirs } from '../store-dirs.ts';

/** Permission of everybody to read a file. */
const readableByOthers = 0o004;

/** An upstream that rests is asked for what nobody else has for so long after its last answer: it may be a crowded road, and not the upstream. */
const slowWithinMs = 60_000;

export interface UpstreamUrl {
  /** Without a slash at the end. */
  readonly url: string;
  /** As the user gave it: `?priority=N` after the URL, as Nix takes it. Lower is asked first. */
  readonly priority?: number;
}

/** Throws config-invalid unless it is an http or https URL, with no query but a priority. */
export function parseUpstream(text: string): UpstreamUrl {
  const invalid = (why: string, cause?: unknown): NarswarmError =>
    new NarswarmError('config-invalid', `${text} ${why}`, { cause });
  let url: URL;
  try {
    url = new URL(text);
  } catch (cause) {
    throw invalid('is not a URL', cause);
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw invalid('is not an http or https URL');
  if (url.username !== '' || url.password !== '')
    throw new NarswarmError(
      'config-invalid',
      `${url.host}: no password in the URL; put it into a file for --netrc`,
    );
  if (url.hash !== '') throw invalid('has a fragment');
  const base = text.replace(/\?.*$/, '').replace(/\/+$/, '');
  if (url.search === '') return { url: base };
  const priority = /^\?priority=(-?[0-9]{1,9})$/.exec(url.search)?.[1];
  if (priority === undefined) throw invalid('has a query that is not priority=NUMBER');
  return { url: base, priority: Number(priority) };
}

/** Throws config-invalid, with the line. Says in the log when others can read the file. */
export async function readNetrc(file: string, logger: Logger): Promise<NetrcEntry[]> {
  let text: string;
  try {
    const { mode, size } = await stat(file);
    if (size > netrcMaxBytes) throw new Error(`it has more than ${netrcMaxBytes} bytes`);
    if ((mode & readableByOthers) !== 0) logger.warn('netrc-readable-by-others', { file });
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new NarswarmError('config-invalid', `the netrc file ${file} cannot be read`, { cause });
  }
  return parseNetrc(text, file);
}

/** Those that NAR files and all else are fetched from, in the order of the moment: to be read anew for each. */
export interface CachesInOrder {
  readonly upstreams: HttpCache[];
  /** Upstreams that do not rest. */
  readonly awake: HttpCache[];
  /** The HTTP side of the catalogs. */
  readonly catalogCaches: HttpCache[];
}

export interface UpstreamsOptions {
  /** In the order of the command line. */
  urls: readonly UpstreamUrl[];
  /** For all of them. */
  cacheOptions: Omit<HttpCacheOptions, 'url' | 'authorization' | 'health'>;
  netrc: readonly NetrcEntry[];
  /** One that serves another store directory than this client does is asked for nothing. */
  storeDirs: Pick<StoreDirs, 'isForeign' | 'learn'>;
  state: Pick<ClientState, 'fact' | 'setFact'>;
  logger: Logger;
}

interface Upstream {
  readonly cache: HttpCache;
  readonly health: Health;
  /** As the user gave it. */
  readonly given: number | undefined;
  /** Of its nix-cache-info, perhaps before this start. */
  own: number | undefined;
}

export class Upstreams {
  readonly #options: UpstreamsOptions;
  readonly #all: Upstream[];
  #byPriority: Upstream[];

  constructor(options: UpstreamsOptions) {
    this.#options = options;
    this.#all = options.urls.map((url) => this.#open(url));
    this.#byPriority = sorted(this.#all);
  }

  /** The lower priority first, those that rest last; among equals as on the command line. */
  inOrder(): HttpCache[] {
    const own = this.#own();
    const resting = own.filter(({ health }) => health.resting());
    if (resting.length === 0) return own.map(({ cache }) => cache);
    const others = own.filter((each) => !resting.includes(each));
    return [...others, ...resting].map(({ cache }) => cache);
  }

  /** The same without those that rest. */
  awake(): HttpCache[] {
    return this.#own()
      .filter(({ health }) => !health.resting())
      .map(({ cache }) => cache);
  }

  /** All that are configured. */
  all(): HttpCache[] {
    return this.#all.map(({ cache }) => cache);
  }

  /** True while it is not to be waited for. */
  resting(cache: HttpCache): boolean {
    return this.#all.find((each) => each.cache === cache)?.health.resting() ?? false;
  }

  /** True while it rests, and answered something a little earlier: it may have what nobody else has. */
  slow(cache: HttpCache): boolean {
    const health = this.#all.find((each) => each.cache === cache)?.health;
    return health?.resting() === true && health.answeredWithin(slowWithinMs);
  }

  /** What the nix-cache-info of one says. */
  learn(cache: HttpCache, info: CacheInfo): void {
    const upstream = this.#all.find((each) => each.cache === cache);
    if (upstream === undefined) return;
    this.#options.storeDirs.learn(cache.url, info.storeDir);
    if (upstream.own === info.priority) return;
    upstream.own = info.priority;
    this.#byPriority = sorted(this.#all);
    try {
      this.#options.state.setFact(priorityFact(cache.url), String(info.priority));
    } catch (error) {
      this.#options.logger.warn('state-failed', { error });
    }
  }

  status() {
    return this.#byPriority.map(({ cache, health, given, own }) => {
      const priority = given ?? own;
      const foreign = this.#options.storeDirs.isForeign(cache.url) ? { foreignStore: true } : {};
      return {
        url: cache.url,
        ...(priority === undefined ? {} : { priority }),
        ...health.status(),
        ...foreign,
      };
    });
  }

  /** Breaks off what is under way. */
  async close(): Promise<void> {
    await Promise.all(this.#all.map(({ health }) => health.close()));
    await Promise.all(this.#all.map(({ cache }) => cache.close()));
  }

  /** Asked for each narinfo. */
  #own(): readonly Upstream[] {
    const { storeDirs } = this.#options;
    return this.#byPriority.some(({ cache }) => storeDirs.isForeign(cache.url))
      ? this.#byPriority.filter(({ cache }) => !storeDirs.isForeign(cache.url))
      : this.#byPriority;
  }

  #open({ url, priority }: UpstreamUrl): Upstream {
    const { cacheOptions, netrc, state, logger } = this.#options;
    const entry = netrcEntryFor(netrc, new URL(url).hostname);
    const health = new Health({
      trial: async (signal) => {
        const info = await cache.getCacheInfo(signal);
        if (info !== undefined) this.learn(cache, info);
      },
      onChange: (now, pauseMs) => {
        if (now === 'resting')
          logger.warn('upstream-resting', { upstream: url, pauseMs: Math.round(pauseMs) });
        else logger.info('upstream-back', { upstream: url });
      },
    });
    const authorization = entry && basicAuthorization(entry);
    const cache = new HttpCache({ ...cacheOptions, url, health, ...(authorization && { authorization }) });
    const own = state.fact(priorityFact(url));
    return { cache, health, given: priority, own: own === undefined ? undefined : Number(own) };
  }
}

/** Stable: among equals as they were. One that never said its priority comes last. */
function sorted(upstreams: readonly Upstream[]): Upstream[] {
  const rank = ({ given, own }: Upstream): number => given ?? own ?? Number.MAX_SAFE_INTEGER;
  return [...upstreams].sort((a, b) => rank(a) - rank(b));
}

function priorityFact(url: string): string {
  return `priority ${url}`;
}
