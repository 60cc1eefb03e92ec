/** Announces the packs and catalog files that are seeded in the standard way, to the trackers of their catalogs, at a bounded rate. */

import type { InfoHash } from '../nar/hash.ts';
import { announce } from '../swarm/tracker/tracker-client.ts';
import type { MirrorCatalog } from './catalogs.ts';
import { WakeUp } from './wake-up.ts';

/** Milliseconds between two announces: 4,000 packs, a terabyte, in a quarter of their interval. */
const pauseMs = 100;
/** Seconds after an announce that a tracker did not take. */
const retrySeconds = 600;
/** Milliseconds between two looks at what is due. */
const lookMs = 5_000;
/** Milliseconds for one announce. */
const deadlineMs = 10_000;

export interface AnnouncerOptions {
  /** What is seeded, and of which catalog it is. */
  list(): Iterable<readonly [InfoHash, MirrorCatalog]>;
  peerId: Buffer;
  port: number;
  /** Milliseconds that never go back. */
  clock: () => number;
}

export class Announcer {
  readonly #options: AnnouncerOptions;
  readonly #dueMs = new Map<string, number>();
  readonly #closing = new AbortController();
  readonly #wake = new WakeUp();
  readonly #loop: Promise<void>;
  #paused = false;
  #announces = 0;
  #failures = 0;

  constructor(options: AnnouncerOptions) {
    this.#options = options;
    this.#loop = this.#run();
  }

  /** Something is seeded that was not before. */
  lookAgain(): void {
    this.#wake.ring();
  }

  setPaused(paused: boolean): void {
    this.#paused = paused;
    this.#wake.ring();
  }

  status() {
    return { announces: this.#announces, announceFailures: this.#failures };
  }

  /** Nothing is taken back: trackers forget who does not come again. May be called twice. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { list, clock } = this.#options;
    while (!signal.aborted) {
      const seen = new Set<string>();
      for (const [infoHash, catalog] of this.#paused ? [] : list()) {
        for (const { url } of catalog.reaches) {
          const key = `${infoHash} ${url}`;
          seen.add(key);
          if ((this.#dueMs.get(key) ?? 0) > clock()) continue;
          this.#dueMs.set(key, clock() + (await this.#announce(infoHash, url)) * 1_000);
          await new WakeUp().wait(pauseMs, signal);
          if (signal.aborted) return;
        }
      }
      for (const key of this.#dueMs.keys()) if (!seen.has(key)) this.#dueMs.delete(key);
      await this.#wake.wait(lookMs, signal);
    }
  }

  /** Seconds until the next. */
  async #announce(infoHash: InfoHash, url: string): Promise<number> {
    const { peerId, port } = this.#options;
    const amounts = { uploaded: 0, downloaded: 0, left: 0, numWant: 0 };
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(deadlineMs)]);
    try {
      this.#announces++;
      const answer = await announce({ url: `${url}/announce`, infoHash, peerId, port, ...amounts, signal });
      return answer.intervalSeconds;
    } catch {
      // Another mirror has no tracker, and a seeder may be gone: whether catalogs answer is said elsewhere.
      this.#failures++;
      return retrySeconds;
    }
  }
}
