/** The seeder: its parts are built and joined here, and nowhere else. */

import { join } from 'node:path';
import { openCatalog } from '../catalog/catalog.ts';
import { openCheckpointer } from '../catalog/checkpointer.ts';
import { CatalogFiles } from '../catalog/files.ts';
import { headFormat } from '../catalog/head.ts';
import type { PublicKey, SecretKey } from '../nar/signature.ts';
import { publicKeyOf } from '../nar/signature.ts';
import { AvailabilityWatch } from '../parts/availability-watch.ts';
import { Closers } from '../parts/closers.ts';
import { HeadInDht, headNotInDht } from '../parts/head-in-dht.ts';
import { HeadSource } from '../parts/head-source.ts';
import { openFilesMax, shareOpenFiles } from '../parts/open-files.ts';
import { openPeersDht, type PeersDhtConfig } from '../parts/peers-dht.ts';
import { PublicAddress } from '../parts/public-address.ts';
import { startSchedule } from '../parts/schedule.ts';
import { lockDataDir } from '../store/data-lock.ts';
import { openDirectoryStore } from '../store/directory-store.ts';
import { makeDirectory, withObstacle } from '../store/disk-error.ts';
import { printPeer } from '../swarm/address/peer-address.ts';
import { type Dht, dhtOff } from '../swarm/dht/dht.ts';
import { signDhtItem } from '../swarm/dht/dht-item.ts';
import { eitherSource } from '../swarm/seed/either-source.ts';
import { OpenFiles } from '../swarm/seed/open-files.ts';
import { openSeedServer } from '../swarm/seed/seed-server.ts';
import { Tracker } from '../swarm/tracker/tracker.ts';
import type { TrackerLimits } from '../swarm/tracker/tracker-limits.ts';
import { openUdpTracker } from '../swarm/tracker/udp-tracker.ts';
import { NamedTorrents } from '../swarm/wire/encrypted-handshake.ts';
import type { Logger } from '../web/log.ts';
import { openHttpServer } from '../web/server.ts';
import { AnnounceTo } from './announce-to.ts';
import { knownTorrent, reportedNar } from './catalog-torrents.ts';
import { SeederCoverage } from './coverage.ts';
import { demandedSource, type NoteDemand } from './dht.ts';
import { makeSeederApp } from './http.ts';
import { Ingest, type IngestProgress, storeDirKey } from './ingest.ts';
import { LogSeedSource } from './log-source.ts';
import { type NarFiles, narFilesOnDisk } from './nar-files.ts';
import { PackCloser, type PackRules, packRulesDefault } from './pack-closer.ts';
import { PackFiles } from './pack-files.ts';
import { PackSource } from './pack-source.ts';
import { PeerDirectory } from './peer-directory.ts';
import { Publisher } from './publisher.ts';
import { readSources } from './reading.ts';
import { Revocations } from './revocations.ts';
import { CatalogSeedSource } from './seed-source.ts';
import { makeSeederMetrics, type SeederStatus, seederStatus } from './status.ts';
import { TrackerWhitelist } from './tracker-whitelist.ts';
import { type SeederUpload, SeederUploads } from './upload.ts';
import type { ViewConfig } from './view-lists.ts';
import { WebSeed } from './web-seed.ts';

export interface SeederConfig {
  /** Holds the catalog, and the NAR files of sources behind HTTP. Made if it is missing. */
  dataDir: string;
  /** `file:///dir` or `http(s)://…`. */
  sources: string[];
  /** What none of these keys signed is refused, unless it is content-addressed. */
  trustedKeys: PublicKey[];
  /** Signs the torrentinfos and the heads of the catalog. */
  secretKey: SecretKey;
  /** These sign the heads as well, and whoever follows takes later ones that they alone sign. */
  nextKeys?: readonly SecretKey[];
  /** Lists of store paths whose closures are published as views. */
  views?: readonly ViewConfig[];
  /** How often what changed is published; a minute without it. */
  publishEveryMs?: number;
  /** How long a head of the catalog holds; a week without it. */
  headLifetimeMs?: number;
  http: { host: string; port: number };
  peers: { host: string; port: number };
  /** Where the tracker listens over UDP as well. */
  trackerUdp?: { host: string; port: number };
  /** What the tracker allows; `trackerLimits` by default. */
  trackerLimits?: Partial<TrackerLimits>;
  /** Other trackers, `http(s)://…/announce`: named in .torrent files, and told of what was asked for lately. */
  announceTo?: readonly string[];
  /** A whitelist for opentracker, kept up to date; `reloadCommand` is run after each change. */
  trackerWhitelist?: { file: string; reloadCommand?: string };
  /** The name or address under which others reach this machine. */
  publicHost?: string;
  /** Without it nothing is said to the DHT. */
  dht?: PeersDhtConfig;
  /** When a torrent has had enough, and what there is for all together; the defaults of the command line without it. */
  upload?: Partial<SeederUpload>;
  /** When small NAR files are put together; the defaults of the command line without it. */
  packs?: Partial<PackRules>;
  /** When the sources are read again; without it only at start. */
  scanCron?: string;
  /** File or URL with the store paths to take from sources behind HTTP. */
  storePaths?: string;
  /** What the catalog's NAR files are read through; by default where they lie on disk. */
  narFiles?: NarFiles;
  /** Gets the progress of reading the sources, at most four times a second, in place of the log. */
  onProgress?: (progress: IngestProgress) => void;
  logger: Logger;
}

export interface Seeder {
  readonly url: string;
  /** `host:port`. */
  readonly peersAddress: string;
  readonly trackerUrl: string;
  readonly udpTrackerUrl: string | undefined;
  readonly publicKey: PublicKey;
  status(): SeederStatus;
  /** The first reading of the sources; resolves also when it was stopped by `close`. */
  readonly ingested: Promise<void>;
  /** Publishes what waits to enter the log of the catalog; resolves also when that failed, as the status then says. */
  publish(): Promise<void>;
  /** Closes the packs that are due now, rather than when it is looked for them next. Throws store-failed. */
  closePacks(): Promise<void>;
  /** Stops reading, drains and closes everything. May be called twice. */
  close(): Promise<void>;
}

/** Whoever asks the tracker is here seconds later; this many torrents take 8 MB. */
const namedTorrentsMax = 32_768;

/** Throws `config-invalid`, `catalog-incompatible`, or `store-failed` when another process has the data directory. */
export async function openSeeder(config: SeederConfig): Promise<Seeder> {
  const { dataDir, secretKey, logger } = config;
  const closers = new Closers(logger);
  try {
    const lock = lockDataDir(dataDir);
    closers.push(() => lock.close());
    const storeDir = join(dataDir, 'store');
    await makeDirectory(storeDir);
    const catalogPath = join(dataDir, 'catalog.sqlite');
    const catalog = withObstacle(
      catalogPath,
      () => openCatalog(catalogPath, { checkpoints: 'elsewhere' }),
      'put a copy from before in its place: the log that others follow goes on from what is in it',
    );
    closers.push(() => catalog.close());
    const onFault = (error: unknown): void => logger.error('checkpoints-failed', { error });
    const checkpointer = openCheckpointer(catalogPath, onFault);
    closers.push(() => checkpointer.close());
    const store = await openDirectoryStore(storeDir);
    closers.push(() => store.close());

    const maxOpenFiles = await openFilesMax();
    const openFiles = shareOpenFiles(maxOpenFiles);
    if (!openFiles.enough) logger.warn('few-open-files', { maxOpenFiles, ...openFiles.seed });

    const catalogFiles = await CatalogFiles.open(join(dataDir, 'catalog'));
    const narFiles = config.narFiles ?? narFilesOnDisk(storeDir);
    const packFiles = await PackFiles.open(join(dataDir, 'packs'));
    const packSource = new PackSource({
      catalog,
      narFiles,
      packFiles,
      openFiles: new OpenFiles(openFiles.packFiles),
    });
    const named = new NamedTorrents(namedTorrentsMax);
    const tracker = new Tracker({
      known(infoHash) {
        const torrent = knownTorrent(catalog, infoHash);
        if (torrent !== undefined) named.add(infoHash);
        return torrent;
      },
      clock: Date.now,
      ...(config.trackerLimits && { limits: config.trackerLimits }),
    });
    const coverage = new SeederCoverage(catalog, catalog.log, logger);
    closers.push(() => coverage.close());
    const availability = new AvailabilityWatch({
      path: join(dataDir, 'availability'),
      catalog: catalog.log,
      seeds: () => coverage.book.independentSeeds(),
      nar: (ordinal) => reportedNar(catalog, ordinal),
      counted: 'A seed is a mirror that was tried; several in one network count once.',
      logger,
      now: Date.now,
    });
    closers.push(() => availability.close());
    const uploads = new SeederUploads(config.upload, catalog, tracker, coverage.peers, logger);

    let dht: Dht | undefined;
    let announceTo: AnnounceTo | undefined;
    const noteDemand: NoteDemand = (infoHash) => {
      dht?.noteDemand(infoHash);
      announceTo?.noteDemand(infoHash);
      coverage.noteDemand(infoHash);
    };
    const headSource = new HeadSource();
    const ofNarFiles = eitherSource(new CatalogSeedSource(catalog, narFiles), packSource);
    const seedServer = await openSeedServer({
      ...config.peers,
      source: eitherSource(
        demandedSource(ofNarFiles, noteDemand),
        new LogSeedSource(catalog.log, catalogFiles),
        headSource,
      ),
      upload: uploads.options(),
      limits: openFiles.seed,
      deals: true,
      named,
      onFault: (error) => logger.warn('seeding-failed', { error }),
    });
    closers.push(() => seedServer.close());
    const following = uploads.follow(seedServer);
    closers.push(() => following.stop());

    const { announceTo: urls = [], trackerWhitelist } = config;
    const { peerId, port } = seedServer;
    const otherTrackers = new AnnounceTo({ urls, peerId, port, logger });
    announceTo = otherTrackers;
    closers.push(() => otherTrackers.close());
    if (trackerWhitelist !== undefined) {
      const whitelist = new TrackerWhitelist({ catalog, logger, ...trackerWhitelist });
      closers.push(() => whitelist.close());
    }

    if (config.dht !== undefined) {
      const { publicHost } = config;
      dht = await openPeersDht({ config: config.dht, seedServer, publicHost, logger });
    }
    closers.push(() => dht?.close());

    const address = await PublicAddress.open(config.publicHost, seedServer.host);
    closers.push(() => address.close());
    const peers = new PeerDirectory(catalog, tracker, address, seedServer.port, coverage.peers);
    const udpTracker =
      config.trackerUdp &&
      (await openUdpTracker({
        ...config.trackerUdp,
        tracker,
        permanentPeers: (...asked) => peers.permanentPeers(...asked),
        onFault: (error) => logger.warn('udp-tracker-failed', { error }),
      }));
    closers.push(() => udpTracker?.close());
    const silent = config.onProgress !== undefined;
    const ingest = new Ingest({ ...config, catalog, store });
    const packRules = { ...packRulesDefault, ...config.packs };
    const packs = await PackCloser.open({
      rules: packRules,
      catalog,
      narFiles,
      packFiles,
      secretKey,
      nixStoreDir: () => ingest.nixStoreDir,
      onClosed: (infoHash) => packSource.noteWhole(infoHash),
      logger,
    });
    closers.push(() => packs.close());
    const publicKey = publicKeyOf(secretKey);
    const secretKeys = [secretKey, ...(config.nextKeys ?? [])];
    const headInDht = dht && new HeadInDht({ dht, logger });
    closers.push(() => headInDht?.close());
    const publisher = new Publisher({
      ...{ catalog, catalogPath, logger, filesDir: catalogFiles.dir },
      nixStoreDir: () => catalog.getMeta(storeDirKey),
      secretKeys,
      isBusy: () => ingest.progress().running,
      everyMs: config.publishEveryMs,
      views: config.views ?? [],
      lifetimeMs: config.headLifetimeMs,
      onHead(text, sequence) {
        const { infoHash } = headSource.show(text);
        headInDht?.show(
          infoHash,
          secretKeys.map((key) => signDhtItem(key, headFormat, sequence, infoHash)),
        );
      },
    });
    closers.push(() => publisher.close());
    const revocations = new Revocations({
      ...{ catalog, logger },
      seedServer: {
        forget(infoHash) {
          packSource.lookAgain(infoHash);
          seedServer.forget(infoHash);
        },
      },
      publish: () => void publisher.publish(),
    });
    closers.push(() => revocations.stop());
    const status = (): SeederStatus =>
      seederStatus({
        catalog,
        packs,
        ingest,
        seedServer,
        tracker,
        udpTracker,
        announceTo: otherTrackers,
        publisher: publisher.status(),
        coverage: coverage.book,
        dht: { ...(dht?.status() ?? dhtOff), head: headInDht?.status() ?? headNotInDht },
        publicKey,
      });

    const http = await openHttpServer({
      ...config.http,
      limits: openFiles.http,
      app: makeSeederApp({
        catalog,
        catalogFiles,
        heads: headSource,
        packing: packRules.sizeBytes > 0,
        narFiles,
        logger,
        noteDemand,
        webSeed: new WebSeed(seedServer),
        coverage: coverage.book,
        availability: () => availability.source(),
        status,
        metrics: makeSeederMetrics(status),
        nixStoreDir: () => ingest.nixStoreDir,
        peers,
        publicUrl: (request) => address.url(request, http.port),
        trackers: (request) => [
          [
            `${address.url(request, http.port)}/announce`,
            ...(udpTracker === undefined ? [] : [address.udpUrl(request, udpTracker)]),
          ],
          ...urls.map((url) => [url]),
        ],
      }),
    });
    // Both let what is under way finish for a moment; they take that moment together.
    closers.push(() => Promise.all([http.close(), seedServer.close()]));

    closers.push(() => ingest.close());
    if (config.scanCron !== undefined) {
      const schedule = startSchedule(config.scanCron, () => readSources(ingest, logger, { silent }));
      closers.push(() => schedule.stop());
    }
    // What came in is published as soon as all of it is there, and what comes later from time to time.
    const ingested = readSources(ingest, logger, { silent });
    ingested.then(() => publisher.publish()).catch(() => undefined);
    packs.start();
    return {
      url: http.url,
      peersAddress: printPeer({ host: seedServer.host, port: seedServer.port }),
      trackerUrl: `${http.url}/announce`,
      udpTrackerUrl: udpTracker && `udp://${printPeer(udpTracker)}`,
      publicKey,
      status,
      ingested,
      closePacks: () => packs.closeDue(),
      publish() {
        revocations.look();
        return publisher.publish();
      },
      close: () => closers.close(),
    };
  } catch (error) {
    await closers.close();
    throw error;
  }
}
