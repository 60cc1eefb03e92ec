/** The mirror: its parts are built and joined here, and nowhere else. */

import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { NarswarmError } from '../nar/errors.ts';
import { AvailabilityWatch } from '../parts/availability-watch.ts';
import { Closers } from '../parts/closers.ts';
import { CoverageBook } from '../parts/coverage-book.ts';
import { tryMirror } from '../parts/coverage-trial.ts';
import { openFilesMax, shareOpenFiles } from '../parts/open-files.ts';
import { openPeersDht } from '../parts/peers-dht.ts';
import { PublicAddress } from '../parts/public-address.ts';
import { followSchedules, rateAt } from '../parts/upload-schedule.ts';
import { lockDataDir } from '../store/data-lock.ts';
import { openDirectoryStore } from '../store/directory-store.ts';
import { makeDirectory } from '../store/disk-error.ts';
import { printPeer } from '../swarm/address/peer-address.ts';
import type { Dht } from '../swarm/dht/dht.ts';
import { eitherSource } from '../swarm/seed/either-source.ts';
import { OpenFiles } from '../swarm/seed/open-files.ts';
import { openSeedServer, type SeedServer } from '../swarm/seed/seed-server.ts';
import { HttpCache } from '../upstream/http-cache.ts';
import { HttpCatalog } from '../upstream/http-catalog.ts';
import { openHttpServer } from '../web/server.ts';
import { Acquirer } from './acquire.ts';
import { Announcer } from './announcer.ts';
import { MirrorCatalog } from './catalogs.ts';
import { type MirrorConfig, type MirrorLimits, mirrorLimits } from './config.ts';
import { CopyCheck } from './copy-check.ts';
import { CoverageSender } from './coverage-sender.ts';
import { FetchQueue } from './fetch-queue.ts';
import { Followers } from './followers.ts';
import { Holdings } from './holdings.ts';
import { makeMirrorApp } from './http.ts';
import { Ledger } from './ledger.ts';
import { otherBytesIn } from './other-bytes.ts';
import { MirrorPackSource } from './pack-source.ts';
import { Packs } from './packs.ts';
import { Planner, readPaths } from './planner.ts';
import { Resolver } from './resolver.ts';
import { MirrorSeedSource, torrentOf } from './seed-source.ts';
import { SeedsKnown } from './seeds.ts';
import { SegmentSource } from './segment-source.ts';
import { checkSelections } from './selection.ts';
import { MirrorState } from './state.ts';
import { type MirrorStatus, makeMirrorMetrics, mirrorStatus } from './status.ts';
import { Upkeep } from './upkeep.ts';
import { Verifier } from './verifier.ts';
import { Wholeness } from './whole.ts';

export type { MirrorConfig } from './config.ts';

export interface Mirror {
  readonly url: string;
  /** `host:port`. */
  readonly peersAddress: string;
  status(): MirrorStatus;
  /** Takes leave, drains and closes everything. May be called twice. */
  close(): Promise<void>;
}

const storeName = 'nar-files';

/** Throws `config-invalid`, or `store-failed` when another process has the data directory. */
export async function openMirror(config: MirrorConfig): Promise<Mirror> {
  const { dataDir, logger, trustedKeys, nixStoreDir, selections } = config;
  const limits: MirrorLimits = { ...mirrorLimits, ...config.limits };
  checkSelections(selections);
  if (config.catalogs.length === 0 || config.catalogKeys.length === 0) {
    throw new NarswarmError('config-invalid', 'a mirror needs a catalog and the key that signs it');
  }
  const names = config.catalogKeys.map(([key]) => key?.name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  // Each has its directory under that name.
  if (twice !== undefined)
    throw new NarswarmError('config-invalid', `two catalogs have keys of one name, ${twice}`);
  for (const { rule } of selections) if (rule.kind === 'paths') await readPaths(rule.file);
  const clock = (): number => performance.now();
  const closers = new Closers(logger);
  try {
    const lock = lockDataDir(dataDir);
    closers.push(() => lock.close());
    const storeDir = join(dataDir, storeName);
    await makeDirectory(storeDir);
    const state = new MirrorState(join(dataDir, 'mirror.sqlite'));
    closers.push(() => state.close());
    const store = await openDirectoryStore(storeDir, { keepsUnfinished: true });
    closers.push(() => store.close());
    const stopping = new AbortController();
    const { signal } = stopping;

    const caches = new Map(config.catalogs.map((url) => [url, new HttpCache({ url })] as const));
    for (const cache of caches.values()) closers.push(() => cache.close());
    const views = selections.flatMap(({ rule }) => (rule.kind === 'channel' ? [rule.name] : []));
    const reaches = config.catalogs.map((url) => ({ url, transport: new HttpCatalog({ url }) }));
    for (const { transport } of reaches) closers.push(() => transport.close());
    let dht: Dht | undefined;
    const catalogs: MirrorCatalog[] = [];
    for (const keys of config.catalogKeys) {
      // Every server is asked for every catalog: by the key that signs it, it is found which it has.
      const options = {
        ...{ dataDir, keys, reaches, nixStoreDir, trustedKeys, views, logger, now: Date.now },
        dht: () => dht,
      };
      const catalog = await MirrorCatalog.open(options);
      catalogs.push(catalog);
      closers.push(() => catalog.close());
    }

    const { quotaBytes, minFreeBytes } = config;
    const ledger = new Ledger({ quotaBytes, minFreeBytes });
    const holdings = new Holdings({ store, storeDir, state, ledger, logger });
    const whole = new Wholeness(catalogs, state);
    const verifier = new Verifier();
    closers.push(() => verifier.close());
    const resolver = new Resolver({ deadlineMs: limits.resolveDeadlineMs, logger });
    const acquirer = new Acquirer({
      holdings,
      ledger,
      store,
      verifier,
      resolver,
      caches: config.httpFallback ? caches : new Map(),
      limits,
      now: Date.now,
    });
    let diskFreeBytes: number | undefined;
    const lookAtDisk = async (): Promise<number> => {
      diskFreeBytes = await holdings.diskFreeBytes();
      const unfinishedBytes = (await store.tidyUnfinished?.(limits.unfinishedMs)) ?? 0;
      return unfinishedBytes + (await otherBytesIn(dataDir, storeName));
    };

    const maxOpenFiles = await openFilesMax();
    const openFiles = shareOpenFiles(maxOpenFiles);
    if (!openFiles.enough) logger.warn('few-open-files', { maxOpenFiles, ...openFiles.seed });
    let rate = rateAt(config.schedules, config.uploadBytesPerSecond, new Date());
    const packs: Packs = await Packs.open({
      dir: join(dataDir, 'packs'),
      catalogs,
      state,
      holdings,
      logger,
      settleMs: limits.packSettleMs,
      onChange(infoHash, isWhole) {
        if (isWhole) announcer.lookAgain();
        else seedServer.forget(infoHash);
      },
    });
    closers.push(() => packs.close());
    const segments = new SegmentSource(catalogs);
    const packFiles = new OpenFiles(openFiles.packFiles);
    const packSource = new MirrorPackSource({ packs, state, holdings, openFiles: packFiles });
    const seedServer: SeedServer = await openSeedServer({
      ...config.peers,
      source: eitherSource(
        new MirrorSeedSource(holdings, state),
        packSource,
        segments,
        ...catalogs.map(({ heads }) => heads),
      ),
      upload: { bytesPerSecond: rate },
      limits: openFiles.seed,
      onFault: (error) => logger.warn('seeding-failed', { error }),
    });
    closers.push(() => seedServer.close());
    if (config.dht !== undefined) {
      const { publicHost } = config;
      dht = await openPeersDht({ config: config.dht, seedServer, publicHost, logger });
    }
    closers.push(() => dht?.close());
    const address = await PublicAddress.open(config.publicHost, seedServer.host);
    closers.push(() => address.close());

    const announcer = new Announcer({
      list: () => [...segments.list(), ...packs.list()],
      peerId: seedServer.peerId,
      port: seedServer.port,
      clock,
    });
    closers.push(() => announcer.close());
    let planner: Planner | undefined;
    const seeds = new SeedsKnown(() => planner?.request(), clock);
    const sender = new CoverageSender({
      catalogs,
      port: seedServer.port,
      heldOf: (catalog) => planner?.current?.held.of(catalog),
      seeds,
      onSettled: () => planner?.request(),
      limits,
      logger,
      clock,
    });
    closers.push(() => sender.close());
    const recovered = holdings
      .recover(signal)
      .catch((error: unknown) => logger.error('recovery-failed', { error }));
    closers.push(() => recovered);
    const queue = new FetchQueue({
      acquirer,
      holdings,
      ledger,
      resolver,
      makeRoom: async (bytes) => (await planner?.makeRoom(bytes)) ?? 0,
      limits,
      logger,
      clock,
    });
    closers.push(() => queue.close());
    const plans = new Planner({
      catalogs,
      holdings,
      state,
      ledger,
      seeds,
      selections,
      copies: new CopyCheck({ resolver, peerId: seedServer.peerId, random: Math.random }),
      salt: saltOf(state),
      recovered,
      seedsSettled: () => sender.settled,
      otherBytes: lookAtDisk,
      limits,
      logger,
      onPlan(current) {
        queue.setPlan(current);
        sender.changed();
        upkeep.lookAgain();
        packs.lookAgain();
      },
    });
    planner = plans;
    closers.push(() => plans.close());
    const upkeep = new Upkeep({
      catalogs,
      holdings,
      state,
      acquirer,
      bytesPerSecond: config.verifyBytesPerSecond,
      everyMs: config.verifyEveryMs,
      logger,
      now: Date.now,
      onUseless: () => queue.lookAgain(),
    });
    closers.push(() => upkeep.close());
    holdings.onChange(({ infoHash }, held) => {
      sender.changed();
      packs.lookAgain();
      if (held) return;
      seedServer.forget(infoHash);
      whole.forget();
      queue.lookAgain();
      upkeep.lookAgain();
    });

    const followers = new Followers({
      catalogs,
      everyMs: limits.followEveryMs,
      logger,
      onChange() {
        whole.forget();
        void plans.takeOutRevoked();
        plans.request();
      },
      onReached: () => queue.lookAgain(),
    });
    closers.push(() => followers.close());

    const books = new Map(
      catalogs.map((catalog) => {
        const { followed } = catalog;
        const torrentOfOrdinal = (ordinal: number) => {
          const fileHash = followed.byOrdinal(ordinal);
          const file = fileHash && state.held(fileHash);
          return file && torrentOf(file);
        };
        const trial = { torrentOf: torrentOfOrdinal, random: Math.random };
        const book = new CoverageBook({
          catalog: followed,
          holds: (ordinal) => plans.current?.held.of(catalog).has(ordinal) ?? false,
          trial: (peer, held, tried) => tryMirror(trial, peer, held, tried),
          logger,
          clock,
        });
        closers.push(() => book.close());
        return [catalog, book] as const;
      }),
    );
    const availability = new Map(
      catalogs.map((catalog) => {
        const watch = new AvailabilityWatch({
          path: join(dataDir, 'catalogs', catalog.name, 'availability'),
          catalog: catalog.followed,
          seeds: () => (ordinal) => seeds.seedsOf(catalog, ordinal),
          nar: (ordinal) => catalog.reported(ordinal),
          counted: 'A seed is whoever else has it, as the best-informed of the servers of the catalog says.',
          logger,
          now: Date.now,
        });
        closers.push(() => watch.close());
        return [catalog, watch] as const;
      }),
    );
    const setRate = (now: number | undefined): void => {
      rate = now;
      seedServer.setUploadRate(now);
      queue.setPaused(now === 0);
      sender.setPaused(now === 0);
      announcer.setPaused(now === 0);
      logger.info('upload-rate', { bytesPerSecond: now ?? null });
    };
    if (rate === 0) setRate(0);
    const schedules = followSchedules(config.schedules, config.uploadBytesPerSecond, setRate);
    closers.push(() => schedules.stop());

    const status = (): MirrorStatus =>
      mirrorStatus({
        catalogs,
        ledger,
        planner: plans,
        holdings,
        queue,
        resolver,
        upkeep,
        seedServer,
        sender,
        packs: () => ({ ...packs.status(), ...announcer.status() }),
        coverage: () => [...books].map(([{ name }, book]) => ({ catalog: name, ...book.status() })),
        diskFreeBytes: () => diskFreeBytes,
      });
    const http = await openHttpServer({
      ...config.http,
      limits: openFiles.http,
      app: makeMirrorApp({
        catalogs,
        state,
        holdings,
        whole,
        books,
        availability,
        packs,
        packTorrent: (infoHash) => packSource.torrent(infoHash),
        nixStoreDir,
        ownPeers: (request) =>
          // While it uploads nothing it sends nobody to itself.
          rate === 0
            ? []
            : address.addresses(request.socket.localAddress).map((host) => ({ host, port: seedServer.port })),
        publicUrl: (request) => address.url(request, http.port),
        status,
        metrics: makeMirrorMetrics(status),
        logger,
      }),
    });
    // Both let what is under way finish for a moment; they take that moment together.
    closers.push(() => Promise.all([http.close(), seedServer.close()]));
    closers.push(() => stopping.abort());
    return {
      url: http.url,
      peersAddress: printPeer({ host: seedServer.host, port: seedServer.port }),
      status,
      close: () => closers.close(),
    };
  } catch (error) {
    await closers.close();
    throw error;
  }
}

/** Chosen once: what a mirror prefers among equals stays the same. */
function saltOf(state: MirrorState): number {
  const kept = state.fact('salt');
  if (kept !== undefined) return Number(kept);
  const salt = randomInt(2 ** 32);
  state.setFact('salt', String(salt));
  return salt;
}
