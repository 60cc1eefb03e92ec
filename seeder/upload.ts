/** What the seeder is told about uploading, and what its tracker can say about it. */

import type { Catalog } from '../catalog/catalog.ts';
import type { InfoHash } from '../nar/hash.ts';
import type { CoveringPeers } from '../parts/covering-peers.ts';
import { followSchedules, rateAt, type ScheduledRate } from '../parts/upload-schedule.ts';
import type { SeedServer } from '../swarm/seed/seed-server.ts';
import type { Tracker } from '../swarm/tracker/tracker.ts';
import { trackerLimits } from '../swarm/tracker/tracker-limits.ts';
import type { UploadOptions } from '../swarm/upload/upload-control.ts';
import type { Logger } from '../web/log.ts';
import { uploadRecords } from './upload-records.ts';

export interface SeederUpload {
  /** Copies of a torrent that leave freely. */
  initialCopies: number;
  /** For each torrent after that, in bytes. */
  cappedBytesPerSecond: number;
  /** With fewer other seeds than this for `lonelyAfterMs` it is free again. */
  minSeeds: number;
  lonelyAfterMs: number;
  /** For all torrents together, in bytes; no limit without it. */
  bytesPerSecond: number | undefined;
  /** Take the place of `bytesPerSecond` from when they are due. */
  schedules: readonly ScheduledRate[];
}

export const seederUploadDefaults: Readonly<SeederUpload> = {
  initialCopies: 3,
  cappedBytesPerSecond: 64 * 1024,
  minSeeds: 2,
  lonelyAfterMs: 10 * 60_000,
  bytesPerSecond: undefined,
  schedules: [],
};

/** The upload policy of a seeder, and its rate by the clock. Throws `config-invalid` for a schedule that is none. */
export class SeederUploads {
  readonly #upload: SeederUpload;
  readonly #catalog: Catalog;
  readonly #tracker: Tracker;
  readonly #covering: Pick<CoveringPeers, 'seedsOf'>;
  readonly #logger: Logger;

  constructor(
    upload: Partial<SeederUpload> | undefined,
    catalog: Catalog,
    tracker: Tracker,
    covering: Pick<CoveringPeers, 'seedsOf'>,
    logger: Logger,
  ) {
    this.#covering = covering;
    this.#upload = { ...seederUploadDefaults, ...upload };
    this.#catalog = catalog;
    this.#tracker = tracker;
    this.#logger = logger;
  }

  /** For the seed server, with the rate of this moment. */
  options(): UploadOptions {
    const { schedules, bytesPerSecond, ...cap } = this.#upload;
    const seedsOf = patientSeedsOf(this.#tracker, this.#covering, cap.minSeeds);
    const inParts = (infoHash: InfoHash): boolean => this.#catalog.packs.has(infoHash);
    return {
      cap: { ...cap, records: uploadRecords(this.#catalog), inParts, seedsOf },
      bytesPerSecond: rateAt(schedules, bytesPerSecond, new Date()),
    };
  }

  /** Changes the rate whenever a schedule is due. */
  follow(seedServer: SeedServer): { stop(): void } {
    const { schedules, bytesPerSecond } = this.#upload;
    return followSchedules(schedules, bytesPerSecond, (rate) => {
      seedServer.setUploadRate(rate);
      this.#logger.info('upload-rate', { bytesPerSecond: rate ?? null });
    });
  }
}

/**
 * After a start the tracker knows nobody until all have announced once: then few seeds mean nothing, and torrents that are capped stay so.
 */
function patientSeedsOf(
  tracker: Tracker,
  covering: Pick<CoveringPeers, 'seedsOf'>,
  minSeeds: number,
): (infoHash: InfoHash) => number | undefined {
  const knowsAllMs = performance.now() + trackerLimits.intervalSeconds * 1_000;
  return (infoHash) => {
    const seeds = tracker.seedsOf(infoHash) + covering.seedsOf(infoHash);
    return seeds >= minSeeds || performance.now() >= knowsAllMs ? seeds : undefined;
  };
}
