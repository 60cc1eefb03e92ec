/** What a peer is asked for beside the others that give the same torrent. Decisions only. */

import { blockBytes } from '../wire/limits.ts';
import { type BlockRequest, blocksOf } from '../wire/wire-encode.ts';
import type { DealPatience } from './deal-patience.ts';
import type { FetchLimits } from './fetch-limits.ts';
import type { FetchPeer } from './fetch-peer.ts';
import type { PieceWindow } from './piece-window.ts';

export interface Asking {
  readonly window: PieceWindow;
  /** All of them. */
  readonly peers: ReadonlyMap<string, FetchPeer>;
  readonly limits: FetchLimits;
  readonly patience: DealPatience;
  /** What is fetched is shared with the others meanwhile. */
  readonly shared: boolean;
  /** The next piece is waited for. */
  readonly waiting: boolean;
  readonly nowMs: number;
}

/** At most `appetite` blocks; `all` when they are as many. */
export function blocksFor(
  peer: FetchPeer,
  appetite: number,
  asking: Asking,
): { blocks: BlockRequest[]; all: boolean } {
  const { window, peers, limits, patience, shared, waiting, nowMs } = asking;
  const has = (index: number): boolean =>
    peer.offers(index) || (peer.has(index) && patience.isOver(index === window.first, nowMs));
  const dueMs = nowMs + 2 * peer.expectMs + limits.slackMs;
  const overtakeMax = Math.min(appetite, limits.overtakeRequests);
  const blocks: BlockRequest[] = [];
  // What is waited for and overdue comes before what is not asked for yet.
  if (waiting && peers.size > 1) {
    blocks.push(...window.overtake(peer.key, has, overtakeMax, { nowMs, dueMs, firstOnly: true }));
  }
  const how = shared && !peer.deals ? { spread: Math.random() } : { skipBytes: leftToOthers(peer, asking) };
  makeRoom(asking);
  // What several may have to take over from each other is asked for in small blocks.
  const togetherMax = peers.size === 1 ? peer.togetherMax : 1;
  blocks.push(...window.take(peer.key, has, appetite - blocks.length, { dueMs, togetherMax, ...how }));
  const all = blocks.reduce((sum, block) => sum + blocksOf(block), 0) === appetite;
  // Nothing is left that nobody was asked for: an idle peer may overtake a slow one.
  if (blocks.length === 0 && peer.waitingFor === 0 && peers.size > 1) {
    blocks.push(...window.overtake(peer.key, has, overtakeMax, { nowMs, dueMs }));
  }
  return { blocks, all };
}

/** What all paths hold twice over has to fit, so that none of them waits for the reader. */
function makeRoom({ window, peers, limits }: Asking): void {
  const { aheadBytes, aheadMaxBytes } = limits;
  let blocks = 0;
  for (const { pace } of peers.values()) blocks += pace.bytesPerSecond > 0 ? pace.window : 0;
  window.makeRoom(
    Math.min(Math.max(2 * blocks * blockBytes, aheadBytes), Math.max(aheadBytes, aheadMaxBytes)),
  );
}

/** Bytes that the others will have got before a slow peer gives anything: it works on what comes after that. */
function leftToOthers(peer: FetchPeer, { peers, limits }: Asking): number {
  if (peers.size === 1 || !peer.proven) return 0;
  let quickestMs = Number.POSITIVE_INFINITY;
  let bytesPerMs = 0;
  for (const other of peers.values()) {
    if (other === peer || !other.proven || other.waitingFor === 0) continue;
    quickestMs = Math.min(quickestMs, other.expectMs);
    bytesPerMs += other.pace.bytesPerSecond / 1_000;
  }
  const laterMs = peer.expectMs - 2 * quickestMs - limits.slackMs;
  return laterMs > 0 ? laterMs * bytesPerMs : 0;
}
