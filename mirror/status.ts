/** What a mirror says of itself: as JSON, as a page, as metrics. */

import type { CoverageStatus } from '../parts/coverage-book.ts';
import type { SeedServer, SeedStatus } from '../swarm/seed/seed-server.ts';
import { keptForThisTurn, Metrics } from '../web/metrics.ts';
import type { Announcer } from './announcer.ts';
import type { CatalogStatus, MirrorCatalog } from './catalogs.ts';
import type { CoverageSender } from './coverage-sender.ts';
import type { FetchQueue } from './fetch-queue.ts';
import type { Holdings } from './holdings.ts';
import type { Ledger, LedgerStatus } from './ledger.ts';
import type { Packs } from './packs.ts';
import type { Planner } from './planner.ts';
import type { Resolver } from './resolver.ts';
import type { Upkeep } from './upkeep.ts';

export interface MirrorStatus {
  role: 'mirror';
  /** NAR files that it holds, and those that it may not keep, as in a seeder's status. */
  catalog: { nars: number; bytes: number; rejected: number };
  ingest: { pending: number };
  quota: LedgerStatus & { diskFreeBytes: number | null };
  plan: ReturnType<Planner['status']>;
  held: ReturnType<Holdings['status']>;
  fetching: ReturnType<FetchQueue['status']> & ReturnType<Resolver['status']>;
  verification: ReturnType<Upkeep['status']>;
  /** Packs of which every NAR file is held. */
  packs: ReturnType<Packs['status']> & ReturnType<Announcer['status']>;
  swarm: SeedStatus;
  catalogs: CatalogStatus[];
  /** Who is told what this mirror holds. */
  told: ReturnType<CoverageSender['status']>;
  /** Other mirrors that tell this one what they hold, by catalog. */
  mirrors: ({ catalog: string } & CoverageStatus)[];
}

export interface StatusParts {
  catalogs: readonly MirrorCatalog[];
  ledger: Ledger;
  planner: Planner;
  holdings: Holdings;
  queue: FetchQueue;
  resolver: Resolver;
  upkeep: Upkeep;
  seedServer: SeedServer;
  sender: CoverageSender;
  packs(): MirrorStatus['packs'];
  coverage(): ({ catalog: string } & CoverageStatus)[];
  /** As last seen. */
  diskFreeBytes(): number | undefined;
}

export function mirrorStatus(parts: StatusParts): MirrorStatus {
  const held = parts.holdings.status();
  const fetching = { ...parts.queue.status(), ...parts.resolver.status() };
  return {
    role: 'mirror',
    catalog: { nars: held.files, bytes: held.bytes, rejected: fetching.refused },
    ingest: { pending: fetching.missing + held.unverified },
    quota: { ...parts.ledger.status(), diskFreeBytes: parts.diskFreeBytes() ?? null },
    plan: parts.planner.status(),
    held,
    fetching,
    verification: parts.upkeep.status(),
    packs: parts.packs(),
    swarm: parts.seedServer.status(),
    catalogs: parts.catalogs.map((catalog) => catalog.status()),
    told: parts.sender.status(),
    mirrors: parts.coverage(),
  };
}

export function makeMirrorMetrics(status: () => MirrorStatus): Metrics {
  const metrics = new Metrics();
  const look = keptForThisTurn(status);
  const gauge = (name: string, help: string, read: (now: MirrorStatus) => number): void =>
    metrics.callback('gauge', name, help, () => read(look()));
  const counter = (name: string, help: string, read: (now: MirrorStatus) => number): void =>
    metrics.callback('counter', name, help, () => read(look()));
  gauge('narswarm_held_nars', 'NAR files that are held', ({ held }) => held.files);
  gauge('narswarm_held_bytes', 'Bytes of them', ({ held }) => held.bytes);
  gauge('narswarm_quota_bytes', 'What the data directory may take', ({ quota }) => quota.quotaBytes);
  gauge(
    'narswarm_quota_used_bytes',
    'What it takes, files that are being written whole',
    ({ quota }) => quota.heldBytes + quota.reservedBytes + quota.otherBytes,
  );
  gauge('narswarm_wanted_nars', 'NAR files that the selections want', ({ plan }) => plan.wantedFiles);
  gauge('narswarm_missing_nars', 'Those of them that are not held', ({ fetching }) => fetching.missing);
  gauge(
    'narswarm_last_copies_bytes',
    'Bytes kept only because nobody else is known to have them',
    ({ plan }) => plan.keptLastCopies.bytes,
  );
  counter(
    'narswarm_evicted_last_copies',
    'NAR files removed although nobody else was known to have them',
    ({ plan }) => plan.evictedLastCopies,
  );
  metrics.callback('counter', 'narswarm_gone_nars', 'NAR files that are no longer held, by reason', () =>
    Object.entries(look().held.gone).map(([reason, value]) => ({ labels: { reason }, value })),
  );
  metrics.callback(
    'counter',
    'narswarm_fetched_bytes',
    'Bytes that were fetched, by where they came from',
    () => Object.entries(look().fetching.bytes).map(([source, value]) => ({ labels: { source }, value })),
  );
  counter(
    'narswarm_fetch_failures',
    'NAR files that could not be fetched',
    ({ fetching }) => fetching.failures,
  );
  counter(
    'narswarm_verified_bytes',
    'Bytes read again to verify them',
    ({ verification }) => verification.verifiedBytes,
  );
  gauge(
    'narswarm_verified_oldest_seconds',
    'Since the NAR file was verified whose turn is next',
    ({ verification }) => verification.oldestSeconds,
  );
  counter(
    'narswarm_damaged_nars',
    'NAR files found damaged by that',
    ({ verification }) => verification.damagedFiles,
  );
  gauge('narswarm_seeded_packs', 'Packs that are seeded', ({ packs }) => packs.seeded);
  gauge('narswarm_swarm_connections', 'BitTorrent connections', ({ swarm }) => swarm.connections);
  gauge('narswarm_swarm_torrents', 'Torrents that are open', ({ swarm }) => swarm.openTorrents);
  counter('narswarm_uploaded_bytes', 'Bytes of blocks sent to peers', ({ swarm }) => swarm.uploadedBytes);
  metrics.callback('gauge', 'narswarm_upload_rate_bytes', 'Bytes a second for all torrents together', () => {
    const { rateBytesPerSecond } = look().swarm.upload;
    return rateBytesPerSecond === null ? [] : [{ labels: {}, value: rateBytesPerSecond }];
  });
  gauge(
    'narswarm_catalogs_failing',
    'Catalogs that could not be followed last time',
    ({ catalogs }) => catalogs.filter(({ error }) => error !== null).length,
  );
  gauge('narswarm_coverage_mirrors', 'Other mirrors that tell this one what they hold', ({ mirrors }) =>
    mirrors.reduce((sum, each) => sum + each.mirrors.length, 0),
  );
  return metrics;
}
