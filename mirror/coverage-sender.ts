/** Tells every catalog's servers what this mirror holds, in one request each, and learns from the answers what others hold. */

import { Bitmap } from '../nar/bitmap.ts';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import {
  coverageMaxAnswerBytes,
  coveragePath,
  parseCoverageAnswer,
  printCoverage,
} from '../parts/coverage.ts';
import type { Logger } from '../web/log.ts';
import type { MirrorCatalog } from './catalogs.ts';
import type { MirrorLimits } from './config.ts';
import type { SeedsKnown } from './seeds.ts';
import { WakeUp } from './wake-up.ts';

/** Milliseconds for one request: the answer about a million NAR files is made in a fraction of a second. */
const deadlineMs = 60_000;
/** Milliseconds for taking leave of all when the mirror stops; what does not fit in is forgotten there in time. */
const leaveMs = 500;

export interface CoverageSenderOptions {
  catalogs: readonly MirrorCatalog[];
  /** Where peers are served. */
  port: number;
  /** By ordinal of the catalog; `undefined` before the first plan. */
  heldOf(catalog: MirrorCatalog): Bitmap | undefined;
  seeds: SeedsKnown;
  /** Every server was asked once since the start. */
  onSettled(): void;
  limits: MirrorLimits;
  logger: Logger;
  /** Milliseconds that never go back. */
  clock: () => number;
}

interface Server {
  readonly catalog: MirrorCatalog;
  readonly url: string;
  nextMs: number;
  asked: boolean;
  told: number | undefined;
  error: string | undefined;
}

export class CoverageSender {
  readonly #options: CoverageSenderOptions;
  readonly #servers: Server[];
  readonly #wake = new WakeUp();
  readonly #closing = new AbortController();
  readonly #loop: Promise<void>;
  #tellMs: number;
  #paused = false;
  #settled = false;

  constructor(options: CoverageSenderOptions) {
    this.#options = options;
    this.#tellMs = options.limits.tellMs;
    this.#servers = options.catalogs.flatMap((catalog) =>
      catalog.reaches.map(({ url }) => ({
        catalog,
        url,
        nextMs: 0,
        asked: false,
        told: undefined,
        error: undefined,
      })),
    );
    this.#loop = this.#run();
  }

  /** What others hold is known as far as anybody says it. */
  get settled(): boolean {
    return this.#settled;
  }

  /** What is held changed: it is told soon, and later the more it goes on changing. */
  changed(): void {
    const soonMs = this.#options.clock() + this.#tellMs;
    // Servers that do not answer are left their time.
    for (const server of this.#servers) {
      if (server.error === undefined) server.nextMs = Math.min(server.nextMs, soonMs);
    }
    this.#wake.ring();
  }

  /** While nothing is uploaded nobody is told: they would try it in vain. */
  setPaused(paused: boolean): void {
    this.#paused = paused;
    this.#wake.ring();
  }

  status() {
    return this.#servers.map(({ catalog, url, told, error }) => ({
      catalog: catalog.name,
      url,
      toldNars: told ?? null,
      error: error ?? null,
    }));
  }

  /** Takes leave. May be called twice. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return this.#loop;
    this.#closing.abort();
    await this.#loop;
    const signal = AbortSignal.timeout(leaveMs);
    const told = this.#servers.filter(({ told = 0, error }) => told > 0 && error === undefined);
    await Promise.allSettled(
      told.map(({ catalog, url }) => this.#send(catalog, url, new Bitmap(catalog.followed.ordinals), signal)),
    );
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { clock } = this.#options;
    while (!signal.aborted) {
      const now = clock();
      const ready = this.#paused ? [] : this.#servers.filter((server) => this.#isReady(server));
      const due = ready.filter(({ nextMs }) => nextMs <= now);
      await Promise.all(due.map((server) => this.#tell(server)));
      if (!this.#settled && this.#servers.every(({ asked }) => asked)) {
        this.#settled = true;
        this.#options.onSettled();
      }
      if (due.length > 0) continue;
      const nextMs = Math.min(...ready.map((server) => server.nextMs));
      await this.#wake.wait(Math.max(1, nextMs - now), signal);
    }
  }

  #isReady({ catalog }: Server): boolean {
    return catalog.followed.ordinals > 0 && this.#options.heldOf(catalog) !== undefined;
  }

  async #tell(server: Server): Promise<void> {
    const { heldOf, seeds, clock, limits, logger } = this.#options;
    const { signal } = this.#closing;
    const { catalog, url } = server;
    const held = heldOf(catalog);
    if (held === undefined || held.length === 0) return;
    try {
      // Set before, so that what changes meanwhile is told again.
      server.nextMs = Number.POSITIVE_INFINITY;
      const nars = held.size;
      const answer = await this.#send(
        catalog,
        url,
        held,
        AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]),
      );
      seeds.set(catalog, url, answer);
      server.nextMs = Math.min(server.nextMs, clock() + answer.intervalSeconds * 1_000);
      this.#tellMs = nars === server.told ? limits.tellMs : Math.min(this.#tellMs * 2, limits.tellMaxMs);
      server.told = nars;
      server.error = undefined;
    } catch (error) {
      if (signal.aborted) return;
      server.nextMs = clock() + limits.tellRetryMs;
      seeds.drop(catalog, url);
      const why = error instanceof Error ? error.message : String(error);
      if (server.error === undefined) logger.warn('coverage-not-told', { catalog: url, error });
      server.error = why;
    } finally {
      server.asked = true;
    }
  }

  async #send(catalog: MirrorCatalog, url: string, held: Bitmap, signal: AbortSignal) {
    const body = await printCoverage({ port: this.#options.port, held }, catalog.followed);
    try {
      const answer = await fetch(`${url}${coveragePath}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body,
        redirect: 'error',
        signal,
      });
      const text = await readBounded(answer, coverageMaxAnswerBytes);
      if (!answer.ok) {
        throw new NarswarmError(
          'upstream-failed',
          `${url} answered ${answer.status}: ${text.slice(0, 200).trim()}`,
        );
      }
      return await parseCoverageAnswer(JSON.parse(text));
    } catch (cause) {
      if (isNarswarmError(cause)) throw cause;
      throw new NarswarmError('upstream-failed', `${url} takes no coverage`, { cause });
    }
  }
}

async function readBounded(answer: Response, maxBytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of answer.body ?? []) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new NarswarmError('upstream-failed', 'the answer is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
