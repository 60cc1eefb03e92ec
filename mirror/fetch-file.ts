/** Fetches the bytes of one NAR file, in order and piece by piece checked, from peers and where they fail perhaps over HTTP. */

import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { PieceChecker } from '../parts/piece-checker.ts';
import type { PeerAddress } from '../swarm/address/peer-address.ts';
import { TorrentFetch } from '../swarm/fetch/fetcher.ts';
import type { Torrent } from '../swarm/torrent/torrent.ts';
import type { HttpCache } from '../upstream/http-cache.ts';

export interface FetchFileOptions {
  torrent: Torrent;
  /** Those known already; `morePeers` is asked when they gave nothing. */
  peers: readonly PeerAddress[];
  morePeers(): Promise<readonly PeerAddress[]>;
  /** Web servers to go to when peers bring nothing; in this order. */
  caches: readonly HttpCache[];
  /** Bytes from the start that are there, whole pieces. */
  fromByte: number;
  /** Takes the next bytes; what was taken is not fetched again. */
  take(bytes: Buffer, source: 'swarm' | 'http'): Promise<void>;
  stallMs: number;
  /** In a row without a byte, until it is given up. */
  attempts: number;
  signal: AbortSignal;
}

/** Throws what the last attempt ended with. */
export async function fetchFile(options: FetchFileOptions): Promise<void> {
  const { torrent, caches, take, attempts } = options;
  let taken = options.fromByte;
  let peers = options.peers;
  let failure: unknown;
  const counted = (source: 'swarm' | 'http') => async (bytes: Buffer) => {
    await take(bytes, source);
    taken += bytes.length;
  };
  for (let vain = 0; vain < attempts && taken < torrent.length; ) {
    const before = taken;
    try {
      if (peers.length === 0) peers = await options.morePeers();
      await fromPeers(options, peers, taken, counted('swarm'));
    } catch (error) {
      failure = passing(error, options.signal);
    }
    if (taken > before) {
      vain = 0;
      continue;
    }
    vain++;
    peers = [];
  }
  for (const cache of caches) {
    if (taken >= torrent.length) break;
    try {
      await fromHttp(options, cache, taken, counted('http'));
    } catch (error) {
      failure = passing(error, options.signal);
    }
  }
  if (taken < torrent.length)
    throw failure ?? new NarswarmError('swarm-exhausted', `nobody gives ${torrent.name}`);
}

/** The error, if another source may do better. Throws it otherwise. */
function passing(error: unknown, signal: AbortSignal): unknown {
  const codes = [
    'swarm-stalled',
    'swarm-exhausted',
    'upstream-failed',
    'piece-mismatch',
    'file-size-mismatch',
  ] as const;
  if (signal.aborted || !isNarswarmError(error, ...codes)) throw error;
  return error;
}

async function fromPeers(
  { torrent, stallMs, signal }: FetchFileOptions,
  peers: readonly PeerAddress[],
  fromByte: number,
  take: (bytes: Buffer) => Promise<void>,
): Promise<void> {
  const fetch = new TorrentFetch({ torrent, fromByte, stallMs, signal });
  fetch.addPeers(peers);
  fetch.noMorePeers();
  for await (const piece of fetch) {
    await take(piece.bytes);
    fetch.recycle(piece);
  }
}

async function fromHttp(
  { torrent, signal }: FetchFileOptions,
  cache: HttpCache,
  fromByte: number,
  take: (bytes: Buffer) => Promise<void>,
): Promise<void> {
  const open = await cache.openNar(`nar/${torrent.name}`, { fromByte, signal });
  if (open === undefined)
    throw new NarswarmError('upstream-failed', `${cache.url} does not have ${torrent.name}`);
  const checker = new PieceChecker(torrent, fromByte);
  for await (const bytes of open.body) for (const piece of checker.push(bytes)) await take(piece);
}
