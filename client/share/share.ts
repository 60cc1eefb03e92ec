/**
 * `--share`: serves to peers what this client holds and may share, and says so: with `lan` to the local network alone, with `on` to
 * everybody who asks the catalogs' trackers. Without it nothing here runs.
 */

import type { InfoHash, Sha256 } from '../../nar/hash.ts';
import type { PublicKey } from '../../nar/signature.ts';
import { checkSchedule } from '../../parts/schedule.ts';
import { type PeerAddress, printPeer } from '../../swarm/address/peer-address.ts';
import { LocalNetworks } from '../../swarm/local/local-networks.ts';
import { openSeedServer, type SeedServer } from '../../swarm/seed/seed-server.ts';
import type { Torrent } from '../../swarm/torrent/torrent.ts';
import type { SeedLimits } from '../../swarm/wire/limits.ts';
import type { Logger } from '../../web/log.ts';
import type { ClientLimits, ShareMode } from '../config.ts';
import type { HeldFiles } from '../state/cache.ts';
import type { ClientState } from '../state/state.ts';
import { Announcer } from './announcer.ts';
import { LocalPeers } from './local-peers.ts';
import type { FetchedBytes, SharedFetch, SharedSwarm } from './shared-fetch.ts';
import { askedFetchMinBytes, SharedFetches } from './shared-fetches.ts';
import { SharedTorrents } from './shared-torrents.ts';
import type { Traffic } from './traffic.ts';
import { UploadAllowance, type UploadAllowanceOptions } from './upload-allowance.ts';

export interface ShareOptions {
  mode: Exclude<ShareMode, 'off'>;
  peers: { host: string; port: number };
  /** Within what the system lets this process open. */
  seedLimits: Partial<SeedLimits>;
  /** See ClientConfig. */
  localDiscoveryPort: number | undefined;
  catalogs: string[];
  state: ClientState;
  held: HeldFiles;
  trustedKeys: readonly PublicKey[];
  /** Those that are trusted at this moment. */
  catalogKeys(): readonly PublicKey[];
  limits: ClientLimits;
  /** What may be uploaded, and when. */
  upload: Pick<
    UploadAllowanceOptions,
    'quotaBytes' | 'bytesPerSecond' | 'schedules' | 'pauseOnMetered' | 'metered'
  >;
  traffic: Traffic;
  isRevoked(fileHash: Sha256): boolean;
  logger: Logger;
  clock: () => number;
}

/** How it is set up. */
export interface ShareSetup {
  /** `host:port` where peers are served, if they are. */
  peersAddress?: string;
  /** Addresses of this machine from which the local network is spoken to. */
  localNetworks: string[];
  /** Why it cannot be. */
  localFault?: string;
  /** Why nothing is shared at the moment, if so. */
  sharePaused?: string;
}

interface Parts {
  server: SeedServer;
  local: LocalPeers;
  /** Without trackers there is none. */
  announcer: Announcer | undefined;
  shared: SharedTorrents;
  fetches: SharedFetches;
  allowance: UploadAllowance;
}

export class Share {
  readonly #options: ShareOptions;
  readonly #parts: Parts;

  private constructor(options: ShareOptions, parts: Parts) {
    this.#options = options;
    this.#parts = parts;
  }

  /** Rejects when it cannot listen. */
  static async open(options: ShareOptions): Promise<Share> {
    const { mode, logger, limits, peers, traffic, clock, upload } = options;
    // Before anything is opened.
    for (const { cron } of upload.schedules) checkSchedule(cron);
    const trackers = mode === 'on' ? options.catalogs : [];
    const networks = new LocalNetworks(() => performance.now());
    // Until the allowance has said otherwise.
    let paused = true;
    let allowance: UploadAllowance | undefined;
    let announcer: Announcer | undefined;
    const admits = (address: string): boolean => !paused && (mode === 'on' || networks.has(address));
    const uploadedBytes = (): number => server.status().uploadedBytes;
    const fetches: SharedFetches = new SharedFetches({
      trackers: () => (paused ? [] : trackers),
      askLocally: (infoHash) => local.ask(infoHash),
      knownLocally: (infoHash) => local.known(infoHash),
      localAnswerMs: limits.localAnswerMs,
      admits,
      logger,
      peerId: () => server.peerId,
      port: () => server.port,
      uploadedBytes,
    });
    const shared = new SharedTorrents({ ...options, fetches });
    const server: SeedServer = await openSeedServer({
      ...peers,
      source: shared,
      limits: options.seedLimits,
      admits,
      onUpload: (_infoHash, bytes) => allowance?.uploaded(bytes),
      onListener: (infoHash, peer) => fetches.onListener(infoHash, peer),
    });
    const local: LocalPeers = await LocalPeers.open({
      ...{ limits, logger },
      clock: () => performance.now(),
      networks,
      host: peers.host,
      port: server.port,
      groupPort: options.localDiscoveryPort,
      mayHold: (infoHash) => shared.mayHold(infoHash),
      has: (infoHash) => !paused && shared.has(infoHash),
      fetched: () => fetches.infoHashes(),
      newest: (max) => shared.newest(max),
      onPeer: (infoHash, peer) => fetches.onListener(infoHash, peer),
    });
    allowance = await UploadAllowance.open({
      ...upload,
      ...{ traffic, logger, clock },
      onRate(rate) {
        paused = rate === 0;
        server.setUploadRate(rate);
        local.setPaused(paused);
        announcer?.setPaused(paused);
      },
    });
    announcer =
      trackers.length === 0
        ? undefined
        : new Announcer({
            ...options,
            shared,
            peerId: server.peerId,
            port: server.port,
            uploadedBytes,
            random: Math.random,
          });
    announcer?.setPaused(paused);
    return new Share(options, { server, local, announcer, shared, fetches, allowance });
  }

  get host(): string {
    return this.#parts.server.host;
  }

  get port(): number {
    return this.#parts.server.port;
  }

  /**
   * Shares a NAR file while it is fetched, if it may be and is worth it, and asks those with whom it is shared for it. To be ended.
   */
  begin(fileHash: Sha256, narInfo: string, torrent: Torrent, bytes: FetchedBytes): SharedFetch | undefined {
    const { shared, fetches, allowance } = this.#parts;
    if (allowance.paused) return undefined;
    if (torrent.length < askedFetchMinBytes) return undefined;
    if (shared.torrentOf({ fileHash, narInfo })?.infoHash !== torrent.infoHash) return undefined;
    return fetches.begin({ torrent, bytes, openHeld: () => this.#options.held.open(fileHash) });
  }

  /** Who of the local network was heard to have a torrent. Nobody is asked. */
  localPeers(infoHash: InfoHash): PeerAddress[] {
    return this.#parts.local.known(infoHash);
  }

  /** It must not be shared any more, nor what is left of it be sent. */
  forget(fileHash: Sha256): void {
    const infoHash = this.#options.state.torrent(fileHash)?.infoHash;
    if (infoHash !== undefined) this.#parts.server.forget(infoHash);
  }

  /** What a fetch from the swarm needs to know of it. */
  swarm(fetch: SharedFetch): SharedSwarm {
    const asked = (): Promise<void> => this.#parts.fetches.asked(fetch);
    return { fetch, asked, found: (signal) => Promise.race([asked(), fetch.found(signal)]) };
  }

  end(fetch: SharedFetch, kept: boolean): void {
    this.#parts.fetches.end(fetch, kept);
  }

  /** A NAR file is held that was not before: it was verified down to its last byte. */
  onKept(fileHash: Sha256): void {
    this.#parts.announcer?.onKept();
    const infoHash = this.#options.state.torrent(fileHash)?.infoHash;
    if (infoHash !== undefined) this.#parts.local.onKept(infoHash);
  }

  /** For whoever looks for what is wrong. */
  setup(): ShareSetup {
    const { local, allowance } = this.#parts;
    const { networks = [], fault } = local.status() ?? {};
    const { paused } = allowance.status();
    return {
      peersAddress: printPeer(this),
      localNetworks: networks,
      ...(fault !== undefined && { localFault: fault }),
      ...(paused !== false && { sharePaused: paused }),
    };
  }

  status() {
    const { server, local, announcer, fetches, allowance } = this.#parts;
    const { uploadedBytes, connections, openTorrents } = server.status();
    return {
      enabled: true,
      mode: this.#options.mode,
      uploadedBytes,
      ...allowance.status(),
      connections,
      openTorrents,
      sharedFetches: fetches.size,
      ...announcer?.status(),
      local: local.status(),
    };
  }

  async close(): Promise<void> {
    const { server, local, announcer, fetches, allowance } = this.#parts;
    await allowance.close();
    await fetches.close();
    await announcer?.close();
    await local.close();
    await server.close();
  }
}
