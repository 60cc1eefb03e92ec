/**
 * The HTTP surface of a mirror: a whole substituter of what it holds, a catalog for clients and other mirrors, and pages for people.
 *
 * Below `/` all catalogs together; below `/of/<key name>/` each of them alone, so that a mirror of several can be named as any of them.
 */

import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { printTorrentInfo } from '../catalog/torrentinfo.ts';
import { printCacheInfo } from '../nar/cache-info.ts';
import { parseNarFileName } from '../nar/compression.ts';
import { type InfoHash, parseInfoHash, parseSha256 } from '../nar/hash.ts';
import { parseStoreHash } from '../nar/store-path.ts';
import { addAvailability } from '../parts/availability-route.ts';
import type { AvailabilityWatch } from '../parts/availability-watch.ts';
import type { CoverageBook } from '../parts/coverage-book.ts';
import { addCoverage } from '../parts/coverage-route.ts';
import { type PeerAddress, printPeer } from '../swarm/address/peer-address.ts';
import { infoDictionary, type Torrent } from '../swarm/torrent/torrent.ts';
import { torrentFile } from '../swarm/torrent/torrent-file.ts';
import { makeApp, type Router } from '../web/app.ts';
import { addCatalogRoutes } from '../web/catalog-route.ts';
import type { Logger } from '../web/log.ts';
import type { Metrics } from '../web/metrics.ts';
import { addOperations } from '../web/operations.ts';
import { addResolve } from '../web/resolve-route.ts';
import { sendFile, sendText, sourceOf } from '../web/send.ts';
import { servedFilesOf } from './catalog-files.ts';
import type { MirrorCatalog } from './catalogs.ts';
import type { Holdings } from './holdings.ts';
import type { Packs } from './packs.ts';
import { torrentOf } from './seed-source.ts';
import type { HeldFile, MirrorState } from './state.ts';
import type { Wholeness } from './whole.ts';

/** Behind cache.nixos.org (40), as a seeder: who has a mirror on site puts it first in nix.conf. */
const cachePriority = 50;
/** A torrent or NAR file never changes for its name. */
const foreverCacheControl = 'public, max-age=31536000, immutable';

export interface MirrorHttpOptions {
  catalogs: readonly MirrorCatalog[];
  state: MirrorState;
  holdings: Holdings;
  whole: Wholeness;
  /** Of each catalog: other mirrors that told this one what they hold. */
  books: ReadonlyMap<MirrorCatalog, CoverageBook>;
  packs: Pick<Packs, 'has' | 'get'>;
  packTorrent(infoHash: InfoHash): Promise<Torrent | undefined>;
  nixStoreDir: string;
  /** Of each catalog: how long its NAR files have had how many other seeds. */
  availability: ReadonlyMap<MirrorCatalog, AvailabilityWatch>;
  /** Where this mirror takes peers, as whoever asks reaches it. */
  ownPeers(request: IncomingMessage): readonly PeerAddress[];
  publicUrl(request: IncomingMessage): string;
  status(): object;
  metrics: Metrics;
  logger: Logger;
}

/** Below this, a catalog is served alone. */
const prefix = '/of/';

export function makeMirrorApp(options: MirrorHttpOptions): RequestListener {
  const { catalogs, logger, status, metrics } = options;
  const all = makeApp({
    logger,
    routes(router) {
      addOperations(router, {
        prefix: '/',
        title: 'narswarm mirror',
        intro: 'Holds a part of one or more catalogs, and serves it to peers, clients and other mirrors.',
        status,
        metrics,
      });
      addCatalogs(router, options, catalogs);
    },
  });
  const alone = new Map(
    catalogs.map((catalog) => [
      catalog.name,
      makeApp({ logger, routes: (router) => addCatalogs(router, options, [catalog]) }),
    ]),
  );
  return (request, response) => {
    const { url = '' } = request;
    const end = url.startsWith(prefix) ? url.indexOf('/', prefix.length) : -1;
    const app = end < 0 ? undefined : alone.get(url.slice(prefix.length, end));
    if (app === undefined) return all(request, response);
    request.url = url.slice(end);
    return app(request, response);
  };
}

function addCatalogs(router: Router, options: MirrorHttpOptions, catalogs: readonly MirrorCatalog[]): void {
  const { state, holdings, whole, nixStoreDir } = options;
  const [first] = catalogs;
  addAvailability(router, async () => first && options.availability.get(first)?.source());

  const heldIn = (file: HeldFile | undefined): HeldFile | undefined =>
    file !== undefined && isIn(file, catalogs) ? file : undefined;

  router.get('/nix-cache-info', async (request, response) => {
    const text = printCacheInfo({ storeDir: nixStoreDir, wantMassQuery: true, priority: cachePriority });
    await sendText(request, response, text, 'text/x-nix-cache-info');
  });

  router.get('/:name.narinfo', async (request, response, next) => {
    const storeHash = parseStoreHash(request.params.name);
    for (const catalog of catalogs) {
      const found = catalog.narInfo(storeHash);
      if (found === undefined || !(await whole.isWhole(found.fileHash))) continue;
      const { url } = found.narInfo;
      const { name } = catalog;
      if (state.byUrl(name, url) !== found.fileHash) state.addUrl(name, url, found.fileHash);
      await sendText(request, response, found.text, 'text/x-nix-narinfo');
      return;
    }
    next();
  });

  router.get('/:hash.torrentinfo', async (request, response, next) => {
    const fileHash = parseSha256(request.params.hash);
    const found = catalogs.map((catalog) => catalog.torrentInfo(fileHash)).find((each) => each !== undefined);
    if (found === undefined) next();
    else await sendText(request, response, printTorrentInfo(found), 'text/x-narswarm-torrentinfo');
  });

  router.get('/:infohash.torrent', async (request, response, next) => {
    const infoHash = parseInfoHash(request.params.infohash);
    const file = heldIn(state.byInfoHash(infoHash));
    const torrent = file ? torrentOf(file) : await options.packTorrent(infoHash);
    if (torrent === undefined) {
      next();
      return;
    }
    const trackers = catalogs.flatMap(({ reaches }) => reaches.map(({ url }) => `${url}/announce`));
    const [announce] = trackers;
    const bytes = torrentFile(torrent, {
      ...(announce === undefined ? {} : { announce, announceList: trackers.map((url) => [url]) }),
      webSeeds: file ? [`${options.publicUrl(request)}/nar/${file.name}`] : [],
    });
    await sendFile(request, response, { ...sourceOf(bytes), contentType: 'application/x-bittorrent' });
  });

  router.get('/:infohash.packinfo', async (request, response, next) => {
    const infoHash = parseInfoHash(request.params.infohash);
    const found = catalogs.map(({ followed }) => followed.pack(infoHash)).find((each) => each !== undefined);
    if (found === undefined) next();
    else await sendText(request, response, found, 'text/x-narswarm-packinfo');
  });

  addResolve(router, (fileHash, request) => {
    const file = state.held(fileHash);
    if (file === undefined) return undefined;
    for (const catalog of catalogs) {
      const torrentInfo = catalog.torrentInfo(fileHash);
      const ordinal = torrentInfo && catalog.followed.ordinal(fileHash);
      if (torrentInfo === undefined || ordinal === undefined) continue;
      const mirrors = options.books.get(catalog)?.peersOf(ordinal) ?? [];
      const pack = catalog.followed.packOf(fileHash);
      const line = {
        fileHash,
        torrentinfo: printTorrentInfo(torrentInfo),
        // The same bytes can be had as a part of a pack.
        ...(pack !== undefined && options.packs.has(pack.infoHash) && { pack }),
        info: infoDictionary(torrentOf(file)).toString('base64'),
        peers: [...options.ownPeers(request), ...mirrors].map(printPeer),
      };
      return `${JSON.stringify(line)}\n`;
    }
    return undefined;
  });

  if (first !== undefined) addCatalogRoutes(router, servedFilesOf(first));
  const book = first && options.books.get(first);
  if (book !== undefined) addCoverage(router, book);

  // NAR files, by the name that follows from their bytes or by the URL of their narinfo, which may be anything.
  router.get(/.*/, async (request, response, next) => {
    const file = findFile(state, catalogs, request.url.slice(1));
    if (file === undefined) next();
    else await sendHeld(request, response, holdings, file, next);
  });
}

/** `target`: the request target without its first slash, as narinfos write their URLs. */
function findFile(
  state: MirrorState,
  catalogs: readonly MirrorCatalog[],
  target: string,
): HeldFile | undefined {
  const narName = target.startsWith('nar/') ? target.slice('nar/'.length) : undefined;
  const named = narName === undefined ? undefined : parseNarFileName(narName)?.fileHash;
  // The extension must be right too: under <NarHash>.nar.zst lie other bytes than under <FileHash>.nar.
  const byName = named && state.held(named);
  if (byName?.name === narName && byName !== undefined && isIn(byName, catalogs)) return byName;
  // As narinfos are: of several catalogs the first one counts.
  for (const catalog of catalogs) {
    const fileHash = state.byUrl(catalog.name, target);
    const file = fileHash && state.held(fileHash);
    if (file !== undefined && isIn(file, [catalog])) return file;
  }
  return undefined;
}

function isIn({ fileHash }: HeldFile, catalogs: readonly MirrorCatalog[]): boolean {
  return catalogs.some((catalog) => catalog.torrentInfo(fileHash) !== undefined);
}

async function sendHeld(
  request: IncomingMessage,
  response: ServerResponse,
  holdings: Holdings,
  file: HeldFile,
  next: () => void,
): Promise<void> {
  const handle = await holdings.open(file);
  if (handle === undefined) {
    next();
    return;
  }
  try {
    await sendFile(request, response, {
      sizeBytes: handle.sizeBytes,
      read: (position, lengthBytes) => handle.read(position, lengthBytes),
      etag: file.fileHash,
      contentType: 'application/x-nix-nar',
      cacheControl: `${foreverCacheControl}, no-transform`,
    });
  } finally {
    await handle.close();
  }
}
