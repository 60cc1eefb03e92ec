/** Brings one NAR file in: fetched, verified down to its NAR, and only then held. */

import { hash } from 'node:crypto';
import type { TorrentInfo } from '../catalog/torrentinfo.ts';
import { narFileName } from '../nar/compression.ts';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import type { Sha256 } from '../nar/hash.ts';
import type { NarInfo } from '../nar/narinfo.ts';
import type { NarFileStore, NarFileWriter, ResumedWriter } from '../store/nar-file-store.ts';
import type { PeerAddress } from '../swarm/address/peer-address.ts';
import { TorrentFetch } from '../swarm/fetch/fetcher.ts';
import { pieceCount, pieceHashOf, pieceSize, type Torrent } from '../swarm/torrent/torrent.ts';
import type { HttpCache } from '../upstream/http-cache.ts';
import type { MirrorCatalog } from './catalogs.ts';
import type { MirrorLimits } from './config.ts';
import { fetchFile } from './fetch-file.ts';
import type { Holdings } from './holdings.ts';
import type { Ledger } from './ledger.ts';
import { endOf, type PackPart } from './pack-runs.ts';
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
    try {
      const left = await store.resume?.(name);
      const fromByte = left === undefined ? 0 : await cutToRight(left, found.torrent);
      const writer = left ?? (await store.create(name));
      if (fromByte > 0) ledger.wrote(name, fromByte);
      try {
        await fetchFile({
          ...found,
          fromByte,
          morePeers: async () =>
            (await resolver.resolve(catalog, [fileHash], signal)).get(fileHash)?.peers ?? [],
          caches: catalog.reaches.flatMap(({ url }) => caches.get(url) ?? []),
          take: (bytes, source) => this.#write(wanted, writer, bytes, source),
          stallMs: limits.stallMs,
          attempts: limits.attempts,
          signal,
        });
      } catch (error) {
        if (signal.aborted) await (writer.suspend?.() ?? writer.abort());
        else await writer.abort();
        throw error;
      }
      await this.#finish(wanted, writer);
    } catch (error) {
      ledger.release(name);
      throw error;
    }
  }

  /**
   * Fetches NAR files that lie beside each other in a pack, over one connection to each peer. Their places must be reserved. Calls back with
   * each of them once: held, or what was wrong.
   */
  async fetchRun(
    run: { torrent: Torrent; parts: readonly PackPart[]; peers: readonly PeerAddress[] },
    signal: AbortSignal,
    onEnd: (wanted: Wanted, error: unknown) => void,
  ): Promise<void> {
    const { store, ledger, limits } = this.#options;
    const waiting = [...run.parts];
    const finishing: Promise<void>[] = [];
    const end = (wanted: Wanted, error: unknown): void => {
      if (error !== undefined) ledger.release(wanted.name);
      onEnd(wanted, error);
    };
    const [first, last] = [run.parts[0], run.parts.at(-1)];
    if (first === undefined || last === undefined) return;
    const fetch = new TorrentFetch({
      torrent: run.torrent,
      fromByte: first.offset,
      toByte: endOf(last),
      stallMs: limits.stallMs,
      signal,
    });
    fetch.addPeers(run.peers);
    fetch.noMorePeers();
    let writer: NarFileWriter | undefined;
    try {
      for await (const piece of fetch) {
        for (let part = waiting[0]; part !== undefined; part = waiting[0]) {
          const from = Math.max(part.offset, piece.offset);
          const to = Math.min(endOf(part), piece.offset + piece.bytes.length);
          if (from >= to) break;
          writer ??= await store.create(part.wanted.name);
          await this.#write(
            part.wanted,
            writer,
            piece.bytes.subarray(from - piece.offset, to - piece.offset),
            'swarm',
          );
          if (to < endOf(part)) break;
          const { wanted } = part;
          const done = this.#finish(wanted, writer);
          finishing.push(
            done.then(
              () => end(wanted, undefined),
              (error: unknown) => end(wanted, error),
            ),
          );
          writer = undefined;
          waiting.shift();
        }
        fetch.recycle(piece);
      }
      if (waiting.length > 0)
        throw new NarswarmError('torrent-invalid', 'the pack ends before its NAR files');
    } catch (error) {
      await writer?.abort();
      for (const { wanted } of waiting) end(wanted, error);
    }
    await Promise.all(finishing);
  }

  async #write(
    wanted: Wanted,
    writer: NarFileWriter,
    bytes: Buffer,
    source: 'swarm' | 'http',
  ): Promise<void> {
    await writer.write(bytes);
    this.#options.ledger.wrote(wanted.name, writer.sizeBytes);
    this.#bytes[source] += bytes.length;
  }

  /** Of all its bytes: verified and held, or removed. */
  async #finish(wanted: Wanted, writer: NarFileWriter): Promise<void> {
    const { store, holdings } = this.#options;
    await writer.commit();
    try {
      await this.#verify(wanted, holdings.pathOf(wanted.name));
    } catch (error) {
      // Whole, and not verified when the mirror was stopped: it is found at the next start.
      if (!isNarswarmError(error, 'aborted')) await store.remove(wanted.name).catch(() => undefined);
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
      { catalog: catalog.name, urls: narInfos.map(({ url }) => url) },
    );
  }
}

/** Cuts what was left of a file to the pieces from its start that are right. Gives their bytes. */
async function cutToRight(left: ResumedWriter, torrent: Torrent): Promise<number> {
  try {
    let bytes = 0;
    for (let index = 0; index < pieceCount(torrent); index++) {
      const size = pieceSize(torrent, index);
      if (bytes + size > left.sizeBytes) break;
      const digest = hash('sha1', await left.read(bytes, size), 'buffer');
      if (!digest.equals(pieceHashOf(torrent, index))) break;
      bytes += size;
    }
    await left.cut(bytes);
    return bytes;
  } catch (error) {
    await left.abort();
    throw error;
  }
}
