/** `--share`: serves to peers what this client holds and may share, and announces it. Without it nothing here runs. */

import type { Sha256 } from '../nar/hash.ts';
import type { PublicKey } from '../nar/signature.ts';
import { openSeedServer, type SeedServer } from '../swarm/seed-server.ts';
import type { Torrent } from '../swarm/torrent.ts';
import type { Logger } from '../web/log.ts';
import { Announcer } from './announcer.ts';
import type { HeldFiles } from './cache.ts';
import type { ClientLimits } from './config.ts';
import type { FetchedBytes, SharedFetch } from './shared-fetch.ts';
import { SharedFetches, sharedFetchMinBytes } from './shared-fetches.ts';
import { SharedTorrents } from './shared-torrents.ts';
import type { ClientState } from './state.ts';

export interface ShareOptions {
  peers: { host: string; port: number };
  catalogs: string[];
  state: ClientState;
  held: HeldFiles;
  trustedKeys: readonly PublicKey[];
  /** Those that are trusted at this moment. */
  catalogKeys(): readonly PublicKey[];
  limits: ClientLimits;
  /** Upload of everything, in bytes; no limit without it. */
  uploadBytesPerSecond: number | undefined;
  isRevoked(fileHash: Sha256): boolean;
  logger: Logger;
  clock: () => number;
}

export class Share {
  readonly #server: SeedServer;
  readonly #announcer: Announcer;
  readonly #shared: SharedTorrents;
  readonly #fetches: SharedFetches;
  readonly #held: HeldFiles;
  readonly #state: ClientState;

  private constructor(
    server: SeedServer,
    announcer: Announcer,
    parts: { shared: SharedTorrents; fetches: SharedFetches; held: HeldFiles; state: ClientState },
  ) {
    this.#server = server;
    this.#announcer = announcer;
    this.#shared = parts.shared;
    this.#fetches = parts.fetches;
    this.#held = parts.held;
    this.#state = parts.state;
  }

  /** Rejects when it cannot listen. */
  static async open(options: ShareOptions): Promise<Share> {
    const { held, uploadBytesPerSecond, catalogs, logger } = options;
    const fetches: SharedFetches = new SharedFetches({
      catalogs,
      logger,
      peerId: () => server.peerId,
      port: () => server.port,
      uploadedBytes: () => server.status().uploadedBytes,
    });
    const shared = new SharedTorrents({ ...options, fetches });
    const server: SeedServer = await openSeedServer({
      ...options.peers,
      source: shared,
      upload: { bytesPerSecond: uploadBytesPerSecond },
      onListener: (infoHash, peer) => fetches.onListener(infoHash, peer),
    });
    const announcer = new Announcer({
      ...options,
      shared,
      peerId: server.peerId,
      port: server.port,
      uploadedBytes: () => server.status().uploadedBytes,
      random: Math.random,
    });
    return new Share(server, announcer, { shared, fetches, held, state: options.state });
  }

  get host(): string {
    return this.#server.host;
  }

  get port(): number {
    return this.#server.port;
  }

  /** Shares a NAR file while it is fetched, if it may be and is worth it. To be ended. */
  begin(fileHash: Sha256, narInfo: string, torrent: Torrent, bytes: FetchedBytes): SharedFetch | undefined {
    if (torrent.length < sharedFetchMinBytes) return undefined;
    if (this.#shared.torrentOf({ fileHash, narInfo })?.infoHash !== torrent.infoHash) return undefined;
    return this.#fetches.begin({ torrent, bytes, openHeld: () => this.#held.open(fileHash) });
  }

  /** It must not be shared any more, nor what is left of it be sent. */
  forget(fileHash: Sha256): void {
    const infoHash = this.#state.torrent(fileHash)?.infoHash;
    if (infoHash !== undefined) this.#server.forget(infoHash);
  }

  /** Resolves when the trackers were asked for the peers of such a NAR file. */
  asked(fetch: SharedFetch): Promise<void> {
    return this.#fetches.asked(fetch);
  }

  end(fetch: SharedFetch, kept: boolean): void {
    this.#fetches.end(fetch, kept);
  }

  onKept(): void {
    this.#announcer.onKept();
  }

  status() {
    const { uploadedBytes, connections, openTorrents } = this.#server.status();
    return {
      enabled: true,
      uploadedBytes,
      connections,
      openTorrents,
      sharedFetches: this.#fetches.size,
      ...this.#announcer.status(),
    };
  }

  async close(): Promise<void> {
    await this.#fetches.close();
    await this.#announcer.close();
    await this.#server.close();
  }
}
