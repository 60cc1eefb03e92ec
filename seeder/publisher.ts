/** Publishes the log of the catalog from time to time: when something waits, and before the head expires. */

import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { Catalog } from '../catalog/catalog.ts';
import { parseHead } from '../catalog/head.ts';
import { NarswarmError } from '../nar/errors.ts';
import { printSecretKey, type SecretKey } from '../nar/signature.ts';
import type { Logger } from '../web/log.ts';
import type { Published } from './publish.ts';
import type { ViewJob } from './publish-views.ts';
import type { PublishAnswer, PublishJob } from './publish-worker.ts';
import { type ViewConfig, ViewLists, type ViewStatus } from './view-lists.ts';

/** `--publish-every`: a follower hears of a NAR file a minute after it was accepted, and there are at most 1,440 heads a day. */
export const publishEveryDefaultMs = 60_000;
/** `--head-lifetime`: as long as a seeder may be away before what it published is taken for frozen. */
export const headLifetimeDefaultMs = 7 * 24 * 3600 * 1000;
/** How often a program looks whether to publish sooner than `--publish-every`, for a revocation for instance. */
const lookEveryMs = 1000;

/** Milliseconds that a publication gets to end when the program does: a thread that is broken off leaves open what it had open. */
const closingMs = 1_000;

/** What is new on the thread that publishes is soon let go; otherwise 50 MiB of it would be kept. */
const resourceLimits = { maxYoungGenerationSizeMb: 2 };

export interface PublisherOptions {
  readonly catalog: Catalog;
  readonly catalogPath: string;
  readonly filesDir: string;
  /** `undefined` as long as no source was read. */
  readonly nixStoreDir: () => string | undefined;
  readonly secretKeys: readonly SecretKey[];
  /** Whether NAR files are being accepted, which a publication is not to hold up. */
  readonly isBusy: () => boolean;
  readonly everyMs?: number | undefined;
  readonly lifetimeMs?: number | undefined;
  readonly views?: readonly ViewConfig[];
  readonly clock?: () => number;
  /** Told of each head: of the one from before at the start, then of every new one. */
  readonly onHead?: (text: string, sequence: number) => void;
  readonly logger: Logger;
}

export interface PublisherStatus {
  /** Of the head; 0 before the first. */
  sequence: number;
  records: number;
  /** Milliseconds since 1970. */
  publishedMs: number;
  expiresMs: number;
  /** Names of the keys that sign it. */
  keys: string[];
  views: ViewStatus[];
  /** Why the last publication failed, if it did. */
  fault: string | null;
}

export class Publisher {
  readonly #options: PublisherOptions;
  readonly #clock: () => number;
  readonly #lifetimeMs: number;
  readonly #timer: NodeJS.Timeout;
  readonly #views: ViewLists;
  readonly #stopping = new AbortController();
  /** Views that are to be made by the next publication. */
  readonly #viewJobs = new Map<string, ViewJob>();
  #running: Promise<void> | undefined;
  #again = false;
  #worker: Worker | undefined;
  #dueMs: number;
  #status: PublisherStatus;
  #closed = false;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#clock = options.clock ?? Date.now;
    this.#lifetimeMs = options.lifetimeMs ?? headLifetimeDefaultMs;
    this.#views = new ViewLists(options.views ?? []);
    this.#dueMs = this.#clock();
    this.#status = {
      ...{ sequence: 0, records: 0, publishedMs: 0, expiresMs: 0, fault: null, views: [] },
      keys: options.secretKeys.map(({ name }) => name),
    };
    this.#readHead();
    this.#timer = setInterval(() => void this.#tick(), lookEveryMs);
    this.#timer.unref();
  }

  status(): PublisherStatus {
    return { ...this.#status, views: this.#views.status() };
  }

  /** Publishes what waits. Resolves when that is done, also when it failed: then the status says why. */
  publish(): Promise<void> {
    if (this.#running !== undefined) {
      this.#again = true;
      this.#worker?.postMessage('hurry');
    }
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /** Lets the publication that is under way be, unless it is over in a moment; what it did not finish waits for the next start. May be called twice. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#stopping.abort();
    clearInterval(this.#timer);
    const moment = new AbortController();
    const passed = delay(closingMs, undefined, { signal: moment.signal }).catch(() => undefined);
    await Promise.race([this.#running, passed]);
    moment.abort();
    await this.#worker?.terminate();
    await this.#running;
  }

  async #tick(): Promise<void> {
    const nowMs = this.#clock();
    if (nowMs < this.#dueMs || this.#closed) return;
    const { publishedMs, expiresMs } = this.#status;
    const renew = nowMs - publishedMs >= this.#lifetimeMs / 3 || expiresMs <= nowMs;
    const waits = renew || this.#options.catalog.log.hasPending();
    // Whether a list is another one by now is looked at as often as the rest.
    if (!waits && this.#views.names.length === 0) return;
    this.#dueMs = nowMs + (this.#options.everyMs ?? publishEveryDefaultMs);
    await this.#collectViews();
    if (waits || this.#viewJobs.size > 0) await this.publish();
  }

  async #run(): Promise<void> {
    do {
      this.#again = false;
      await this.#publishOnce();
    } while (this.#again && !this.#closed);
  }

  async #publishOnce(): Promise<void> {
    const { catalogPath: path, filesDir, nixStoreDir, secretKeys, logger } = this.#options;
    const storeDir = nixStoreDir();
    if (storeDir === undefined || this.#closed) return;
    await this.#collectViews();
    try {
      const published = await this.#ask({
        ...{ path, filesDir, nixStoreDir: storeDir },
        secretKeys: secretKeys.map(printSecretKey),
        lifetimeMs: this.#lifetimeMs,
        nowMs: this.#clock(),
        gentle: this.#options.isBusy(),
        viewNames: this.#views.names,
        viewJobs: [...this.#viewJobs.values()],
      });
      this.#viewJobs.clear();
      this.#views.note(published.views);
      this.#status = { ...this.#status, fault: published.fusionFault ?? null };
      if (published.sequence !== undefined) logger.info('catalog-published', { ...published });
      this.#readHead();
    } catch (error) {
      if (this.#closed) return;
      this.#status = { ...this.#status, fault: error instanceof Error ? error.message : String(error) };
      logger.error('publishing-failed', { error });
    }
  }

  async #ask(job: PublishJob): Promise<Published> {
    const worker = new Worker(new URL('publish-worker.ts', import.meta.url), {
      workerData: job,
      execArgv: [],
      resourceLimits,
    });
    this.#worker = worker;
    const ended = new AbortController();
    try {
      const exited = once(worker, 'exit', { signal: ended.signal }).then(() => undefined);
      const answered = once(worker, 'message', { signal: ended.signal });
      answered.catch(() => undefined);
      const message: [PublishAnswer] | undefined = await Promise.race([
        answered.then(([answer]) => [answer as PublishAnswer] as [PublishAnswer]),
        exited,
      ]);
      if (message === undefined) throw new NarswarmError('store-failed', 'the thread that publishes ended');
      const [answer] = message;
      await exited;
      if ('published' in answer) return answer.published;
      if (answer.code === undefined) throw new Error(answer.message);
      throw new NarswarmError(answer.code, answer.message);
    } finally {
      ended.abort();
      this.#worker = undefined;
    }
  }

  async #collectViews(): Promise<void> {
    const { log } = this.#options.catalog;
    const now = { ms: this.#clock(), records: log.records, revoked: log.lastRevocation };
    try {
      for (const job of await this.#views.due(now, this.#stopping.signal)) this.#viewJobs.set(job.name, job);
    } catch (error) {
      if (!this.#closed) this.#options.logger.error('views-failed', { error });
    }
  }

  #readHead(): void {
    const text = this.#options.catalog.getMeta('log/head');
    if (text === undefined) return;
    const { sequence, records, time, expires } = parseHead(text);
    const times = { publishedMs: time * 1000, expiresMs: expires * 1000 };
    if (sequence !== this.#status.sequence) this.#options.onHead?.(text, sequence);
    this.#status = { ...this.#status, sequence, records, ...times };
  }
}
