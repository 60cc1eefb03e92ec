/** The mirrors of a seeder: what they say that they hold, and who is named for it. */

import type { Catalog } from '../catalog/catalog.ts';
import type { InfoHash, Sha256 } from '../nar/hash.ts';
import type { OrdinalBase } from '../parts/coverage.ts';
import { CoverageBook } from '../parts/coverage-book.ts';
import { tryMirror } from '../parts/coverage-trial.ts';
import { CoveringPeers } from '../parts/covering-peers.ts';
import { Demand } from '../parts/demand.ts';
import type { Torrent } from '../swarm/torrent/torrent.ts';
import type { Logger } from '../web/log.ts';
import { fileTorrentOf } from './catalog-torrents.ts';

/** The numbers of the NAR files in the published log. */
export interface Ordinals extends OrdinalBase {
  ordinal(fileHash: Sha256): number | undefined;
}

export class SeederCoverage {
  readonly book: CoverageBook;
  readonly peers: CoveringPeers;
  readonly #demand: Demand;

  constructor(catalog: Catalog, ordinals: Ordinals, logger: Logger) {
    const clock = (): number => performance.now();
    const ordinalOf = (infoHash: InfoHash): number | undefined => {
      const found = catalog.byInfoHash(infoHash);
      return found?.kind === 'file' ? ordinals.ordinal(found.entry.fileHash) : undefined;
    };
    const torrentOf = (ordinal: number): Torrent | undefined => {
      const fileHash = ordinals.byOrdinal(ordinal);
      const found = fileHash && catalog.fileByFileHash(fileHash);
      return found && fileTorrentOf(found);
    };
    const demand = new Demand(clock);
    this.#demand = demand;
    this.book = new CoverageBook({
      catalog: ordinals,
      // All that is in its log, but for what it revoked, which nobody keeps.
      holds: () => true,
      *demand() {
        for (const [infoHash, level] of demand.levels()) {
          const ordinal = ordinalOf(infoHash);
          if (ordinal !== undefined) yield [ordinal, level] as const;
        }
      },
      trial: (peer, held, signal) => tryMirror({ torrentOf, random: Math.random }, peer, held, signal),
      logger,
      clock,
    });
    this.peers = new CoveringPeers(this.book, ordinalOf);
  }

  /** Somebody wants this torrent. */
  noteDemand(infoHash: InfoHash): void {
    this.#demand.note(infoHash);
  }

  close(): Promise<void> {
    return this.book.close();
  }
}
