/** Which sources a NAR file is fetched from, from what is known of it and of them at this moment. */

import { NarswarmError } from '../../nar/errors.ts';
import type { Sha256 } from '../../nar/hash.ts';
import type { HashThread } from '../../swarm/fetch/hash-thread.ts';
import type { PackConnections } from '../../swarm/fetch/pack-connections.ts';
import type { PeerBook } from '../../swarm/fetch/peer-book.ts';
import { packPieceLength } from '../../swarm/torrent/pack-torrent.ts';
import type { Torrent } from '../../swarm/torrent/torrent.ts';
import type { HttpCache } from '../../upstream/http-cache.ts';
import type { Logger } from '../../web/log.ts';
import type { Catalogs, Found } from '../asking/catalog-client.ts';
import type { Whereabouts } from '../asking/catalog-questions.ts';
import type { CachesInOrder } from '../asking/upstreams.ts';
import type { ClientLimits } from '../config.ts';
import type { BadSources } from '../race/bad-sources.ts';
import { wholeMaxBytes } from '../race/byte-checker.ts';
import type { LaterPlan, NarPlan } from '../race/nar-plan.ts';
import type { NarSource } from '../race/nar-source.ts';
import type { Share } from '../share/share.ts';
import type { SharedSwarm } from '../share/shared-fetch.ts';
import type { HeldFiles } from '../state/cache.ts';
import type { GivenNarInfo } from '../state/state.ts';
import { HttpSource, SwarmSource } from './nar-sources.ts';
import { PackSource } from './pack-source.ts';

/** Whoever was waited for in vain within this counts as resting: as long as upstreams rest at most after a few failures. */
const hungLatelyMs = 60_000;

export interface NarPlannerOptions {
  caches: CachesInOrder;
  catalogs: Catalogs;
  packs: PackConnections;
  book: PeerBook;
  hashes?: HashThread | undefined;
  held: HeldFiles;
  limits: ClientLimits;
  logger: Logger;
  /** With `--share`. */
  share: Share | undefined;
  /** Sources that gave wrong bytes, and those that were waited for in vain. */
  bad: BadSources;
  hung: BadSources;
  onKept(fileHash: Sha256): void;
}

export interface PlanWanted {
  given: GivenNarInfo;
  fileHash: Sha256;
  sizeBytes: () => number | undefined;
  trustTorrent: boolean;
  sharing: (torrent: Torrent) => SharedSwarm | undefined;
  signal: AbortSignal;
}

export class NarPlanner {
  readonly #options: NarPlannerOptions;

  constructor(options: NarPlannerOptions) {
    this.#options = options;
  }

  /**
   * The swarm, if torrent and peers are known; HTTP: the cache that gave the narinfo and the other upstreams in order; and at the very
   * end a catalog as a web server. What is not known yet is looked up meanwhile, and waited for only when there is no HTTP.
   */
  async plan(wanted: PlanWanted): Promise<NarPlan> {
    const { given, fileHash, trustTorrent, signal } = wanted;
    const { catalogs, limits, bad, share } = this.#options;
    const { caches, catalogCache } = this.#http(wanted);
    // The job that this is for exists when its constructor has returned; it may be shared from here on.
    await Promise.resolve();
    if (!trustTorrent) return { torrent: undefined, sources: caches, lastResorts: catalogCache };
    const patient = caches.every(({ name }) => bad.has(fileHash, name));
    const { fileSize = Number.POSITIVE_INFINITY } = given.narInfo;
    // FileHash tells of the whole of it whether it is right, and nothing is released before.
    if (fileSize <= wholeMaxBytes && !patient && share === undefined)
      return this.#planWithoutTorrent(wanted, caches, catalogCache);
    let found = this.#withLocalPeers(wanted, catalogs.known(given.narInfo));
    if (patient && (found === undefined || found.peers.length === 0))
      found = await this.#find(wanted, limits.resolvePatienceMs, signal);
    if (!patient) found = found && this.#reachable(found);
    if (found !== undefined && found.peers.length > 0) {
      const sources = [...this.#packs(wanted, found), this.#swarm(wanted, found), ...caches];
      return { torrent: found.torrent, sources, lastResorts: catalogCache };
    }
    const last = patient && found !== undefined ? [this.#swarm(wanted, found)] : [];
    return {
      torrent: found?.torrent,
      sources: caches,
      lastResorts: [...last, ...catalogCache],
      ...(!patient && {
        later: this.#later(wanted, found),
        holdMs: catalogs.awake ? limits.resolveBudgetMs : 0,
      }),
    };
  }

  /**
   * The same for a small one, of which most of a closure is: its torrent is not looked at unless its own swarm is asked, which comes after HTTP
   * unless HTTP is late.
   */
  #planWithoutTorrent(
    wanted: PlanWanted,
    caches: readonly NarSource[],
    catalogCache: readonly NarSource[],
  ): NarPlan {
    const { catalogs } = this.#options;
    const rest = { torrent: undefined, lastResorts: catalogCache };
    const place = catalogs.place(wanted.fileHash);
    const swarm = this.#swarm(wanted);
    // Should HTTP be late, it is looked up then; and of catalogs that take long only when HTTP has failed.
    if (place === undefined && catalogs.awake) return { ...rest, sources: [...caches, swarm] };
    if (place === undefined) return { ...rest, sources: caches, lastResorts: [swarm, ...catalogCache] };
    const near = this.#reachable(place);
    if (near.peers.length === 0) return { ...rest, sources: caches, lastResorts: [swarm, ...catalogCache] };
    return { ...rest, sources: [...this.#packs(wanted, near), swarm, ...caches] };
  }

  #http({ given, fileHash, sizeBytes }: PlanWanted): { caches: NarSource[]; catalogCache: NarSource[] } {
    const { caches, limits, hung } = this.#options;
    const { upstreams, awake, catalogCaches } = caches;
    const http = (cache: HttpCache): NarSource => {
      const { httpStallMs, restingStallMs, hungStallMs } = limits;
      const hangs = hung.has(fileHash, cache.url);
      const [between, again] = hangs ? [hungStallMs, hungStallMs] : [httpStallMs, restingStallMs];
      // One that answers for narinfos alone is awake, and still hangs.
      const rests =
        (upstreams.includes(cache) && !awake.includes(cache)) || hung.lately(cache.url, hungLatelyMs);
      const firstByte = rests ? again : between;
      return new HttpSource(cache, given, { firstByte, between, again }, sizeBytes);
    };
    const origin = awake.filter(({ url }) => url === given.origin);
    return {
      caches: [...origin, ...upstreams.filter((each) => !origin.includes(each))].map(http),
      catalogCache: catalogCaches.filter(({ url }) => url === given.origin).map(http),
    };
  }

  /** At most one: the pack that the NAR file is said to be in, when somebody who has it is connected. */
  #packs(
    { fileHash, given }: PlanWanted,
    { peers, pack, torrent }: Pick<Whereabouts, 'peers' | 'pack'> & { torrent?: Torrent },
  ): NarSource[] {
    const { packs: connections, catalogs } = this.#options;
    const lengthBytes = torrent?.length ?? given.narInfo.fileSize;
    if (pack === undefined || lengthBytes === undefined) return [];
    // For the next one, if not for this.
    connections.warm(pack.infoHash, peers);
    const stepBytes = torrent?.pieceLength ?? packPieceLength;
    const source = new PackSource({
      ...{ fileHash, connections },
      place: { ...pack, lengthBytes, peers, stepBytes },
      onSpoilt: () => catalogs.distrustPack(fileHash),
    });
    return source.warm() ? [source] : [];
  }

  /** What catalogs and peers say while HTTP runs already. */
  async #later(wanted: PlanWanted, known: Found | undefined): Promise<LaterPlan | undefined> {
    const { limits, held, onKept, logger } = this.#options;
    const { signal, sharing, fileHash } = wanted;
    try {
      // Nobody waits for it.
      const all = (await this.#find(wanted, limits.resolveDeadlineMs, signal)) ?? known;
      if (all === undefined) return undefined;
      const found = this.#reachable(all);
      const { torrent, peers } = found;
      // It may be over by now: then it was kept before there was a torrent by which it could be shared.
      if (held.has(fileHash)) onKept(fileHash);
      const swarm = this.#swarm(wanted, found);
      const shared = sharing(torrent);
      if (peers.length === 0) await shared?.found(signal);
      if (peers.length === 0 && !shared?.fetch.peers.length)
        return { torrent, sources: [], lastResorts: [swarm] };
      return { torrent, sources: [...this.#packs(wanted, found), swarm], lastResorts: [] };
    } catch (error) {
      if (!signal.aborted) logger.error('lookup-failed', { fileHash, error });
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

  /** Without those peers that would only cost time, as there is HTTP: who lied, and who could not be reached a moment ago. */
  #reachable<Place extends Pick<Whereabouts, 'peers'>>(place: Place): Place {
    const { book } = this.#options;
    const peers = place.peers.filter((peer) => !book.isBanned(peer) && !book.rests(peer));
    return peers.length === place.peers.length ? place : { ...place, peers };
  }

  /** `expected`: whose torrent and peers are gone by; what the catalogs say when it is asked, without it. */
  #swarm(wanted: PlanWanted, expected?: Found): NarSource {
    const { limits, book, hashes, hung, catalogs } = this.#options;
    const { swarmStallMs, hungStallMs } = limits;
    const hangs = hung.has(wanted.fileHash, 'swarm');
    const swarmPatienceMs = hangs ? hungStallMs : limits.swarmPatienceMs;
    let asked = false;
    return new SwarmSource({
      limits: { swarmStallMs, swarmPatienceMs },
      book,
      hashes,
      share: wanted.sharing,
      find: async (signal, patient) => {
        const known = asked ? undefined : (expected ?? catalogs.known(wanted.given.narInfo));
        asked = true;
        if (known !== undefined && known.peers.length > 0) return known;
        const budgetMs = patient ? limits.resolvePatienceMs : limits.resolveBudgetMs;
        const now = await this.#find(wanted, budgetMs, signal);
        // Not absent: it is asked for again when the others have failed.
        if (now === undefined && !patient && catalogs.isAsking(wanted.fileHash))
          throw new NarswarmError('upstream-failed', 'no catalog has answered yet');
        return expected === undefined || now?.torrent.infoHash === expected.torrent.infoHash
          ? now
          : undefined;
      },
    });
  }
}
