/**
 * Who is unchoked when a rate is too low for all. Pure: looked at now and then, over those who want something.
 *
 * By address in turns, so that a second connection of an address comes after the first of every other. Who has a slot keeps it for a
 * while, then it goes to whoever has waited longest.
 */
import type { UploadLimits } from './upload-limits.ts';

export interface SlotCandidate {
  /** See `addressKey`. */
  readonly address: string;
  /** Other seeds of its torrent; fewer come first where torrents compete. */
  readonly rarity: number;
  readonly unchoked: boolean;
  /** Since when it is unchoked, or wants to be. */
  readonly sinceMs: number;
  /** When it last asked for something or got something. */
  readonly activeMs: number;
}

/** Peers that `bytesPerSecond` is enough for, within bounds. */
export function slotsFor(
  bytesPerSecond: number,
  bounds: { min: number; max: number },
  limits: UploadLimits,
): number {
  return Math.min(Math.max(Math.floor(bytesPerSecond / limits.slotBytesPerSecond), bounds.min), bounds.max);
}

/** Those that get one of `slots`. */
export function chooseSlots<Candidate extends SlotCandidate>(
  candidates: readonly Candidate[],
  slots: number,
  nowMs: number,
  limits: UploadLimits,
): Candidate[] {
  if (candidates.length <= slots) return [...candidates];
  const rank = (candidate: Candidate): number => {
    if (!candidate.unchoked) return 1;
    const rests = nowMs - candidate.activeMs >= limits.slotIdleMs;
    return rests || nowMs - candidate.sinceMs >= limits.slotMs ? 2 : 0;
  };
  const order = (a: Candidate, b: Candidate): number =>
    a.rarity - b.rarity || rank(a) - rank(b) || a.sinceMs - b.sinceMs;
  const perAddress = new Map<string, number>();
  const turns = candidates.toSorted(order).map((candidate) => {
    const turn = perAddress.get(candidate.address) ?? 0;
    perAddress.set(candidate.address, turn + 1);
    return { candidate, turn };
  });
  return turns
    .sort((a, b) => a.turn - b.turn || order(a.candidate, b.candidate))
    .slice(0, slots)
    .map(({ candidate }) => candidate);
}
