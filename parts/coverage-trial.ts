/** Tries whether a mirror gives what it says that it holds: a piece of a NAR file that it did not know it would be asked for. */

import type { Bitmap } from '../nar/bitmap.ts';
import { NarswarmError } from '../nar/errors.ts';
import { type PeerAddress, printPeer } from '../swarm/address/peer-address.ts';
import { TorrentFetch } from '../swarm/fetch/fetcher.ts';
import { pieceCount, type Torrent } from '../swarm/torrent/torrent.ts';

/** Of these, the one with the smallest pieces is taken: mirrors may be slow. */
const candidates = 8;
/** Ordinals drawn until so many are found of which the torrent is known here. */
const drawsMax = 64;
/** Milliseconds for a piece. At 16 KiB a second it is 320 KiB. */
const trialMs = 20_000;

export interface TrialOptions {
  /** `undefined` for a NAR file whose pieces are not known here. */
  torrentOf(ordinal: number): Torrent | undefined;
  /** Between 0 and 1. */
  random(): number;
}

/** Throws `swarm-exhausted` or `swarm-stalled` when nothing right came, `not-held` when nothing could be asked for. */
export async function tryMirror(
  { torrentOf, random }: TrialOptions,
  peer: PeerAddress,
  held: Bitmap,
  signal: AbortSignal,
): Promise<void> {
  const torrent = choose(torrentOf, random, held);
  if (torrent === undefined)
    throw new NarswarmError('not-held', `nothing that ${printPeer(peer)} holds is known here`);
  const piece = Math.floor(random() * pieceCount(torrent));
  const fetch = new TorrentFetch({
    torrent,
    fromByte: piece * torrent.pieceLength,
    stallMs: trialMs,
    signal: AbortSignal.any([signal, AbortSignal.timeout(trialMs)]),
    limits: { peers: 1, aheadBytes: 0, leastBytesPerSecond: 0 },
  });
  fetch.addPeers([peer]);
  fetch.noMorePeers();
  // Its hash was checked; leaving the loop closes the connection.
  for await (const _ of fetch) return;
}

function choose(
  torrentOf: (ordinal: number) => Torrent | undefined,
  random: () => number,
  held: Bitmap,
): Torrent | undefined {
  let best: Torrent | undefined;
  let found = 0;
  for (let draw = 0; draw < drawsMax && found < candidates; draw++) {
    const torrent = torrentOf(randomOf(held, random));
    if (torrent === undefined) continue;
    found++;
    if (best === undefined || bytesOfPiece(torrent) < bytesOfPiece(best)) best = torrent;
  }
  return best;
}

function bytesOfPiece({ length, pieceLength }: Torrent): number {
  return Math.min(length, pieceLength);
}

/** One of those that are in it: from a random place on. `held` is not empty. */
function randomOf(held: Bitmap, random: () => number): number {
  const start = Math.floor(random() * held.length);
  for (let step = 0; step < held.length; step++) {
    const ordinal = (start + step) % held.length;
    if (held.has(ordinal)) return ordinal;
  }
  return start;
}
