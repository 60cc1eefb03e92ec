/** All fetches that run: one per NAR file, however many ask for it, with the sources that this client is configured for. */

import { NarswarmError } from '../nar/errors.ts';
import type { Sha256 } from '../nar/hash.ts';
import type { PackConnections } from '../swarm/pack-connections.ts';
import type { PeerBook } from '../swarm/peer-book.ts';
import type { Torrent } from '../swarm/torrent.ts';
import type { HttpCache } from '../upstream/http-cache.ts';
import type { Logger } from '../web/log.ts';
import { BadSources } from './bad-sources.ts';
import type { HeldFiles } from './cache.ts';
import type { Catalogs, Found } from './catalog-client.ts';
import type { ClientLimits } from './config.ts';
import type { Counts } from './counts.ts';
import type { NarPlan } from './nar-fetch.ts';
import { NarJob, type NarReader } from './nar-job.ts';
import { HttpSource, type NarSource, type SharedSwarm, SwarmSource } from './nar-sources.ts';
import { PackSource } from './pack-source.ts';
import type { Share } from './share.ts';
import type { SharedFetch } from './shared-fetch.ts';
import type { GivenNarInfo } from './state.ts';
import type { CachesInOrder } from './upstreams.ts';

/** NAR files fetched at once. Nix asks for 16 to 25; this is for several machines behind one client. */
const jobsMax = 256;

export interface TransfersOptions {
  caches: CachesInOrder;
  catalogs: Catalogs;
  packs: PackConnections;
  book: PeerBook;
  held: HeldFiles;
  counts: Counts;
  limits: ClientLimits;
  logger: Logger;
  clock: () => number;
  /** With `--share`. */
  share: Share | undefined;
  onKept(fileHash: Sha256): void;
}

export class Transfers {
  readonly #options: TransfersOptions;
  readonly #jobs = new Map<Sha256, NarJob>();
  readonly #running = new Set<NarJob>();
  readonly #bad: BadSources;
  #closed = false;

  constructor(options: TransfersOptions) {
    this.#options = options;
    this.#bad = new BadSources(options.clock, options.limits.badSourceMs);
  }

  isRunning(fileHash: Sha256): boolean {
    return this.#jobs.get(fileHash)?.failed === false;
  }

  /** Fetches that run, and those whose files are being put away or read. */
  get load(): number {
    return this.#running.size;
  }

  /** A reader of the fetch of this NAR file if one runs. */
  running(fileHash: Sha256): NarReader | undefined {
    const job = this.#jobs.get(fileHash);
    return job === undefined || job.failed ? undefined : job.join();
  }

  /** A reader of the fetch of this NAR file, started if need be. Throws when there are too many. */
  join(given: GivenNarInfo, fileHash: Sha256): NarReader {
    const running = this.running(fileHash);
    if (running !== undefined) return running;
    if (this.#closed) throw new NarswarmError('aborted', 'the client is stopping');
    if (this.#running.size >= jobsMax)
      throw new NarswarmError('upstream-failed', `${jobsMax} fetches are running`);
    const { catalogs, counts, held, limits, logger, share, onKept } = this.#options;
    let shared: SharedFetch | undefined;
    const sharing = (torrent: Torrent): SharedSwarm | undefined => {
      shared ??= share?.begin(fileHash, given.narInfo.text, torrent, job);
      return shared && share?.swarm(shared);
    };
    const job: NarJob = new NarJob({
      given,
      fileHash,
      limits,
      logger,
      counts,
      held,
      bad: this.#bad,
      plan: (sizeBytes, trustTorrent, signal) =>
        this.#plan({ given, fileHash, sizeBytes, trustTorrent, sharing, signal }),
      onProgress: () => shared?.onReleased(),
      onEnd: (kept) => {
        if (shared !== undefined) share?.end(shared, kept);
      },
      distrustTorrent: () => catalogs.distrust(fileHash),
      onKept: () => onKept(fileHash),
      onIdle: () => {
        this.#running.delete(job);
        if (this.#jobs.get(fileHash) === job) this.#jobs.delete(fileHash);
      },
    });
    this.#jobs.set(fileHash, job);
    this.#running.add(job);
    return job.join();
  }

  status() {
    return { running: [...this.#running].map((job) => ({ fileHash: job.fileHash, ...job.status() })) };
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
   * The swarm first, when torrent and peers are to be had at once; then HTTP: the cache that gave the narinfo, the other
   * upstreams in order, and at the very end a catalog as a web server. Without HTTP the swarm gets more patience.
   */
  async #plan(wanted: {
    given: GivenNarInfo;
    fileHash: Sha256;
    sizeBytes: () => number | undefined;
    trustTorrent: boolean;
    sharing: (torrent: Torrent) => SharedSwarm | undefined;
    signal: AbortSignal;
  }): Promise<NarPlan> {
    const { given, fileHash, sizeBytes, trustTorrent, sharing, signal } = wanted;
    const { caches: inOrder, catalogs, limits } = this.#options;
    const { upstreams, catalogCaches } = inOrder;
    const http = (cache: HttpCache): NarSource => new HttpSource(cache, given, limits.httpStallMs, sizeBytes);
    const others = upstreams.filter(({ url }) => url !== given.origin);
    const caches = [...upstreams.filter(({ url }) => url === given.origin), ...others].map(http);
    const catalogCache = catalogCaches.filter(({ url }) => url === given.origin).map(http);
    if (!trustTorrent) return { torrent: undefined, sources: caches, lastResorts: catalogCache };
    const patient = caches.every(({ name }) => this.#bad.has(fileHash, name));
    const budgetMs = patient ? limits.resolvePatienceMs : limits.resolveBudgetMs;
    const { share } = this.#options;
    const find = async (budget: AbortSignal): Promise<Found | undefined> => {
      const named = await catalogs.find(given.narInfo, budgetMs, budget);
      if (named === undefined || share === undefined) return named;
      // It is shared from whatever source it comes, and the local network is asked for it at once.
      sharing(named.torrent);
      return { ...named, peers: [...share.localPeers(named.torrent.infoHash), ...named.peers] };
    };
    const found = await find(signal);
    let first = found;
    const swarm = new SwarmSource(
      async (again) => {
        const known = first;
        first = undefined;
        if (known !== undefined) return known;
        const now = await find(again);
        return now?.torrent.infoHash === (found ?? now)?.torrent.infoHash ? now : undefined;
      },
      patient ? limits.swarmPatienceMs : limits.swarmStallMs,
      sharing,
      this.#options.book,
    );
    const ready = found !== undefined && found.peers.length > 0;
    return {
      torrent: found?.torrent,
      sources: ready ? [...this.#packSources(fileHash, found), swarm, ...caches] : caches,
      lastResorts: ready ? catalogCache : [swarm, ...catalogCache],
    };
  }
}
