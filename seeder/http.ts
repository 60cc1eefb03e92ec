/** The HTTP surface of a seeder: binary cache, catalog, tracker, and pages for people and for machines. */

import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Catalog, NarFileEntry } from '../catalog/catalog.ts';
import type { CatalogFiles } from '../catalog/files.ts';
import { printTorrentInfo } from '../catalog/torrentinfo.ts';
import { printCacheInfo } from '../nar/cache-info.ts';
import { parseNarFileName } from '../nar/compression.ts';
import { type InfoHash, parseInfoHash, parseSha256 } from '../nar/hash.ts';
import { parseStoreHash } from '../nar/store-path.ts';
import type { ReportSource } from '../parts/availability-report.ts';
import { addAvailability } from '../parts/availability-route.ts';
import type { CoverageBook } from '../parts/coverage-book.ts';
import { addCoverage } from '../parts/coverage-route.ts';
import type { HeadSource } from '../parts/head-source.ts';
import { type TorrentFileOptions, torrentFile } from '../swarm/torrent/torrent-file.ts';
import { errorAnswer, makeApp } from '../web/app.ts';
import { addCatalogRoutes } from '../web/catalog-route.ts';
import type { Logger } from '../web/log.ts';
import type { Metrics } from '../web/metrics.ts';
import { addOperations } from '../web/operations.ts';
import { addResolve } from '../web/resolve-route.ts';
import { sendFile, sendText, sourceOf } from '../web/send.ts';
import { torrentOf } from './catalog-torrents.ts';
import { feed, parseFeedQuery } from './feed.ts';
import { logTorrentOf } from './log-source.ts';
import type { NarFiles } from './nar-files.ts';
import { packTorrent } from './pack-source.ts';
import type { PeerDirectory } from './peer-directory.ts';
import { resolveLine } from './resolve.ts';
import { type WebSeed, webSeedRetrySeconds } from './web-seed.ts';

/** Behind cache.nixos.org (40): who asks a seeder over HTTP should ask the real cache first. */
const cachePriority = 50;
/** A torrent or torrentinfo never changes for its name. */
const foreverCacheControl = 'public, max-age=31536000, immutable';

export interface SeederHttpOptions {
  catalog: Catalog;
  catalogFiles: CatalogFiles;
  heads: Pick<HeadSource, 'torrent'>;
  /** Whether small NAR files are put into packs. */
  packing: boolean;
  narFiles: NarFiles;
  /** The cache's own store directory, `/nix/store`. */
  nixStoreDir(): string;
  peers: PeerDirectory;
  /** Name under which this server is known; by default what the request calls it. */
  publicUrl(request: IncomingMessage): string;
  /** URLs of trackers, in tiers: in the first our own, over HTTP and perhaps over UDP. */
  trackers(request: IncomingMessage): string[][];
  webSeed: WebSeed;
  /** Where mirrors tell what they hold. */
  coverage: Pick<CoverageBook, 'take'>;
  /** How long NAR files have had how many seeds; `undefined` while there are none. */
  availability(): Promise<ReportSource | undefined>;
  /** Somebody took the torrent of a NAR file. */
  noteDemand(infoHash: InfoHash): void;
  status(): object;
  metrics: Metrics;
  logger: Logger;
}

export function makeSeederApp(options: SeederHttpOptions): RequestListener {
  const { catalog, logger, webSeed } = options;
  const app = makeApp({
    logger,
    routes(router) {
      router.get('/nix-cache-info', async (request, response) => {
        const text = printCacheInfo({
          storeDir: options.nixStoreDir(),
          wantMassQuery: true,
          priority: cachePriority,
        });
        await sendText(request, response, text, 'text/x-nix-cache-info');
      });

      router.get('/:name.narinfo', async (request, response, next) => {
        const text = catalog.narInfo(parseStoreHash(request.params.name));
        if (text === undefined) next();
        else await sendText(request, response, text, 'text/x-nix-narinfo');
      });

      router.get('/:hash.torrentinfo', async (request, response, next) => {
        const entry = catalog.byFileHash(parseSha256(request.params.hash));
        if (entry === undefined) next();
        else await sendText(request, response, printTorrentInfo(entry), 'text/x-narswarm-torrentinfo');
      });

      router.get('/:infohash.torrent', async (request, response, next) => {
        const infoHash = parseInfoHash(request.params.infohash);
        const found = catalog.byInfoHash(infoHash);
        const torrent = found
          ? torrentOf(catalog, found)
          : (packTorrent(catalog, infoHash) ??
            logTorrentOf(catalog.log, infoHash) ??
            options.heads.torrent(infoHash));
        if (torrent === undefined) {
          next();
          return;
        }
        if (found?.kind === 'file' || catalog.packs.has(infoHash)) options.noteDemand(infoHash);
        // Only the NAR file is here to be had over HTTP; the NAR itself is not, nor a pack's narinfos as they are in it.
        const webSeeds = found?.kind === 'file' ? webSeed.urls(options.publicUrl(request), torrent) : [];
        await sendFile(request, response, {
          ...sourceOf(torrentFile(torrent, { ...announceOf(options.trackers(request)), webSeeds })),
          contentType: 'application/x-bittorrent',
        });
      });

      router.get('/:infohash.packinfo', async (request, response, next) => {
        const infoHash = parseInfoHash(request.params.infohash);
        const manifest = catalog.packs.has(infoHash) ? catalog.packs.manifest(infoHash) : undefined;
        if (manifest === undefined) next();
        else await sendText(request, response, manifest, 'text/x-narswarm-packinfo');
      });

      addResolve(router, (fileHash, request) =>
        resolveLine(catalog, fileHash, (infoHash) => options.peers.peersOf(infoHash, request)),
      );

      addCoverage(router, options.coverage);

      router.get('/feed.xml', async (request, response, next) => {
        const query = parseFeedQuery(request.query);
        if (query === undefined) {
          next();
          return;
        }
        const text = feed(catalog, options.packing, options.publicUrl(request), query);
        await sendText(request, response, text, 'application/rss+xml; charset=utf-8');
      });

      addCatalogRoutes(router, options.catalogFiles);

      addAvailability(router, options.availability);

      addOperations(router, {
        prefix: '/',
        title: 'narswarm seeder',
        intro: 'Seeds the NAR files of a binary cache. It is a catalog, a tracker and a BitTorrent peer.',
        status: options.status,
        metrics: options.metrics,
      });

      // NAR files, by the name that follows from their bytes or by the URL of their narinfo, which may be anything.
      router.get(/.*/, async (request, response, next) => {
        const { target, asWebSeed } = webSeed.parse(request.url.slice(1));
        const entry = findNarFile(catalog, target);
        if (entry === undefined) next();
        else if (!asWebSeed) await sendNarFile(request, response, entry, options.narFiles);
        else if (webSeed.isFree(entry))
          await sendNarFile(request, response, entry, options.narFiles, webSeed);
        else response.status(503).set('Retry-After', `${webSeedRetrySeconds}`).end();
      });
    },
  });
  return trackerFirst(options, app);
}

/** The tracker's requests are the most by far, and looking for their route would take longer than answering them. */
function trackerFirst({ peers, logger }: SeederHttpOptions, app: RequestListener): RequestListener {
  return (request, response) => {
    const path = request.method === 'GET' ? request.url?.split('?', 1)[0] : undefined;
    if (path === '/announce') sendBencoded(response, logger, () => peers.announce(request));
    else if (path === '/scrape') sendBencoded(response, logger, () => peers.scrape(request));
    else app(request, response);
  };
}

/** Our own tracker comes first, because it names the seeder whoever asks for whatever; its URLs are alike to a program. */
function announceOf(tiers: readonly string[][]): TorrentFileOptions {
  const [announce] = tiers[0] ?? [];
  if (announce === undefined) return {};
  return tiers.flat().length === 1 ? { announce } : { announce, announceList: tiers };
}

/** `target`: the request target without its first slash, as narinfos write their URLs. */
function findNarFile(catalog: Catalog, target: string): NarFileEntry | undefined {
  const name = target.startsWith('nar/') ? parseNarFileName(target.slice('nar/'.length)) : undefined;
  const entry = name && catalog.byFileHash(name.fileHash);
  // The extension must be right too: under <NarHash>.nar.zst lie other bytes than under <FileHash>.nar.
  if (entry !== undefined && entry.compression === name?.compression) return entry;
  return catalog.byUrl(target);
}

async function sendNarFile(
  request: IncomingMessage,
  response: ServerResponse,
  entry: NarFileEntry,
  narFiles: NarFiles,
  webSeed?: WebSeed,
): Promise<void> {
  const file = await narFiles.open(entry);
  try {
    await sendFile(request, response, {
      sizeBytes: file.sizeBytes,
      async read(position, lengthBytes) {
        const bytes = await file.read(position, lengthBytes);
        webSeed?.sent(entry, bytes.length);
        return bytes;
      },
      etag: entry.fileHash,
      contentType: 'application/x-nix-nar',
      cacheControl: `${foreverCacheControl}, no-transform`,
    });
  } finally {
    await file.close();
  }
}

/** Trackers answer 200 also to say no: the bencoded text tells. */
function sendBencoded(response: ServerResponse, logger: Logger, answer: () => Buffer): void {
  let body: Buffer;
  try {
    body = answer();
  } catch (error) {
    logger.error('request-failed', { error });
    response.writeHead(errorAnswer(error).status).end();
    return;
  }
  response.writeHead(200, {
    'Content-Type': 'text/plain',
    'Content-Length': body.length,
    'Cache-Control': 'no-store',
  });
  response.end(body);
}
