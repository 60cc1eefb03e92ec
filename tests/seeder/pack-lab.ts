/** A seeder that closes packs, on a cache in a temporary directory. */

import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { type Pack, parsePack } from '../../catalog/pack.ts';
import { type InfoHash, parseInfoHash, type Sha256 } from '../../nar/hash.ts';
import { parseNarInfo } from '../../nar/narinfo.ts';
import { secretKeyFromSeed } from '../../nar/signature.ts';
import type { PackParts } from '../../parts/remake-pack.ts';
import { openSeeder, type Seeder } from '../../seeder/main.ts';
import type { PackRules } from '../../seeder/pack-closer.ts';
import type { PeerAddress } from '../../swarm/address/peer-address.ts';
import type { TorrentFetchOptions } from '../../swarm/fetch/fetch-options.ts';
import { TorrentFetch } from '../../swarm/fetch/fetcher.ts';
import type { Torrent } from '../../swarm/torrent/torrent.ts';
import { parseTorrentFile } from '../../swarm/torrent/torrent-file.ts';
import { silentLogger } from '../../web/log.ts';
import { get } from '../client/lab.ts';
import { type Built, CacheBuilder } from '../helpers/cache-builder.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

export const catalogKey = secretKeyFromSeed('catalog.test-1', Buffer.alloc(32, 9));

export interface PackLab {
  dir: string;
  cache: CacheBuilder;
  /** Starts a seeder and lets it read the cache. */
  start(packs?: Partial<PackRules>): Promise<Seeder>;
}

export async function openPackLab(t: Test): Promise<PackLab> {
  provesNothingStaysOpen(t);
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-packs-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await mkdir(join(dir, 'cache'));
  const cache = await new CacheBuilder(join(dir, 'cache')).open();
  return {
    dir,
    cache,
    async start(packs = {}) {
      const seeder = await openSeeder({
        dataDir: join(dir, 'data'),
        sources: [cache.url],
        trustedKeys: [cache.publicKey],
        secretKey: catalogKey,
        http: { host: '127.0.0.1', port: 0 },
        peers: { host: '127.0.0.1', port: 0 },
        packs: { ageMs: Number.POSITIVE_INFINITY, ...packs },
        logger: silentLogger,
      });
      t.teardown(() => seeder.close());
      await seeder.ingested;
      return seeder;
    },
  };
}

/** A chain of paths, each of which refers to the one before. Random content of these sizes, so that the NAR files are larger by a little. */
export async function addChain(
  cache: CacheBuilder,
  name: string,
  sizes: readonly number[],
): Promise<Built[]> {
  const built: Built[] = [];
  for (const [index, size] of sizes.entries()) {
    const references = built.slice(-1).map(({ storePath }) => storePath);
    const compression = index % 2 === 0 ? ('xz' as const) : ('none' as const);
    const tree = { data: randomBytes(size) };
    built.push(await cache.add({ name: `${name}-${index}`, tree, references, compression }));
  }
  return built;
}

/** The infohashes of the packs that NAR files are in, by what `/resolve` says. */
export async function resolvePacks(
  { url }: Pick<Seeder, 'url'>,
  fileHashes: readonly Sha256[],
): Promise<({ infoHash: InfoHash; offset: number } | undefined)[]> {
  const answer = await fetch(`${url}/resolve`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ fileHashes }),
  });
  const lines = (await answer.text()).split('\n').slice(0, -1);
  return lines.map((line) => (JSON.parse(line) as { pack?: { infoHash: InfoHash; offset: number } }).pack);
}

export async function fetchManifest(seeder: Pick<Seeder, 'url'>, infoHash: string): Promise<Pack> {
  return parsePack((await get(seeder.url, `${parseInfoHash(infoHash)}.packinfo`)).body);
}

export async function fetchTorrent(seeder: Pick<Seeder, 'url'>, infoHash: string): Promise<Torrent> {
  return parseTorrentFile((await get(seeder.url, `${infoHash}.torrent`)).body);
}

/** What a peer gets of a torrent, from `fromByte` to before `toByte`, in whole pieces. */
export async function download(
  address: string,
  torrent: Torrent,
  options: Partial<TorrentFetchOptions> = {},
): Promise<Buffer> {
  const fetching = new TorrentFetch({ torrent, stallMs: 20_000, ...options });
  fetching.addPeers([peerAt(address)]);
  fetching.noMorePeers();
  const pieces: Buffer[] = [];
  for await (const { bytes } of fetching) pieces.push(bytes);
  return Buffer.concat(pieces);
}

export function peerAt(address: string): PeerAddress {
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
}

/** The files of a cache directory, as whoever makes a pack again finds them. */
export function partsOf(cache: CacheBuilder): PackParts {
  const read = (name: string) => readFile(cache.path(name)).catch(() => undefined);
  return {
    async narInfo(storeHash) {
      const text = (await read(`${storeHash}.narinfo`))?.toString();
      if (text === undefined) return undefined;
      const { fileHash } = parseNarInfo(text);
      return { text, ...(fileHash && { fileHash }) };
    },
    async narFile({ fileHash }) {
      for (const extension of ['', '.xz', '.zst']) {
        const bytes = await read(`nar/${fileHash}.nar${extension}`);
        if (bytes !== undefined)
          return (async function* () {
            yield bytes;
          })();
      }
      return undefined;
    },
  };
}
