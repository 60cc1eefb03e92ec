/** What the seeder says of itself: as JSON, as a page, as metrics. */

import type { Catalog, Refusal } from '../catalog/catalog.ts';
import { type PublicKey, printPublicKey } from '../nar/signature.ts';
import type { CoverageBook, CoverageStatus } from '../parts/coverage-book.ts';
import type { HeadInDhtStatus } from '../parts/head-in-dht.ts';
import type { DhtStatus } from '../swarm/dht/dht.ts';
import type { SeedServer, SeedStatus } from '../swarm/seed/seed-server.ts';
import type { Tracker, TrackerStatus } from '../swarm/tracker/tracker.ts';
import { noUdpTracker, type UdpTracker, type UdpTrackerStatus } from '../swarm/tracker/udp-tracker.ts';
import { keptForThisTurn, Metrics } from '../web/metrics.ts';
import type { AnnounceTo, AnnounceToStatus } from './announce-to.ts';
import type { Ingest, IngestProgress } from './ingest.ts';
import type { PackCloser, PacksStatus } from './pack-closer.ts';
import type { PublisherStatus } from './publisher.ts';

/** Refusals shown; all of them are counted. */
const refusalsShown = 100;
/** More of them need not be counted at each look. */
const pendingShown = 1000;

export interface SeederStatus {
  role: 'seeder';
  catalog: {
    /** NAR files, each a torrent. */
    nars: number;
    narinfos: number;
    bytes: number;
    rejected: number;
    /** NAR files whose torrents were ever uploaded, by state. */
    uploads: { swarming: number; capped: number };
    rejectedByCode: Record<string, number>;
    publicKey: string;
  };
  /** What of the catalog is published, and how. */
  log: PublisherStatus & {
    segments: number;
    /** Rows that wait to be published, up to a thousand. */
    pending: number;
    /** NAR files with a number. */
    ordinals: number;
    revoked: number;
  };
  packs: PacksStatus;
  ingest: IngestProgress;
  swarm: SeedStatus;
  tracker: TrackerStatus & { udp: UdpTrackerStatus; others: AnnounceToStatus };
  /** Mirrors that said what they hold, and gave something of it when tried. */
  coverage: CoverageStatus;
  dht: DhtStatus & { head: HeadInDhtStatus };
  /** The first of them, by source and name. */
  refusals: Pick<Refusal, 'source' | 'narInfoName' | 'code' | 'message'>[];
}

export interface StatusParts {
  catalog: Catalog;
  packs: PackCloser;
  ingest: Ingest;
  seedServer: SeedServer;
  tracker: Tracker;
  /** Absent when there is none. */
  udpTracker: UdpTracker | undefined;
  announceTo: AnnounceTo;
  coverage: CoverageBook;
  dht: DhtStatus & { head: HeadInDhtStatus };
  publicKey: PublicKey;
  publisher: PublisherStatus;
}

export function seederStatus(parts: StatusParts): SeederStatus {
  const { catalog, packs, ingest, seedServer, tracker, udpTracker, announceTo, coverage, dht, publicKey } =
    parts;
  const { rejectedByCode, ...counts } = catalog.counts();
  return {
    role: 'seeder',
    catalog: { ...counts, rejectedByCode, publicKey: printPublicKey(publicKey) },
    log: {
      ...parts.publisher,
      segments: catalog.log.segmentCount,
      pending: catalog.log.pendingCount(pendingShown),
      ordinals: catalog.log.ordinals,
      revoked: catalog.log.revokedCount,
    },
    packs: packs.status(),
    ingest: ingest.progress(),
    swarm: seedServer.status(),
    tracker: { ...tracker.status(), udp: udpTracker?.status() ?? noUdpTracker, others: announceTo.status() },
    coverage: coverage.status(),
    dht,
    refusals: catalog
      .refusals(refusalsShown)
      .map(({ source, narInfoName, code, message }) => ({ source, narInfoName, code, message })),
  };
}

export function makeSeederMetrics(look: () => SeederStatus): Metrics {
  const metrics = new Metrics();
  const status = keptForThisTurn(look);
  const gauge = (name: string, help: string, read: (now: SeederStatus) => number): void =>
    metrics.callback('gauge', name, help, () => read(status()));
  const counter = (name: string, help: string, read: (now: SeederStatus) => number): void =>
    metrics.callback('counter', name, help, () => read(status()));
  gauge('narswarm_catalog_nars', 'NAR files in the catalog', ({ catalog }) => catalog.nars);
  gauge('narswarm_catalog_bytes', 'Bytes of all NAR files in the catalog', ({ catalog }) => catalog.bytes);
  metrics.callback('gauge', 'narswarm_catalog_rejected', 'Narinfos that are refused, by reason', () =>
    Object.entries(status().catalog.rejectedByCode).map(([code, value]) => ({ labels: { code }, value })),
  );
  gauge('narswarm_catalog_packs', 'Packs that are closed', ({ packs }) => packs.closed);
  gauge('narswarm_packed_nars', 'NAR files in packs', ({ packs }) => packs.nars);
  gauge('narswarm_packed_bytes', 'Bytes of all packs', ({ packs }) => packs.bytes);
  gauge(
    'narswarm_unpacked_nars',
    'NAR files of at most 1 MiB that are in no pack',
    ({ packs }) => packs.unpacked.nars,
  );
  gauge('narswarm_unpacked_bytes', 'Bytes of those', ({ packs }) => packs.unpacked.bytes);
  gauge(
    'narswarm_ingest_pending',
    'NAR files that are being verified or wait for it',
    ({ ingest }) => ingest.pending,
  );
  gauge('narswarm_swarm_connections', 'BitTorrent connections', ({ swarm }) => swarm.connections);
  gauge('narswarm_swarm_torrents', 'Torrents that are open', ({ swarm }) => swarm.openTorrents);
  counter('narswarm_uploaded_bytes', 'Bytes of blocks sent to peers', ({ swarm }) => swarm.uploadedBytes);
  metrics.callback('gauge', 'narswarm_upload_torrents', 'Torrents that were ever uploaded, by state', () =>
    Object.entries(status().catalog.uploads).map(([state, value]) => ({ labels: { state }, value })),
  );
  metrics.callback('gauge', 'narswarm_upload_rate_bytes', 'Bytes a second for all torrents together', () => {
    const { rateBytesPerSecond } = status().swarm.upload;
    return rateBytesPerSecond === null ? [] : [{ labels: {}, value: rateBytesPerSecond }];
  });
  gauge(
    'narswarm_held_back_bytes',
    'Bytes that peers asked for and that wait for their turn',
    ({ swarm }) => swarm.upload.heldBackBytes,
  );
  gauge(
    'narswarm_held_back_peers',
    'Peers that are choked though they want something',
    ({ swarm }) => swarm.upload.heldBackPeers,
  );
  counter(
    'narswarm_swarm_violations',
    'Connections closed for breaking a rule or limit',
    ({ swarm }) => swarm.violations,
  );
  counter(
    'narswarm_swarm_unknown',
    'Handshakes for infohashes that are not in the catalog',
    ({ swarm }) => swarm.unknownInfoHashes,
  );
  counter('narswarm_tracker_announces', 'Announces answered', ({ tracker }) => tracker.announces);
  counter('narswarm_tracker_scrapes', 'Scrapes answered', ({ tracker }) => tracker.scrapes);
  counter(
    'narswarm_tracker_refused',
    'Announces and scrapes that were refused',
    ({ tracker }) => tracker.refused,
  );
  counter(
    'narswarm_tracker_limited',
    'Announces and scrapes refused because an address asked too often',
    ({ tracker }) => tracker.limited,
  );
  counter(
    'narswarm_tracker_connects',
    'Connection ids given by the UDP tracker',
    ({ tracker }) => tracker.udp.connects,
  );
  metrics.callback(
    'counter',
    'narswarm_tracker_dropped',
    'UDP packets and answers that came to nothing, by reason',
    () => {
      const { malformed, unconnected, unsent } = status().tracker.udp;
      return Object.entries({ malformed, unconnected, unsent }).map(([reason, value]) => ({
        labels: { reason },
        value,
      }));
    },
  );
  counter(
    'narswarm_tracker_sent',
    'Announces of this seeder that other trackers took',
    ({ tracker }) => tracker.others.announces,
  );
  counter(
    'narswarm_tracker_failures',
    'Announces of this seeder that other trackers did not take',
    ({ tracker }) => tracker.others.failures,
  );
  gauge('narswarm_tracker_torrents', 'Torrents that somebody announced', ({ tracker }) => tracker.torrents);
  gauge('narswarm_tracker_peers', 'Peers that the tracker knows', ({ tracker }) => tracker.peers);
  gauge(
    'narswarm_coverage_mirrors',
    'Mirrors that say what they hold',
    ({ coverage }) => coverage.mirrors.length,
  );
  gauge('narswarm_dht_running', '1 while the DHT node runs', ({ dht }) => (dht.state === 'running' ? 1 : 0));
  gauge('narswarm_dht_nodes', 'Nodes in the routing table of the DHT node', ({ dht }) => dht.nodes);
  gauge('narswarm_dht_torrents', 'Torrents that are remembered as asked for', ({ dht }) => dht.torrents);
  counter('narswarm_dht_announces', 'Announces that the DHT took', ({ dht }) => dht.announces);
  counter('narswarm_dht_failures', 'Announces that reached no node', ({ dht }) => dht.announceFailures);
  gauge(
    'narswarm_dht_head_nodes',
    'Nodes of the DHT that keep where the newest head of the catalog is',
    ({ dht }) => dht.head.nodes,
  );
  counter('narswarm_dht_head_failures', 'Times that no node took it', ({ dht }) => dht.head.failures);
  counter('narswarm_dht_restarts', 'Restarts of the DHT node', ({ dht }) => dht.restarts);
  counter('narswarm_dht_received', 'Packets that reached the DHT node', ({ dht }) => dht.receivedPackets);
  metrics.callback('counter', 'narswarm_dht_dropped', 'Packets of them that were dropped, by reason', () =>
    Object.entries(status().dht.droppedByReason).map(([reason, value]) => ({ labels: { reason }, value })),
  );
  return metrics;
}
