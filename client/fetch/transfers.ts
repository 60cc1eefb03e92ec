/** All fetches that run: one per NAR file, however many ask for it, with the sources that this client is configured for. */

import { NarswarmError } from '../../nar/errors.ts';
import type { Sha256 } from '../../nar/hash.ts';
import type { Torrent } from '../../swarm/torrent/torrent.ts';
import type { Counts } from '../counts.ts';
import { BadSources } from '../race/bad-sources.ts';
import { SourcePasts } from '../race/source-past.ts';
import type { SharedFetch, SharedSwarm } from '../share/shared-fetch.ts';
import type { GivenNarInfo } from '../state/state.ts';
import type { NarStory } from '../story.ts';
import { NarJob, type NarReader } from './nar-job.ts';
import { NarPlanner, type NarPlannerOptions } from './nar-planner.ts';

/** NAR files fetched at once. Nix asks for 16 to 25; this is for several machines behind one client. */
const jobsMax = 256;

/** The same, with those that are over and still being read: up to 2 MiB of each are in memory. */
const heldJobsMax = 2_048;

export interface TransfersOptions extends Omit<NarPlannerOptions, 'bad' | 'hung'> {
  counts: Counts;
  clock: () => number;
  /** A fetch is over. */
  onStory(story: NarStory): void;
}

export class Transfers {
  readonly #options: TransfersOptions;
  readonly #jobs = new Map<Sha256, NarJob>();
  readonly #running = new Set<NarJob>();
  /** Those of them that fetch, or put away what they fetched. The others are there for their readers. */
  readonly #busy = new Set<NarJob>();
  readonly #bad: BadSources;
  /** Those that were waited for in vain: when Nix comes again it does not wait as long. */
  readonly #hung: BadSources;
  readonly #pasts = new SourcePasts();
  readonly #planner: NarPlanner;
  #closed = false;

  constructor(options: TransfersOptions) {
    this.#options = options;
    this.#bad = new BadSources(options.clock, options.limits.badSourceMs);
    this.#hung = new BadSources(options.clock, options.limits.badSourceMs);
    this.#planner = new NarPlanner({ ...options, bad: this.#bad, hung: this.#hung });
  }

  isRunning(fileHash: Sha256): boolean {
    return this.#jobs.get(fileHash)?.failed === false;
  }

  /** Fetches that run, and those whose files are being put away. */
  get load(): number {
    return this.#busy.size;
  }

  /** A reader of the fetch of this NAR file if one runs. */
  running(fileHash: Sha256): NarReader | undefined {
    const job = this.#jobs.get(fileHash);
    return job === undefined || job.failed ? undefined : job.join();
  }

  /**
   * A reader of the fetch of this NAR file, started if need be. Throws when there are too many. `ahead`: Nix has not asked for it.
   */
  join(given: GivenNarInfo, fileHash: Sha256, ahead = false): NarReader {
    const running = this.running(fileHash);
    if (running !== undefined) return running;
    if (this.#closed) throw new NarswarmError('aborted', 'the client is stopping');
    if (this.#busy.size >= jobsMax || this.#running.size >= heldJobsMax)
      throw new NarswarmError('upstream-failed', `${jobsMax} fetches are running`);
    const { catalogs, clock, counts, held, limits, logger, share, onKept, onStory } = this.#options;
    let shared: SharedFetch | undefined;
    let ended = false;
    const sharing = (torrent: Torrent): SharedSwarm | undefined => {
      // Its torrent may become known when it is over; from then on it is shared as one that is held.
      if (ended) return undefined;
      shared ??= share?.begin(fileHash, given.narInfo.text, torrent, job);
      return shared && share?.swarm(shared);
    };
    const job: NarJob = new NarJob({
      given,
      fileHash,
      hashes: this.#options.hashes,
      limits,
      logger,
      counts,
      held,
      bad: this.#bad,
      hung: this.#hung,
      pasts: this.#pasts,
      ahead,
      clock,
      onStory,
      plan: (sizeBytes, trustTorrent, signal) =>
        this.#planner.plan({ given, fileHash, sizeBytes, trustTorrent, sharing, signal }),
      onProgress: () => shared?.onReleased(),
      onEnd: (kept) => {
        ended = true;
        this.#busy.delete(job);
        if (shared !== undefined) share?.end(shared, kept);
      },
      distrustTorrent: () => catalogs.distrust(fileHash),
      onKept: () => onKept(fileHash),
      onIdle: () => {
        this.#running.delete(job);
        this.#busy.delete(job);
        if (this.#jobs.get(fileHash) === job) this.#jobs.delete(fileHash);
      },
    });
    this.#jobs.set(fileHash, job);
    this.#running.add(job);
    this.#busy.add(job);
    return job.join();
  }

  status() {
    return {
      running: [...this.#running].map((job) => ({ fileHash: job.fileHash, ...job.status() })),
      sources: this.#pasts.status(),
    };
  }

  /** Breaks all fetches off. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#running].map((job) => job.close()));
  }
}
