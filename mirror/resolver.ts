/** Asks the catalogs' servers for torrents and peers, several NAR files in one request. What they say is checked against the log. */

import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import type { InfoHash, Sha256 } from '../nar/hash.ts';
import { mayBeNamed } from '../parts/named-peers.ts';
import { fetchResolveLines } from '../parts/resolve-request.ts';
import { parseResolveLineAside } from '../parts/resolved.ts';
import { type PeerAddress, printPeer } from '../swarm/address/peer-address.ts';
import type { Torrent } from '../swarm/torrent/torrent.ts';
import { parseTorrentFile, torrentFileMaxBytes } from '../swarm/torrent/torrent-file.ts';
import type { Logger } from '../web/log.ts';
import type { MirrorCatalog } from './catalogs.ts';

/** Torrents of packs that are remembered. */
const packsMax = 8;

export interface Found {
  readonly torrent: Torrent;
  readonly peers: readonly PeerAddress[];
}

export interface ResolverOptions {
  deadlineMs: number;
  logger: Logger;
}

export class Resolver {
  readonly #options: ResolverOptions;
  /** Catalogs that failed last time: what goes on failing is logged once. */
  readonly #failing = new Set<string>();
  /** Of packs, each some megabytes at most; the one that was asked for first goes first. */
  readonly #packs = new Map<InfoHash, Torrent>();
  #requests = 0;
  #refusedLines = 0;

  constructor(options: ResolverOptions) {
    this.#options = options;
  }

  /** What any of the catalog's servers knows; peers of all of them. Throws when none of them answered. */
  async resolve(
    catalog: MirrorCatalog,
    fileHashes: readonly Sha256[],
    signal: AbortSignal,
  ): Promise<Map<Sha256, Found>> {
    const found = new Map<Sha256, Found>();
    const asked = await Promise.allSettled(
      catalog.reaches.map(({ url }) => this.#ask(url, catalog, fileHashes, found, signal)),
    );
    const failed = asked.filter((each) => each.status === 'rejected');
    const [first] = failed;
    if (first !== undefined && failed.length === asked.length) throw first.reason;
    return found;
  }

  /** The torrent of a pack, from whichever of the catalog's servers has it. Throws what the last one of them did. */
  async packTorrent(catalog: MirrorCatalog, infoHash: InfoHash, signal: AbortSignal): Promise<Torrent> {
    const kept = this.#packs.get(infoHash);
    if (kept !== undefined) return kept;
    let failure: unknown;
    for (const { url } of catalog.reaches) {
      try {
        const torrent = await fetchTorrent(`${url}/${infoHash}.torrent`, this.#options.deadlineMs, signal);
        if (torrent.infoHash !== infoHash)
          throw new NarswarmError('torrent-invalid', `${url} gave another torrent`);
        this.#packs.set(infoHash, torrent);
        const oldest = this.#packs.keys().next();
        if (this.#packs.size > packsMax && !oldest.done) this.#packs.delete(oldest.value);
        return torrent;
      } catch (error) {
        if (signal.aborted || !isNarswarmError(error)) throw error;
        failure = error;
      }
    }
    throw failure ?? new NarswarmError('upstream-failed', 'there is nobody to ask for a pack');
  }

  status() {
    return { requests: this.#requests, refusedLines: this.#refusedLines };
  }

  async #ask(
    url: string,
    catalog: MirrorCatalog,
    fileHashes: readonly Sha256[],
    found: Map<Sha256, Found>,
    signal: AbortSignal,
  ): Promise<void> {
    const { deadlineMs, logger } = this.#options;
    const keys = catalog.keys();
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]);
    try {
      this.#requests++;
      for await (const { text, askedAt } of fetchResolveLines(url, fileHashes, deadline)) {
        try {
          const { torrentInfo, torrent, peers: named } = await parseResolveLineAside(text, keys);
          const peers = named.filter((peer) => mayBeNamed(peer, askedAt));
          const { fileHash } = torrentInfo;
          // The log says which torrent it is; another one that the same key once signed is none.
          if (catalog.torrentInfo(fileHash)?.infoHash !== torrent.infoHash) continue;
          found.set(fileHash, { torrent, peers: merged(found.get(fileHash)?.peers ?? [], peers) });
        } catch (error) {
          if (!isNarswarmError(error)) throw error;
          this.#refusedLines++;
          logger.warn('catalog-line-refused', { catalog: url, error });
        }
      }
      this.#failing.delete(url);
    } catch (error) {
      if (!signal.aborted && !this.#failing.has(url)) {
        this.#failing.add(url);
        logger.warn('catalog-failed', { catalog: url, error });
      }
      throw error;
    }
  }
}

/** Throws `upstream-failed` and `torrent-invalid`. */
async function fetchTorrent(url: string, deadlineMs: number, signal: AbortSignal): Promise<Torrent> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  try {
    const either = AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]);
    const answer = await fetch(url, { redirect: 'error', signal: either });
    if (!answer.ok) {
      await answer.body?.cancel();
      throw new NarswarmError('upstream-failed', `${url} answered ${answer.status}`);
    }
    for await (const chunk of answer.body ?? []) {
      bytes += chunk.length;
      if (bytes > torrentFileMaxBytes)
        throw new NarswarmError('upstream-failed', `${url} answered more than it may`);
      chunks.push(chunk);
    }
  } catch (cause) {
    if (isNarswarmError(cause)) throw cause;
    throw new NarswarmError('upstream-failed', `${url} gave no answer`, { cause });
  }
  return parseTorrentFile(Buffer.concat(chunks));
}

function merged(a: readonly PeerAddress[], b: readonly PeerAddress[]): PeerAddress[] {
  return [...new Map([...a, ...b].map((peer) => [printPeer(peer), peer])).values()];
}
