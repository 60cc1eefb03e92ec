/** What a connection to a peer is told, and what is heard of it. */

import type { PeerAddress } from '../address/peer-address.ts';
import type { Torrent } from '../torrent/torrent.ts';
import type { BlockRequest } from '../wire/wire-encode.ts';
import type { FetchLimits } from './fetch-limits.ts';
import type { FetchPeer } from './fetch-peer.ts';
import type { PeerPace as RememberedPace } from './peer-book.ts';

export interface FetchPeerOptions {
  address: PeerAddress;
  /** Names the peer in `address`. */
  key: string;
  torrent: Torrent;
  peerId: Buffer;
  limits: FetchLimits;
  events: FetchPeerEvents;
  /** Blocks that it is asked for at first. */
  startRequests: number;
  /** What it gave lately. */
  known?: RememberedPace | undefined;
  /** When what is fetched is shared: what there is already, and where others get it. */
  share?: FetchShare | undefined;
}

/** What peers are told by who shares what it fetches. */
export interface FetchShare {
  /** Where others may connect to. */
  readonly listenPort: number;
  /** One bit for each piece that is there. */
  bits(): Buffer;
}

/** What happens on the connection. Called while a socket is read: it records and decides, and waits for nothing. */
export interface FetchPeerEvents {
  /** It made a step towards giving something: its handshake, its first unchoke. */
  progressed(peer: FetchPeer): void;
  /** It may be asked for something, or for more. */
  ready(peer: FetchPeer): void;
  blockBegins(peer: FetchPeer, block: BlockRequest): void;
  /** See `WireVisitor.piecePlace`. */
  blockPlace(peer: FetchPeer, block: BlockRequest, offset: number): Buffer | undefined;
  blockBytes(peer: FetchPeer, block: BlockRequest, bytes: Buffer, offset: number): void;
  blockEnds(peer: FetchPeer, block: BlockRequest): void;
  /** Blocks that it was asked for and will not send. */
  lost(peer: FetchPeer, blocks: BlockRequest[]): void;
  /** Last of all, and once. */
  closed(peer: FetchPeer): void;
  /** A fault of ours, not of the peer. */
  fault(error: unknown): void;
}
