/**
 * Notices NAR files that were revoked, by `narswarm revoke` beside a running seeder: it writes to the catalog, where every lookup sees it at
 * once. Here what is open already is closed, and the head is told to say so without delay.
 */

import type { Catalog } from '../catalog/catalog.ts';
import type { InfoHash } from '../nar/hash.ts';
import type { Logger } from '../web/log.ts';

/** How long a peer that is being served may still get of it. */
const lookEveryMs = 1000;
/** Handled in one turn. */
const pageRevocations = 100;

export interface RevocationsOptions {
  readonly catalog: Catalog;
  readonly seedServer: { forget(infoHash: InfoHash): void };
  readonly publish: () => void;
  readonly logger: Logger;
}

export class Revocations {
  readonly #options: RevocationsOptions;
  readonly #timer: NodeJS.Timeout;
  #lastId: number;

  constructor(options: RevocationsOptions) {
    this.#options = options;
    this.#lastId = options.catalog.log.lastRevocation;
    this.#timer = setInterval(() => this.look(), lookEveryMs);
    this.#timer.unref();
  }

  /** Handles those that are new. */
  look(): void {
    const { catalog, seedServer, publish, logger } = this.#options;
    const revocations = catalog.log.revocations(this.#lastId, pageRevocations);
    for (const { id, fileHash, infoHash, reason } of revocations) {
      this.#lastId = id;
      logger.warn('nar-file-revoked', { fileHash, reason });
      if (infoHash !== undefined) seedServer.forget(infoHash);
      // The pieces of its pack that it is in are no longer there.
      const pack = catalog.packs.packOf(fileHash);
      if (pack !== undefined) seedServer.forget(pack.infoHash);
    }
    if (revocations.length === 0) return;
    catalog.changedElsewhere();
    publish();
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
