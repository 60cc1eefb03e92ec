/** What a fetch is told, and what it gives. */

import type { PeerAddress } from '../address/peer-address.ts';
import type { Torrent } from '../torrent/torrent.ts';
import type { FetchLimits } from './fetch-limits.ts';
import type { FetchShare } from './fetch-peer-options.ts';
import type { HashThread } from './hash-thread.ts';
import type { PeerBook } from './peer-book.ts';

/** How long no byte may come before the swarm counts as stalled. */
export const stallDefaultMs = 500;

export interface TorrentFetchOptions {
  torrent: Torrent;
  /** Offset in the file; the piece that holds it comes first. 0 by default. */
  fromByte?: number;
  /** Offset of the first byte that is not wanted; the piece that holds the one before comes last. The whole file by default. */
  toByte?: number;
  stallMs?: number;
  /** 20 bytes; whoever shows the same is ourselves. That of `share`, or a new one, by default. */
  peerId?: Buffer;
  signal?: AbortSignal;
  limits?: Partial<FetchLimits>;
  /** When what is fetched is shared with other peers meanwhile. */
  share?: TorrentFetchShare;
  /**
   * Connects, shakes hands and says that it is interested, but asks for nothing until it is iterated or `start` is called. Closed when
   * neither happens within `FetchLimits.holdMs`.
   */
  hold?: boolean;
  /** What is known of peers from before; without one nothing is, and nothing is remembered. */
  book?: PeerBook | undefined;
  /** Hashes large pieces; without one they are hashed by Node's own threads. */
  hashes?: HashThread | undefined;
}

export interface TorrentFetchShare extends FetchShare {
  /** Of the server that shares it: whoever shows the same is ourselves. 20 bytes. */
  readonly peerId: Buffer;
  /** Whether it is shared with this peer, too; with all by default. */
  with?(address: PeerAddress): boolean;
  /** A piece is whole and right, long before its turn to be given out perhaps. `bytes` do not change any more. */
  onVerified(index: number, bytes: Buffer): void;
}

export interface VerifiedPiece {
  index: number;
  /** Of its first byte in the file. */
  offset: number;
  bytes: Buffer;
  /** Who sent it, `host:port`. */
  peers: string[];
}

export interface FetchStats {
  /** Bytes of blocks, spoilt ones and doubles included. */
  downloadedBytes: number;
  /** Those of them that were of no use: what several peers were asked for, and what was cut off. */
  unusedBytes: number;
  /** Connections that showed a handshake. */
  peers: number;
  /** Addresses that sent wrong bytes. */
  banned: string[];
}
