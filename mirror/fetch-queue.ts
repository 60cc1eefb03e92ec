/**
 * Fetches what is wanted and not held, in the order of the plan, a few at a time. What fails is tried again later; what may not be kept is
 * not tried again until the catalog changes; when there is no room it waits for some.
 */

import { isNarswarmError } from '../nar/errors.ts';
import type { Sha256 } from '../nar/hash.ts';
import type { Torrent } from '../swarm/torrent/torrent.ts';
import type { Logger } from '../web/log.ts';
import { type Acquirer, type Wanted, wantedOf } from './acquire.ts';
import type { MirrorLimits } from './config.ts';
import type { HeldIndex } from './held-index.ts';
import type { Holdings } from './holdings.ts';
import type { Ledger } from './ledger.ts';
import type { CatalogLibrary } from './library.ts';
import { type PackRun, packRuns } from './pack-runs.ts';
import type { Plan } from './plan.ts';
import type { Found, Resolver } from './resolver.ts';
import { WakeUp } from './wake-up.ts';

/** NAR files that failed, of which it is remembered when they are tried again. */
const failingMax = 100_000;
/** Failures and refusals that the status shows. */
const shownMax = 20;

export interface CurrentPlan {
  readonly plan: Plan;
  readonly library: CatalogLibrary;
  readonly held: HeldIndex;
}

export interface FetchQueueOptions {
  acquirer: Acquirer;
  holdings: Holdings;
  ledger: Ledger;
  resolver: Resolver;
  /** Frees at least so many bytes if it may; resolves with how many it did. */
  makeRoom(bytes: number): Promise<number>;
  limits: MirrorLimits;
  logger: Logger;
  /** Milliseconds that never go back. */
  clock: () => number;
}

/** Why nothing is being fetched, or that it is. */
export type QueueState = 'idle' | 'fetching' | 'full' | 'paused' | 'unreachable';

interface Failing {
  vain: number;
  nextMs: number;
  why: string;
}

export class FetchQueue {
  readonly #options: FetchQueueOptions;
  readonly #wake = new WakeUp();
  readonly #slots = new WakeUp();
  readonly #closing = new AbortController();
  /** NAR files that are being fetched, and what fetches them: one or several together. */
  readonly #running = new Set<Sha256>();
  readonly #tasks = new Set<Promise<void>>();
  /** Those that a pack did not give: they are had by themselves. */
  readonly #notInPacks = new Set<Sha256>();
  readonly #failing = new Map<Sha256, Failing>();
  readonly #refused = new Map<Sha256, string>();
  #current: CurrentPlan | undefined;
  /** Of the plan's order: what is before it is held, under way, failing or refused. */
  #next = 0;
  #paused = false;
  #state: QueueState = 'idle';
  #unreachable = 0;
  #fetched = 0;
  #fetchedInPacks = 0;
  #failures = 0;
  readonly #loop: Promise<void>;

  constructor(options: FetchQueueOptions) {
    this.#options = options;
    this.#loop = this.#run();
  }

  /** From now on this is wanted; what is under way and no longer wanted is let finish. */
  setPlan(current: CurrentPlan): void {
    this.#current = current;
    this.#next = 0;
    this.#refused.clear();
    this.#wake.ring();
  }

  /** Something went that is wanted, or there is room or a server again. */
  lookAgain(): void {
    this.#next = 0;
    this.#unreachable = 0;
    this.#wake.ring();
  }

  /** While paused nothing new is begun. */
  setPaused(paused: boolean): void {
    if (this.#paused === paused) return;
    this.#paused = paused;
    this.#wake.ring();
  }

  status() {
    const { plan, held } = this.#current ?? {};
    let missing = 0;
    for (const item of plan?.order ?? []) if (held?.items.has(item) === false) missing++;
    const shown = (of: Iterable<[Sha256, string]>) =>
      [...of].slice(0, shownMax).map(([fileHash, why]) => ({ fileHash, why }));
    return {
      state: this.#state,
      running: this.#running.size,
      missing,
      fetched: this.#fetched,
      fetchedInPacks: this.#fetchedInPacks,
      failures: this.#failures,
      failing: this.#failing.size,
      refused: this.#refused.size,
      bytes: this.#options.acquirer.bytes,
      lastFailures: shown([...this.#failing].map(([fileHash, { why }]): [Sha256, string] => [fileHash, why])),
      refusals: shown(this.#refused),
    };
  }

  /** Gives up what is under way. May be called twice. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#loop;
    await Promise.all(this.#tasks);
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { logger, limits } = this.#options;
    while (!signal.aborted) {
      try {
        const waitMs = await this.#turn();
        if (waitMs > 0) await this.#wake.wait(waitMs, signal);
      } catch (error) {
        if (signal.aborted) return;
        logger.error('fetching-failed', { error });
        await this.#wake.wait(limits.retryMs, signal);
      }
    }
  }

  /** One batch; returns for how many milliseconds there is nothing to do. */
  async #turn(): Promise<number> {
    const { limits, clock } = this.#options;
    const current = this.#current;
    if (this.#paused) return this.#rest('paused', Number.MAX_SAFE_INTEGER);
    const batch = current === undefined ? [] : this.#nextBatch(current);
    if (current === undefined || batch.length === 0) {
      const times = [...this.#failing.values()].map(({ nextMs }) => nextMs);
      const retryMs = Math.min(Number.MAX_SAFE_INTEGER, ...times.map((ms) => Math.max(1, ms - clock())));
      return this.#rest(this.#running.size > 0 ? 'fetching' : 'idle', retryMs);
    }
    this.#state = 'fetching';
    const found = await this.#resolve(batch);
    if (found === undefined) {
      this.#next = 0;
      return this.#rest('unreachable', limits.retryMs * 2 ** Math.min(6, this.#unreachable++));
    }
    this.#unreachable = 0;
    for (const task of this.#tasksOf(batch)) {
      while (this.#tasks.size >= limits.fetches && !this.#closing.signal.aborted) {
        await this.#slots.wait(limits.fullMs, this.#closing.signal);
      }
      if (this.#closing.signal.aborted || this.#paused || this.#current !== current) return 0;
      const begun = 'parts' in task ? await this.#beginRun(task, found) : await this.#beginOne(task, found);
      if (!begun) {
        this.#next = 0;
        return this.#rest('full', limits.fullMs);
      }
    }
    return 0;
  }

  /** What lies together in packs together, the rest by itself. */
  #tasksOf(batch: readonly Wanted[]): (PackRun | Wanted)[] {
    const { runs, alone } = packRuns(batch.filter(({ fileHash }) => !this.#notInPacks.has(fileHash)));
    const byThemselves = new Set(alone);
    return [
      ...runs,
      ...batch.filter((each) => byThemselves.has(each) || this.#notInPacks.has(each.fileHash)),
    ];
  }

  /** False when there is no room. */
  async #beginOne(wanted: Wanted, found: ReadonlyMap<Sha256, Found>): Promise<boolean> {
    const torrent = found.get(wanted.fileHash);
    if (torrent === undefined) {
      this.#fail(wanted, 'no server knows its torrent');
      return true;
    }
    if (!(await this.#hasRoom(wanted))) return false;
    const { acquirer } = this.#options;
    const { signal } = this.#closing;
    const fetched = acquirer.fetch(wanted, torrent, signal).then(
      () => this.#ended(wanted, undefined),
      (error: unknown) => this.#ended(wanted, error),
    );
    this.#start([wanted], fetched);
    return true;
  }

  /** As much of it as there is room for. False when that is nothing. */
  async #beginRun({ infoHash, parts }: PackRun, found: ReadonlyMap<Sha256, Found>): Promise<boolean> {
    const { acquirer, resolver, logger } = this.#options;
    const { signal } = this.#closing;
    const [first] = parts;
    const peers = parts.flatMap(({ wanted }) => found.get(wanted.fileHash)?.peers ?? []);
    let torrent: Torrent;
    try {
      if (first === undefined) return true;
      torrent = await resolver.packTorrent(first.wanted.catalog, infoHash, signal);
    } catch (error) {
      if (signal.aborted || !isNarswarmError(error)) throw error;
      logger.warn('pack-not-had', { infoHash, error });
      for (const { wanted } of parts) this.#leavePacks(wanted);
      this.#next = 0;
      return true;
    }
    let count = 0;
    while (count < parts.length && (await this.#hasRoom(parts[count]?.wanted ?? first.wanted))) count++;
    if (count === 0) return false;
    const some = parts.slice(0, count);
    const fetched = acquirer.fetchRun({ torrent, parts: some, peers }, signal, (wanted, error) => {
      this.#running.delete(wanted.fileHash);
      // By its own torrent next time.
      if (error !== undefined) this.#leavePacks(wanted);
      else this.#fetchedInPacks++;
      this.#ended(wanted, error);
    });
    this.#start(
      some.map(({ wanted }) => wanted),
      fetched,
    );
    return true;
  }

  #leavePacks({ fileHash }: Wanted): void {
    if (this.#notInPacks.size >= failingMax) this.#notInPacks.clear();
    this.#notInPacks.add(fileHash);
  }

  #rest(state: QueueState, ms: number): number {
    this.#state = state;
    return ms;
  }

  /** What comes next of the plan, and what failed and is due again. */
  #nextBatch({ plan, library, held }: CurrentPlan): Wanted[] {
    const { limits, clock } = this.#options;
    const batch: Wanted[] = [];
    const take = (item: number): void => {
      const fileHash = library.fileHashOf(item);
      const place = library.placeOf(item);
      if (fileHash === undefined || place === undefined || held.items.has(item)) return;
      if (this.#running.has(fileHash) || this.#refused.has(fileHash)) return;
      // It is on the disk, and is being verified.
      if (this.#options.holdings.isUnclaimed(fileHash)) return;
      if ((this.#failing.get(fileHash)?.nextMs ?? 0) > clock()) return;
      const wanted = this.#allowed(place.catalog, fileHash);
      if (wanted !== undefined) batch.push(wanted);
    };
    for (const [fileHash, { nextMs }] of this.#failing) {
      if (batch.length >= limits.resolveBatch) break;
      if (nextMs > clock()) continue;
      const item = library.itemOf(fileHash);
      if (item !== undefined && plan.wanted.has(item)) take(item);
      else this.#failing.delete(fileHash);
    }
    const due = new Set(batch.map(({ fileHash }) => fileHash));
    while (batch.length < limits.resolveBatch && this.#next < plan.order.length) {
      const item = plan.order[this.#next++] ?? 0;
      if (held.items.has(item)) continue;
      const fileHash = library.fileHashOf(item);
      if (fileHash !== undefined && !due.has(fileHash)) take(item);
    }
    return batch;
  }

  #allowed(catalog: Wanted['catalog'], fileHash: Sha256): Wanted | undefined {
    try {
      return wantedOf(catalog, fileHash);
    } catch (error) {
      if (!isNarswarmError(error)) throw error;
      this.#refused.set(fileHash, `${error.code}: ${error.message}`);
      return undefined;
    }
  }

  /** `undefined` when none of the servers answered. */
  async #resolve(batch: readonly Wanted[]): Promise<Map<Sha256, Found> | undefined> {
    const { resolver } = this.#options;
    const { signal } = this.#closing;
    const found = new Map<Sha256, Found>();
    let answered = false;
    const catalogs = new Set(batch.map(({ catalog }) => catalog));
    for (const catalog of catalogs) {
      const hashes = batch.filter((each) => each.catalog === catalog).map(({ fileHash }) => fileHash);
      try {
        for (const [fileHash, each] of await resolver.resolve(catalog, hashes, signal))
          found.set(fileHash, each);
        answered = true;
      } catch (error) {
        if (signal.aborted || !isNarswarmError(error)) throw error;
      }
    }
    return answered ? found : undefined;
  }

  /** Reserves its place; nothing is written before. */
  async #hasRoom({ name, torrentInfo: { fileSize } }: Wanted): Promise<boolean> {
    const { ledger, holdings, makeRoom } = this.#options;
    const missing = ledger.reserve(name, fileSize, await holdings.diskFreeBytes());
    if (missing === 0) return true;
    if ((await makeRoom(missing)) < missing) return false;
    return ledger.reserve(name, fileSize, await holdings.diskFreeBytes()) === 0;
  }

  #start(wanted: readonly Wanted[], fetched: Promise<void>): void {
    for (const { fileHash } of wanted) this.#running.add(fileHash);
    const task: Promise<void> = fetched.finally(() => {
      for (const { fileHash } of wanted) this.#running.delete(fileHash);
      this.#tasks.delete(task);
      this.#slots.ring();
      if (this.#tasks.size === 0) this.#wake.ring();
    });
    this.#tasks.add(task);
  }

  #ended(wanted: Wanted, error: unknown): void {
    const { logger } = this.#options;
    const { fileHash } = wanted;
    if (error === undefined) {
      this.#failing.delete(fileHash);
      this.#fetched++;
    } else if (!this.#closing.signal.aborted) {
      logger.warn('fetch-failed', { fileHash, error });
      this.#fail(wanted, isNarswarmError(error) ? `${error.code}: ${error.message}` : String(error));
    }
  }

  #fail({ fileHash }: Wanted, why: string): void {
    const { limits, clock } = this.#options;
    this.#failures++;
    const vain = (this.#failing.get(fileHash)?.vain ?? 0) + 1;
    const ms = Math.min(limits.retryMs * 2 ** (vain - 1), limits.retryMaxMs);
    this.#failing.delete(fileHash);
    if (this.#failing.size < failingMax) this.#failing.set(fileHash, { vain, nextMs: clock() + ms, why });
  }
}
