/** Brings one NAR file in: fetched, verified down to its NAR, and only then held. */

import type { TorrentInfo } from '../catalog/torrentinfo.ts';
import { narFileName } from '../nar/compression.ts';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import type { Sha256 } from '../nar/hash.ts';
import type { NarInfo } from '../nar/narinfo.ts';
import type { NarFileStore } from '../store/nar-file-store.ts';
import type { HttpCache } from '../upstream/http-cache.ts';
import type { MirrorCatalog } from './catalogs.ts';
import type { MirrorLimits } from './config.ts';
import { fetchFile } from './fetch-file.ts';
import type { Holdings } from './holdings.ts';
import type { Ledger } from './ledger.ts';
import type { Found, Resolver } from './resolver.ts';
import type { Verifier } from './verifier.ts';

/** A NAR file that may be kept, and why. */
export interface Wanted {
  readonly catalog: MirrorCatalog;
  readonly fileHash: Sha256;
  readonly torrentInfo: TorrentInfo;
  /** Signed by a trusted key and about the same NAR; at least one. */
  readonly narInfos: readonly NarInfo[];
  /** Canonical name. */
  readonly name: string;
}

export interface AcquireOptions {
  holdings: Holdings;
  ledger: Ledger;
  store: NarFileStore;
  verifier: Verifier;
  resolver: Resolver;
  /** By URL of a catalog; empty without a fallback to HTTP. */
  caches: ReadonlyMap<string, HttpCache>;
  limits: MirrorLimits;
  /** Milliseconds since 1970. */
  now: () => number;
}

/** The NAR file if the catalog vouches for it and a trusted key does. Throws `signature-untrusted` and `torrentinfo-untrusted`. */
export function wantedOf(catalog: MirrorCatalog, fileHash: Sha256): Wanted {
  const torrentInfo = catalog.torrentInfo(fileHash);
  if (torrentInfo === undefined)
    throw new NarswarmError('torrentinfo-untrusted', `NAR file ${fileHash} of ${catalog.name}`);
  const narInfos = catalog.narInfosOf(torrentInfo);
  if (narInfos.length === 0) {
    throw new NarswarmError(
      'signature-untrusted',
      `no narinfo of NAR file ${fileHash} is signed by a trusted key`,
    );
  }
  const name = narFileName(fileHash, torrentInfo.compression);
  return { catalog, fileHash, torrentInfo, narInfos, name };
}

export class Acquirer {
  readonly #options: AcquireOptions;
  readonly #bytes = { swarm: 0, http: 0 };

  constructor(options: AcquireOptions) {
    this.#options = options;
  }

  /** Bytes that came in, by where they came from. */
  get bytes(): { swarm: number; http: number } {
    return { ...this.#bytes };
  }

  /**
   * Fetches it; its place in the account must be reserved under its name, and is held or released afterwards. Rejects with what was
   * wrong: then nothing is left of it.
   */
  async fetch(wanted: Wanted, found: Found, signal: AbortSignal): Promise<void> {
    const { store, ledger, resolver, caches, limits } = this.#options;
    const { catalog, fileHash, name } = wanted;
    let committed = false;
    try {
      const writer = await store.create(name);
      try {
        await fetchFile({
          ...found,
          morePeers: async () =>
            (await resolver.resolve(catalog, [fileHash], signal)).get(fileHash)?.peers ?? [],
          caches: catalog.reaches.flatMap(({ url }) => caches.get(url) ?? []),
          take: async (bytes, source) => {
            await writer.write(bytes);
            ledger.wrote(name, writer.sizeBytes);
            this.#bytes[source] += bytes.length;
          },
          stallMs: limits.stallMs,
          attempts: limits.attempts,
          signal,
        });
        await writer.commit();
        committed = true;
      } catch (error) {
        await writer.abort();
        throw error;
      }
      await this.#verify(wanted, this.#options.holdings.pathOf(name));
    } catch (error) {
      // Whole, and not verified when the mirror was stopped: it is found at the next start.
      if (committed && isNarswarmError(error, 'aborted')) throw error;
      await store.remove(name).catch(() => undefined);
      ledger.release(name);
      throw error;
    }
  }

  /** Verifies a file that was found on the disk. What it is not is removed. */
  async claim(wanted: Wanted): Promise<void> {
    const { holdings } = this.#options;
    const path = holdings.unclaimedPath(wanted.fileHash);
    if (path === undefined) return;
    try {
      await this.#verify(wanted, path);
    } catch (error) {
      if (isNarswarmError(error, 'aborted')) throw error;
      await holdings.dropUnclaimed(wanted.fileHash);
      throw error;
    }
  }

  async #verify(wanted: Wanted, path: string): Promise<void> {
    const { holdings, verifier, now } = this.#options;
    const { catalog, fileHash, torrentInfo, narInfos, name } = wanted;
    const { fileSize, compression, narHash, narSize, infoHash } = torrentInfo;
    const { file, mtimeNs } = await verifier.verify({
      path,
      compression,
      fileHash,
      fileSize,
      narHash,
      narSize,
    });
    if (file.infoHash !== infoHash) {
      throw new NarswarmError(
        'torrent-invalid',
        `NAR file ${fileHash} has another infohash than the catalog signed`,
      );
    }
    // It may have been revoked meanwhile.
    if (catalog.torrentInfo(fileHash) === undefined)
      throw new NarswarmError('not-held', `NAR file ${fileHash} was revoked`);
    const at = now();
    const row = { fileHash, name, sizeBytes: fileSize, mtimeNs, infoHash, pieces: file.pieces };
    holdings.keep(
      { ...row, sinceMs: at, verifiedMs: at },
      narInfos.map(({ url }) => url),
    );
  }
}
