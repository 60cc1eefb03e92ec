/** All fetches that run: one per NAR file, however many ask for it, with the sources that this client is configured for. */

import { NarswarmError } from '../nar/errors.ts';
import type { Sha256 } from '../nar/hash.ts';
import type { HashThread } from '../swarm/fetch/hash-thread.ts';
import type { PackConnections } from '../swarm/fetch/pack-connections.ts';
import type { PeerBook } from '../swarm/fetch/peer-book.ts';
import type { Torrent } from '../swarm/torrent/torrent.ts';
import type { HttpCache } from '../upstream/http-cache.ts';
import type { Logger } from '../web/log.ts';
import { BadSources } from './bad-sources.ts';
import type { HeldFiles } from './cache.ts';
import type { Catalogs, Found } from './catalog-client.ts';
import type { ClientLimits } from './config.ts';
import type { Counts } from './counts.ts';
import { NarJob, type NarReader } from './nar-job.ts';
import type { LaterPlan, NarPlan } from './nar-plan.ts';
import { HttpSource, type NarSource, type SharedSwarm, SwarmSource } from './nar-sources.ts';
import { PackSource } from './pack-source.ts';
import type { Share } from './share.ts';
import type { SharedFetch } from './shared-fetch.ts';
import { SourcePasts } from './source-past.ts';
import type { GivenNarInfo } from './state.ts';
import type { NarStory } from './story.ts';
import type { CachesInOrder } from './upstreams.ts';

/** NAR files fetched at once. Nix asks for 16 to 25; this is for several machines behind one client. */
const jobsMax = 256;

/** The same, with those that are over and still being read: up to 2 MiB of each are in memory. */
const heldJobsMax = 2_048;

/** Whoever was waited for in vain within this counts as resting: as long as upstreams rest at most after a few failures. */
const hungLatelyMs = 60_000;

export interface TransfersOptions {
  caches: CachesInOrder;
  catalogs: Catalogs;
  packs: PackConnections;
  book: PeerBook;
  hashes?: HashThread | undefined;
  held: HeldFiles;
  counts: Counts;
  limits: ClientLimits;
  logger: Logger;
  clock: () => number;
  /** With `--share`. */
  share: Share | undefined;
  onKept(fileHash: Sha256): void;
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
  #closed = false;

  constructor(options: TransfersOptions) {
    this.#options = options;
    this.#bad = new BadSources(options.clock, options.limits.badSourceMs);
    this.#hung = new BadSources(options.clock, options.limits.badSourceMs);
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
        this.#plan({ given, fileHash, sizeBytes, trustTorrent, sharing, signal }),
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

  /** At most one: the pack that the NAR file is said to be in, when somebody who has it is connected. */
  #packSources(fileHash: Sha256, found: Found): NarSource[] {
    const { packs: connections, catalogs } = this.#options;
    const { pack } = found;
    if (pack === undefined) return [];
    const onSpoilt = (): void => catalogs.distrustPack(fileHash);
    const source = new PackSource({ fileHash, found: { ...found, pack }, connections, onSpoilt });
    // For the next one, if not for this.
    connections.warm(pack.infoHash, found.peers);
    return source.warm() ? [source] : [];
  }

  /**
   * The swarm, if torrent and peers are known; HTTP: the cache that gave the narinfo and the other upstreams in order; and at the very
   * end a catalog as a web server. What is not known yet is looked up meanwhile, and waited for only when there is no HTTP.
   */
  async #plan(wanted: PlanWanted): Promise<NarPlan> {
    const { given, fileHash, sizeBytes, trustTorrent, signal } = wanted;
    const { caches: inOrder, catalogs, limits } = this.#options;
    const { upstreams, awake, catalogCaches } = inOrder;
    const http = (cache: HttpCache): NarSource => {
      const { httpStallMs, restingStallMs, hungStallMs } = limits;
      const hung = this.#hung.has(fileHash, cache.url);
      const [between, again] = hung ? [hungStallMs, hungStallMs] : [httpStallMs, restingStallMs];
      // One that answers for narinfos alone is awake, and still hangs.
      const rests =
        (upstreams.includes(cache) && !awake.includes(cache)) || this.#hung.lately(cache.url, hungLatelyMs);
      const firstByte = rests ? again : between;
      return new HttpSource(cache, given, { firstByte, between, again }, sizeBytes);
    };
    const origin = awake.filter(({ url }) => url === given.origin);
    const caches = [...origin, ...upstreams.filter((each) => !origin.includes(each))].map(http);
    const catalogCache = catalogCaches.filter(({ url }) => url === given.origin).map(http);
    // The job that this is for exists when its constructor has returned; it may be shared from here on.
    await Promise.resolve();
    if (!trustTorrent) return { torrent: undefined, sources: caches, lastResorts: catalogCache };
    const patient = caches.every(({ name }) => this.#bad.has(fileHash, name));
    let found = this.#withLocalPeers(wanted, catalogs.known(given.narInfo));
    if (patient && (found === undefined || found.peers.length === 0))
      found = await this.#find(wanted, limits.resolvePatienceMs, signal);
    if (found !== undefined && found.peers.length > 0) {
      const sources = [...this.#packSources(fileHash, found), this.#swarm(wanted, found), ...caches];
      return { torrent: found.torrent, sources, lastResorts: catalogCache };
    }
    const last = patient && found !== undefined ? [this.#swarm(wanted, found)] : [];
    return {
      torrent: found?.torrent,
      sources: caches,
      lastResorts: [...last, ...catalogCache],
      ...(!patient && {
        later: this.#later(wanted, found),
        holdMs: catalogs.answering ? limits.resolveBudgetMs : 0,
      }),
    };
  }

  /** What catalogs and peers say while HTTP runs already. */
  async #later(wanted: PlanWanted, known: Found | undefined): Promise<LaterPlan | undefined> {
    const { limits, held, onKept } = this.#options;
    const { signal, sharing, fileHash } = wanted;
    try {
      // Nobody waits for it.
      const found = (await this.#find(wanted, limits.resolveDeadlineMs, signal)) ?? known;
      if (found === undefined) return undefined;
      const { torrent, peers } = found;
      // It may be over by now: then it was kept before there was a torrent by which it could be shared.
      if (held.has(fileHash)) onKept(fileHash);
      const swarm = this.#swarm(wanted, found);
      const shared = sharing(torrent);
      if (peers.length === 0) await shared?.found(signal);
      if (peers.length === 0 && !shared?.fetch.peers.length)
        return { torrent, sources: [], lastResorts: [swarm] };
      return { torrent, sources: [...this.#packSources(fileHash, found), swarm], lastResorts: [] };
    } catch (error) {
      if (!signal.aborted) this.#options.logger.error('lookup-failed', { fileHash, error });
      return undefined;
    }
  }

  async #find(wanted: PlanWanted, budgetMs: number, signal: AbortSignal): Promise<Found | undefined> {
    const { catalogs } = this.#options;
    return this.#withLocalPeers(wanted, await catalogs.find(wanted.given.narInfo, budgetMs, signal));
  }

  /** It is shared from whatever source it comes, and the local network is asked for it at once. */
  #withLocalPeers({ sharing }: PlanWanted, found: Found | undefined): Found | undefined {
    const { share } = this.#options;
    if (found === undefined || share === undefined) return found;
    sharing(found.torrent);
    return { ...found, peers: [...share.localPeers(found.torrent.infoHash), ...found.peers] };
  }

  #swarm(wanted: PlanWanted, found: Found): NarSource {
    const { limits, book, hashes } = this.#options;
    const { swarmStallMs, hungStallMs } = limits;
    const hung = this.#hung.has(wanted.fileHash, 'swarm');
    const swarmPatienceMs = hung ? hungStallMs : limits.swarmPatienceMs;
    let first: Found | undefined = found.peers.length > 0 ? found : undefined;
    return new SwarmSource({
      limits: { swarmStallMs, swarmPatienceMs },
      book,
      hashes,
      share: wanted.sharing,
      find: async (signal, patient) => {
        const known = first;
        first = undefined;
        if (known !== undefined) return known;
        const budgetMs = patient ? limits.resolvePatienceMs : limits.resolveBudgetMs;
        const now = await this.#find(wanted, budgetMs, signal);
        return now?.torrent.infoHash === found.torrent.infoHash ? now : undefined;
      },
    });
  }
}

interface PlanWanted {
  given: GivenNarInfo;
  fileHash: Sha256;
  sizeBytes: () => number | undefined;
  trustTorrent: boolean;
  sharing: (torrent: Torrent) => SharedSwarm | undefined;
  signal: AbortSignal;
}
