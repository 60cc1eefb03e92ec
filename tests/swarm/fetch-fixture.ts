/** What the tests of the fetcher share: a torrent, a fetch of all of it, and the error that one ends with. */
import { createHash } from 'node:crypto';
import { narFileName } from '../../nar/compression.ts';
import { isNarswarmError, type NarswarmError } from '../../nar/errors.ts';
import { sha256FromDigest } from '../../nar/hash.ts';
import type { PeerAddress } from '../../swarm/address/peer-address.ts';
import type { TorrentFetchOptions, VerifiedPiece } from '../../swarm/fetch/fetch-options.ts';
import { TorrentFetch } from '../../swarm/fetch/fetcher.ts';
import { type Torrent, TorrentHasher } from '../../swarm/torrent/torrent.ts';
import { wordsContent } from './vector-content.ts';

export const pieceBytes = 64 * 1024;

export interface File {
  torrent: Torrent;
  bytes: Buffer;
}

/** A file of so many bytes, and its torrent; pieces of 64 KiB up to 64 MiB. */
export function fileOf(lengthBytes: number): File {
  const bytes = wordsContent(lengthBytes);
  const hasher = new TorrentHasher(lengthBytes);
  hasher.write(bytes);
  const digest = createHash('sha256').update(bytes).digest();
  return { bytes, torrent: hasher.finish(narFileName(sha256FromDigest(digest), 'none')) };
}

/** A fetch from these peers and no others, closed at the end of the test. */
export function fetchFrom(
  t: { teardown(fn: () => Promise<void>): void },
  peers: Iterable<PeerAddress>,
  options: TorrentFetchOptions,
): TorrentFetch {
  const fetch = new TorrentFetch(options);
  t.teardown(() => fetch.close());
  fetch.addPeers(peers);
  fetch.noMorePeers();
  return fetch;
}

/** All that comes, checked to be in order and without gaps. */
export async function collect(
  fetch: TorrentFetch,
): Promise<{ bytes: Buffer; pieces: VerifiedPiece[]; peers: Set<string> }> {
  const pieces: VerifiedPiece[] = [];
  for await (const piece of fetch) {
    const before = pieces.at(-1);
    if (before !== undefined && before.offset + before.bytes.length !== piece.offset)
      throw new Error('the pieces do not follow each other');
    pieces.push(piece);
  }
  const bytes = Buffer.concat(pieces.map((piece) => piece.bytes));
  return { bytes, pieces, peers: new Set(pieces.flatMap((piece) => piece.peers)) };
}

/** The error that it ends with, and after how many milliseconds. */
export async function failure(fetch: TorrentFetch): Promise<{ error: NarswarmError; afterMs: number }> {
  const startedMs = performance.now();
  try {
    await collect(fetch);
  } catch (error) {
    if (isNarswarmError(error)) return { error, afterMs: performance.now() - startedMs };
    throw error;
  }
  throw new Error('it did not fail');
}
