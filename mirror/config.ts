/** What a mirror is told, and the limits that it keeps. */

import type { PublicKey } from '../nar/signature.ts';
import type { PeersDhtConfig } from '../parts/peers-dht.ts';
import type { ScheduledRate } from '../parts/upload-schedule.ts';
import type { Logger } from '../web/log.ts';
import type { Selection } from './selection.ts';

export interface MirrorConfig {
  /** Holds everything. Made if it is missing. */
  dataDir: string;
  /** Of seeders and other mirrors. */
  catalogs: readonly string[];
  /** For each catalog the keys that may sign its first head. */
  catalogKeys: readonly (readonly PublicKey[])[];
  /** What none of these signed is not kept. */
  trustedKeys: readonly PublicKey[];
  /** The store directory that the catalogs are for. */
  nixStoreDir: string;
  selections: readonly Selection[];
  /** For everything in the data directory. */
  quotaBytes: number;
  /** Left free on the file system. */
  minFreeBytes: number;
  /** Upload of everything; no limit without it. */
  uploadBytesPerSecond: number | undefined;
  /** Take the place of it from when they are due; at a rate of 0 nothing is fetched either. */
  schedules: readonly ScheduledRate[];
  /** At which what is held is read again. */
  verifyBytesPerSecond: number;
  /** How old a full verification may become. */
  verifyEveryMs: number;
  /** NAR files that no peer gives are fetched from the catalogs' web servers. */
  httpFallback: boolean;
  http: { host: string; port: number };
  peers: { host: string; port: number };
  /** The name or address under which others reach this machine. */
  publicHost?: string;
  /** A node of the DHT, by which the catalogs are found without their servers, and kept for others; none without it. */
  dht?: PeersDhtConfig;
  logger: Logger;
  limits?: Partial<MirrorLimits>;
}

export interface MirrorLimits {
  /** NAR files that are fetched at once: small ones wait for round trips, and large ones fill the line alone. */
  fetches: number;
  /** NAR files that are resolved ahead in one request. */
  resolveBatch: number;
  /** Milliseconds for one `/resolve`. */
  resolveDeadlineMs: number;
  /** Milliseconds without a byte before peers count as dead: mirrors wait longer than people. */
  stallMs: number;
  /** Milliseconds that a file which was half fetched when the mirror was stopped waits to be gone on with, before it makes room. */
  unfinishedMs: number;
  /** Attempts in a row that bring nothing before a NAR file has to wait. */
  attempts: number;
  /** Milliseconds until the next attempt after a failure, doubled with each, up to the most. */
  retryMs: number;
  retryMaxMs: number;
  /** Milliseconds between two looks at each catalog's head. A head that did not change costs a request. */
  followEveryMs: number;
  /** Milliseconds between two plans: demand and seeds change all the time. */
  planEveryMs: number;
  /** Milliseconds between two plans at least, and how many times as long as the last one took: large catalogs change all the time. */
  planGapMs: number;
  planRest: number;
  /** Milliseconds between two looks at a disk that was full. */
  fullMs: number;
  /** Milliseconds after which a change of what is held is told, doubled with each in a row, up to the most. */
  tellMs: number;
  tellMaxMs: number;
  /** Milliseconds after a catalog could not be told. */
  tellRetryMs: number;
  /** Milliseconds after a change until packs are looked at: files come and go by the dozen. */
  packSettleMs: number;
}

export const mirrorLimits: Readonly<MirrorLimits> = {
  fetches: 8,
  resolveBatch: 250,
  resolveDeadlineMs: 30_000,
  stallMs: 10_000,
  unfinishedMs: 3 * 24 * 60 * 60_000,
  attempts: 3,
  retryMs: 5_000,
  retryMaxMs: 3_600_000,
  followEveryMs: 60_000,
  planEveryMs: 3_600_000,
  planGapMs: 1_000,
  planRest: 10,
  fullMs: 60_000,
  tellMs: 1_000,
  tellMaxMs: 300_000,
  tellRetryMs: 60_000,
  packSettleMs: 2_000,
};
