/** What is remembered about peers from one fetch to the next, and who is tried first. */

import type { PeerAddress } from '../address/peer-address.ts';
import { isNear } from '../local/local-networks.ts';
import type { FetchPeer } from './fetch-peer.ts';

/** How fast a peer was, measured over one connection. */
export interface PeerPace {
  readonly bytesPerSecond: number;
  /** From the request of a block to its end, the least that was seen. */
  readonly roundTripMs: number;
}

/** Why a peer is left alone: it sent bytes that are not those of the torrent, or what no sane peer sends. */
export type BanReason = 'wrong-bytes' | 'wire-violation';

/** Asked while sockets are read: it answers at once, from memory, and never throws. */
export interface PeerBook {
  isBanned(address: PeerAddress): boolean;
  ban(address: PeerAddress, why: BanReason): void;
  /** Told at the end of a connection that gave something. */
  gave(address: PeerAddress, pace: PeerPace): void;
  /** It showed its handshake. */
  reached(address: PeerAddress): void;
  /** It showed no handshake for the torrent: it would not (`refused`), which says nothing of other torrents, or could not be reached in time. */
  missed(address: PeerAddress, refused: boolean): void;
  /** It had shown no handshake after so many milliseconds, when it was not needed any more. Many such waits are as good as one long one. */
  unanswered(address: PeerAddress, ms: number): void;
  /** It could not be reached a moment ago: not worth a try as long as there is anybody else to ask. */
  rests(address: PeerAddress): boolean;
  /** What it gave lately. */
  paceOf(address: PeerAddress): PeerPace | undefined;
  /** The best first, those that are banned left out: the local network, known fast ones, the rest, those that were missed. */
  rank(addresses: readonly PeerAddress[]): PeerAddress[];
}

/** The order in which peers are tried when nothing is remembered. */
export function localFirst(addresses: readonly PeerAddress[]): PeerAddress[] {
  const local = (address: PeerAddress): number => (isNear(address.host) ? 0 : 1);
  return [...addresses].sort((a, b) => local(a) - local(b));
}

/** What a connection that has ended says of a peer. `sinceMs`: while it was being made; `byUs`: we did not want it any more. */
export function rememberEnd(
  book: PeerBook,
  { address, connected, refused, pace, violated }: FetchPeer,
  { sinceMs, byUs }: { sinceMs: number | undefined; byUs: boolean },
): void {
  const { bytesPerSecond, roundTripMs = 0, receivedBytes } = pace;
  if (violated) book.ban(address, 'wire-violation');
  else if (receivedBytes > 0) book.gave(address, { bytesPerSecond, roundTripMs });
  else if (connected || sinceMs === undefined) return;
  else if (byUs) book.unanswered(address, performance.now() - sinceMs);
  else book.missed(address, refused);
}
