/** `--share`: serves to peers what this client holds and may share, and announces it. Without it nothing here runs. */

import type { PublicKey } from '../nar/signature.ts';
import { openSeedServer, type SeedServer } from '../swarm/seed-server.ts';
import type { Logger } from '../web/log.ts';
import { Announcer } from './announcer.ts';
import type { HeldFiles } from './cache.ts';
import type { ClientLimits } from './config.ts';
import { SharedTorrents } from './shared-torrents.ts';
import type { ClientState } from './state.ts';

export interface ShareOptions {
  peers: { host: string; port: number };
  catalogs: string[];
  state: ClientState;
  held: HeldFiles;
  trustedKeys: readonly PublicKey[];
  catalogKeys: readonly PublicKey[];
  limits: ClientLimits;
  logger: Logger;
  clock: () => number;
}

export class Share {
  readonly #server: SeedServer;
  readonly #announcer: Announcer;

  private constructor(server: SeedServer, announcer: Announcer) {
    this.#server = server;
    this.#announcer = announcer;
  }

  /** Rejects when it cannot listen. */
  static async open(options: ShareOptions): Promise<Share> {
    const shared = new SharedTorrents(options);
    const server = await openSeedServer({ ...options.peers, source: shared });
    const announcer = new Announcer({
      ...options,
      shared,
      peerId: server.peerId,
      port: server.port,
      uploadedBytes: () => server.status().uploadedBytes,
      random: Math.random,
    });
    return new Share(server, announcer);
  }

  get host(): string {
    return this.#server.host;
  }

  get port(): number {
    return this.#server.port;
  }

  onKept(): void {
    this.#announcer.onKept();
  }

  status() {
    const { uploadedBytes, connections, openTorrents } = this.#server.status();
    return { enabled: true, uploadedBytes, connections, openTorrents, ...this.#announcer.status() };
  }

  async close(): Promise<void> {
    await this.#announcer.close();
    await this.#server.close();
  }
}
