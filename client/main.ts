/** The client: a substituter for Nix on this machine, built of its parts here and nowhere else. */

import { hostname } from 'node:os';
import { join } from 'node:path';
import { cacheInfoDefaultStoreDir } from '../nar/cache-info.ts';
import { NarswarmError } from '../nar/errors.ts';
import type { Sha256 } from '../nar/hash.ts';
import { type PublicKey, printPublicKey } from '../nar/signature.ts';
import { Closers } from '../parts/closers.ts';
import { openFilesMax, shareClientOpenFiles } from '../parts/open-files.ts';
import { lockDataDir } from '../store/data-lock.ts';
import { openDirectoryStore } from '../store/directory-store.ts';
import { printPeer } from '../swarm/address/peer-address.ts';
import { HashThread } from '../swarm/fetch/hash-thread.ts';
import { PackConnections } from '../swarm/fetch/pack-connections.ts';
import type { HttpCache } from '../upstream/http-cache.ts';
import { HttpCatalog } from '../upstream/http-catalog.ts';
import { HttpClient } from '../upstream/http-client.ts';
import { defaultUpstreamLimits } from '../upstream/limits.ts';
import { openHttpServer } from '../web/server.ts';
import type { ShortAnswers } from '../web/short-requests.ts';
import { Ahead } from './ahead/ahead.ts';
import { Catalogs } from './asking/catalog-client.ts';
import { parseUpstream, readNetrc, Upstreams } from './asking/upstreams.ts';
import { type ClientConfig, type ClientLimits, defaultLimits } from './config.ts';
import { Counts } from './counts.ts';
import { KeptPeerBook } from './fetch/peer-book.ts';
import { Transfers } from './fetch/transfers.ts';
import { makeClientApp } from './http/http.ts';
import { NarServer } from './http/nar.ts';
import { shortNarInfo } from './http/narinfo-route.ts';
import { CacheInfo, clientPriority } from './narinfo/cache-info.ts';
import { NarInfoFinder } from './narinfo/narinfo.ts';
import { Views } from './narinfo/views.ts';
import { hashAsideBytes } from './race/assembly.ts';
import { History } from './report/history.ts';
import { makeClientMetrics } from './report/metrics.ts';
import type { ClientSetup } from './report/setup.ts';
import { SourceTotals } from './report/source-totals.ts';
import { type ClientStatus, clientStatus } from './report/status.ts';
import { Why } from './report/why.ts';
import { Share } from './share/share.ts';
import { Traffic } from './share/traffic.ts';
import { HeldFiles } from './state/cache.ts';
import { type GivenNarInfo, openClientState } from './state/state.ts';
import { StoreDirs } from './store-dirs.ts';

export type { ClientConfig, ClientLimits } from './config.ts';

export interface Client {
  /** Where Nix reaches it, without a slash at the end. */
  readonly url: string;
  /** `host:port` where peers reach it; only when it shares. */
  readonly peersAddress: string | undefined;
  status(): ClientStatus;
  /** Lets answers under way finish for a moment, then stops everything. May be called twice. */
  close(): Promise<void>;
}

/** Rejects with config-invalid when a catalog is named without a key, and when an address cannot be listened on. */
export async function openClient(config: ClientConfig): Promise<Client> {
  const { logger, dataDir, trustedKeys, catalogKeys, noUpstream, share: mode } = config;
  const limits: ClientLimits = { ...defaultLimits, ...config.limits };
  const clock = config.clock ?? Date.now;
  const catalogUrls = config.catalogs.map(baseUrl);
  const upstreamUrls = noUpstream ? [] : config.upstreams.map(parseUpstream);
  if (catalogUrls.length > 0 && catalogKeys.length === 0) {
    throw new NarswarmError(
      'config-invalid',
      'a catalog needs the key that it is signed with: --catalog-key',
    );
  }

  const closers = new Closers(logger);
  try {
    const lock = lockDataDir(dataDir);
    closers.push(() => lock.close());
    const maxOpenFiles = await openFilesMax();
    const openFiles = shareClientOpenFiles(maxOpenFiles);
    if (!openFiles.enough) logger.warn('few-open-files', { maxOpenFiles, ...openFiles.http });
    const state = openClientState({
      path: join(dataDir, 'client.sqlite'),
      narInfos: limits.narInfos,
      torrents: limits.torrents,
      clock,
      onDamaged: (error) => logger.error('state-damaged', { error }),
    });
    closers.push(() => state.close());
    const history = new History({ path: join(dataDir, 'history.sqlite'), stories: limits.stories, logger });
    closers.push(() => history.close());
    const store = await openDirectoryStore(join(dataDir, 'nar-files'));
    closers.push(() => store.close());
    const held = new HeldFiles({ store, state, cacheSizeBytes: config.cacheSizeBytes, logger });
    await held.recover();
    closers.push(() => held.close());

    const trustedOrigins = [...upstreamUrls.map(({ url }) => url), ...catalogUrls];
    // One for all, so that several caches on one host keep to its bound of connections together.
    const http = new HttpClient({
      limits: defaultUpstreamLimits,
      trustedOrigins: new Set(trustedOrigins.map((url) => new URL(url).origin)),
    });
    closers.push(() => http.close());
    const netrc = config.netrc === undefined ? [] : await readNetrc(config.netrc, logger);
    const storeDirs = new StoreDirs({
      upstreams: upstreamUrls.map(({ url }) => url),
      catalogs: catalogUrls,
      facts: state,
      logger,
    });
    const common = { cacheOptions: { client: http }, state, logger, storeDirs };
    const upstreams = new Upstreams({ ...common, urls: upstreamUrls, netrc });
    closers.push(() => upstreams.close());
    const catalogCaches = new Upstreams({ ...common, urls: catalogUrls.map((url) => ({ url })), netrc: [] });
    closers.push(() => catalogCaches.close());
    const sources = (): HttpCache[] => [...upstreams.inOrder(), ...catalogCaches.inOrder()];
    const patient = upstreamUrls.length === 0;
    const cacheInfo = new CacheInfo({
      sources: [...upstreams.all(), ...catalogCaches.all()],
      onInfo: (source, info) => {
        upstreams.learn(source, info);
        catalogCaches.learn(source, info);
      },
      storeDirs,
      logger,
      budgetMs: limits.cacheInfoBudgetMs,
      againMs: limits.cacheInfoAgainMs,
      hedgeMs: limits.narInfoHedgeMs,
    });
    closers.push(() => cacheInfo.close());

    const { views: names = [] } = config;
    if (names.length > 0 && catalogUrls.length === 0)
      throw new NarswarmError('config-invalid', 'a view is that of a catalog: --catalog');
    const heads = catalogUrls.map((url) => new HttpCatalog({ url, client: http }));
    for (const head of heads) closers.push(() => head.close());
    let share: Share | undefined;
    const views = await Views.open({
      dir: join(dataDir, 'views'),
      names,
      keys: heads.length === 0 ? [] : catalogKeys,
      transports: heads,
      nixStoreDir: () => storeDirs.current ?? cacheInfoDefaultStoreDir,
      onRevoked(fileHash) {
        share?.forget(fileHash);
        void held.drop(fileHash);
      },
      clock,
      logger,
    });
    closers.push(() => views.close());
    const currentKeys = (): PublicKey[] => [...catalogKeys, ...views.keys()];
    const book = new KeptPeerBook({ path: join(dataDir, 'peers.sqlite'), logger, clock });
    closers.push(() => book.close());
    const hashes = new HashThread();
    closers.push(() => hashes.close());
    const packs = new PackConnections({ book, onFault: (error) => logger.error('pack-fault', { error }) });
    closers.push(() => packs.close());
    const catalogs = new Catalogs({
      onPack: ({ infoHash }, peers) => packs.warm(infoHash, peers),
      catalogs: catalogUrls,
      keys: currentKeys,
      state,
      limits,
      logger,
      clock,
      patient,
    });
    closers.push(() => catalogs.close());
    const isRevoked = (fileHash: Sha256): boolean => views.revoked(fileHash) !== undefined;

    const counts = new Counts();
    const totals = new SourceTotals();
    const shareOptions = {
      peers: config.peers,
      seedLimits: openFiles.seed,
      catalogs: catalogUrls,
      trustedKeys,
      catalogKeys: currentKeys,
      upload: {
        quotaBytes: config.uploadQuotaBytes,
        bytesPerSecond: config.uploadBytesPerSecond,
        schedules: config.schedules ?? [],
        pauseOnMetered: config.onMetered !== 'share',
        metered: config.metered,
      },
      localDiscoveryPort: config.localDiscoveryPort,
    };
    const traffic = new Traffic({ state, downloadedBytes: () => counts.bytes.swarm, logger, clock });
    closers.push(() => traffic.close());
    const parts = { isRevoked, state, held, limits, traffic, logger, clock };
    if (mode !== 'off') share = await Share.open({ ...shareOptions, ...parts, mode });
    closers.push(() => share?.close());
    // In the order of the moment, whenever it is asked for.
    const caches = {
      get upstreams() {
        return upstreams.inOrder();
      },
      get awake() {
        return upstreams.awake();
      },
      get catalogCaches() {
        return catalogCaches.inOrder();
      },
    };
    const transfers = new Transfers({
      caches,
      catalogs,
      packs,
      book,
      hashes,
      held,
      counts,
      limits,
      logger,
      clock,
      share,
      onKept: (fileHash) => share?.onKept(fileHash),
      onStory(story) {
        history.add(story);
        totals.add(story);
      },
    });
    closers.push(() => transfers.close());
    const ahead = new Ahead({
      views,
      catalogs,
      packs,
      isHere: (fileHash) => transfers.isRunning(fileHash) || held.has(fileHash) || isRevoked(fileHash),
      hasHttp: () => caches.awake.length > 0,
      load: () => transfers.load,
      fetch: (given, fileHash) => transfers.join(given, fileHash, true),
      limits,
      clock,
    });
    closers.push(() => ahead.close());
    const narInfos = new NarInfoFinder({
      sources,
      resting: (source) => upstreams.resting(source) || catalogCaches.resting(source),
      slow: (source) => upstreams.slow(source) || catalogCaches.slow(source),
      views,
      state,
      counts,
      limits,
      logger,
      onDiskFull: () => void held.makeRoom(0),
      storeDirs,
      clock,
    });
    closers.push(() => narInfos.close());
    const nars = new NarServer({
      onAsked: (fileHash) => ahead.noteNar(fileHash),
      isRevoked,
      onFailed: (storeHash) => narInfos.distrust(storeHash),
      state,
      held,
      transfers,
      caches,
      counts,
      limits,
      logger,
    });

    const status = (): ClientStatus =>
      clientStatus({
        ...{ counts, totals, traffic, share, mode, held, state, views, upstreams, catalogs, clock },
        others: { transfers, packs, peers: book, ahead, history },
      });
    const setup = (): ClientSetup => {
      const storeDir = storeDirs.current;
      return {
        ...(storeDir !== undefined && { storeDir }),
        priority: clientPriority,
        dataDir,
        cacheSizeBytes: config.cacheSizeBytes,
        heldBytes: held.status().bytes,
        upstreams: upstreamUrls.map(({ url }) => url),
        netrc: config.netrc !== undefined,
        catalogs: catalogUrls,
        catalogKeys: [...new Set(currentKeys().map(printPublicKey))],
        trustedKeys: trustedKeys.map(printPublicKey),
        views: [...names],
        share: mode,
        localNetworks: [],
        ...share?.setup(),
      };
    };
    const onGiven = (given: GivenNarInfo): void => {
      ahead.noteNarInfo(given);
      // Nix asks for it next.
      if ((given.narInfo.fileSize ?? 0) >= hashAsideBytes) hashes.start();
    };
    const narInfoRoute = { narInfos, onGiven, logger };
    const app = makeClientApp({
      ...narInfoRoute,
      cacheInfo,
      nars,
      metrics: makeClientMetrics({
        ...{ counts, held, totals, traffic },
        share: () => share?.status(),
        sources: () => [...upstreams.status(), ...catalogs.status()],
        views: () => views.status(),
      }),
      why: new Why({ history, state, views }),
      hostNames: [
        hostname(),
        config.http.host,
        ...(config.publicHost === undefined ? [] : [config.publicHost]),
      ],
      setup,
      status,
    });
    const short: ShortAnswers = (target, send) => shortNarInfo(target, send, narInfoRoute);
    const server = await openHttpServer({ ...config.http, limits: openFiles.http, app, short });
    closers.push(() => server.close());

    const { publicHost } = config;
    const peersAddress = share && printPeer({ host: publicHost ?? share.host, port: share.port });
    logger.info('client-ready', {
      url: server.url,
      peersAddress,
      upstreams: upstreamUrls.map(({ url }) => url),
      catalogs: catalogUrls,
    });
    return {
      url: server.url,
      peersAddress,
      status,
      close: () => closers.close(),
    };
  } catch (error) {
    await closers.close();
    throw error;
  }
}

/** Throws config-invalid unless `text` is an http(s) URL. Without a slash at the end, as paths are appended to it. */
function baseUrl(text: string): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch (cause) {
    throw new NarswarmError('config-invalid', `${text} is not a URL`, { cause });
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new NarswarmError('config-invalid', `${text} is not an http or https URL`);
  }
  return text.replace(/\/+$/, '');
}
