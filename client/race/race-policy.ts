/**
 * Who is asked for the bytes of a NAR file, when another is asked as well, and who is stopped. Pure: it looks at what the legs have done
 * and says what is to be done; others act. Times are milliseconds of any clock that goes forward.
 *
 * A *leg* is one source giving the file from one byte on. The *front* is the first byte that nobody has given yet.
 */

import type { RaceLimits } from '../config.ts';
import type { LegReason } from '../story.ts';
import type { PastView } from './source-past.ts';

/** NAR files up to this size are over in a round trip or two: a peer that is not connected cannot be faster. */
export const tinyBytes = 256 * 1024;

/** Legs of one NAR file at once: one that is late, the one that was to help it, and one more when that does not do either. */
export const legsMax = 3;

/** A source is late after so many times what it takes 9 in 10 times: now and then everybody is slow. */
const lateFactor = 2;

/** A source that gives less than this part of what it usually does is slow. */
const slowShare = 0.5;
/** Also one that gives less than this part of what another one usually does: the other could be there already. */
const slowBesideShare = 0.7;
/** Milliseconds of waiting over which speed is looked at. */
const slowMs = 400;
/** What is left must take at least this long for a change to pay. */
const slowWorthMs = 500;
/** Beside one of which it is not known how fast it is, so long: HTTP that was not tried yet, peers that broke off. Then it is known. */
const unknownWorthMs = 1_000;

/** One leg may be behind another, with bytes that come too late, for so long. */
const overlapMs = 300;
/** And who was asked to help a slow one may take so long to its first byte, if nothing is known of it. */
const helpMs = 600;
/** The swarm takes over when it is nearly as fast as HTTP, so that the upstream is spared; the other way round it must be faster. */
const spareShare = 0.8;

/** The least until a peer gives its first piece after it was asked, while nothing is known of it. */
const leadUnknownMs = 100;
/** Whoever was silent for so long may have stopped: one that comes then begins at the front. */
const stoppedMs = 100;
/** How much longer than usual it may take before it is overtaken: what it then fetched was in vain. */
const leadFactor = 1.5;

export interface LegView {
  readonly kind: 'swarm' | 'http';
  /**
   * The moves: `opening` → `holding` when nobody can give yet, or `asked`; `holding` → `asked`; `asked` → `giving` at its first byte.
   * Only legs of a swarm hold: they have asked for nothing yet.
   */
  readonly state: 'opening' | 'holding' | 'asked' | 'giving';
  readonly startedMs: number;
  /** It was asked because the one before it was slow. */
  readonly helpsSlow: boolean;
  /** When it was asked for bytes. */
  readonly askedMs: number;
  /** What it gives next is at or before the front: it is waited for. */
  readonly atFront: boolean;
  /** Its bytes were the last that the front moved by. */
  readonly leads: boolean;
  /** Since when nothing came from it although it was waited for; `undefined` while it is kept from giving more. */
  readonly silentSinceMs: number | undefined;
  /** Since when it gives what others gave before; `undefined` when it does not. */
  readonly behindSinceMs: number | undefined;
  /** Bytes a millisecond of late, while they were wanted; `undefined` until there is enough to tell. */
  readonly bytesPerMs: number | undefined;
  /** All that is missing has come from it, or as much as may wait. */
  readonly filled: boolean;
  readonly past: PastView;
}

export interface RaceView {
  readonly limits: RaceLimits;
  readonly nowMs: number;
  /** Bytes behind the front, `undefined` when the size is not known. */
  readonly missingBytes: number | undefined;
  readonly tiny: boolean;
  readonly legs: readonly LegView[];
  /** Who would be asked next. */
  readonly next:
    | {
        readonly kind: 'swarm' | 'http';
        readonly past: PastView;
        readonly usedWhenSlow: boolean;
        /** It failed, and may be there again. */
        readonly brokeOff: boolean;
        /** It has given enough before that for it to be worth asking again. */
        readonly gave: boolean;
      }
    | undefined;
}

/** Another leg is to start now, or this is to be looked at again at `lookMs`. */
export interface Joining {
  readonly why?: LegReason;
  readonly lookMs?: number;
}

/** Whether another leg is to join those that run. Only for a race in which somebody runs. */
export function joining(view: RaceView): Joining {
  const { legs, next, nowMs } = view;
  const waitedFor = legs.filter(({ atFront }) => atFront);
  if (next === undefined || legs.length >= legsMax || waitedFor.length === 0) return {};
  // Peers that gave until they broke off are there again before a cache that is only just asked has answered.
  const justAsked = waitedFor.every(({ kind, state }) => kind === 'http' && state === 'asked');
  if (justAsked && waitedFor.length === legs.length && next.kind === 'swarm' && next.brokeOff && next.gave)
    return { why: 'failed' };
  let lookMs = 0;
  let why: LegReason = 'late';
  for (const leg of waitedFor) {
    const atMs = lateAtMs(leg, view, next.kind);
    if (leg.state === 'holding' || leg.state === 'opening') why = leg.kind === 'swarm' ? 'no-live-peer' : why;
    lookMs = Math.max(lookMs, atMs);
  }
  // Each of them: who was asked because another one is late is given its own time.
  if (lookMs <= nowMs) return { why };
  const giving = waitedFor.filter(({ state }) => state === 'giving');
  if (waitedFor.length === 1 && giving[0] !== undefined) {
    if (isSlow(giving[0], view)) return { why: 'slow' };
    // The rate is looked at while bytes come, and they wake whoever looks.
  }
  return Number.isFinite(lookMs) ? { lookMs } : {};
}

function lateAtMs(leg: LegView, view: RaceView, next: 'swarm' | 'http'): number {
  const { limits, tiny, nowMs } = view;
  const { kind, state, past, silentSinceMs = nowMs } = leg;
  if (kind === 'swarm' && (state === 'opening' || state === 'holding')) {
    // Another swarm has no better chance at once.
    return leg.startedMs + (next === 'http' ? limits.liveWithinMs : limits.lateFirstByteMs);
  }
  if (state === 'giving') return silentSinceMs + late(past.gapP90Ms, limits.lateGapMs, limits);
  if (tiny && kind === 'swarm' && next === 'http') {
    const usualMs = Math.max(limits.liveWithinMs, past.firstByteP90Ms ?? 0);
    // Peers that were silent do not make it wait longer for the next.
    return silentSinceMs + Math.min(usualMs, late(past.answeredP90Ms, limits.lateLeastMs, limits));
  }
  return silentSinceMs + late(past.answeredP90Ms, limits.lateFirstByteMs, limits);
}

function late(p90Ms: number | undefined, unknownMs: number, limits: RaceLimits): number {
  if (p90Ms === undefined) return unknownMs;
  return Math.min(limits.lateMostMs, Math.max(limits.lateLeastMs, p90Ms * lateFactor));
}

function isSlow(leg: LegView, { next, missingBytes }: RaceView): boolean {
  const { bytesPerMs, past } = leg;
  if (bytesPerMs === undefined || next === undefined || next.usedWhenSlow) return false;
  const leftMs = missingBytes === undefined ? undefined : missingBytes / bytesPerMs;
  if (leftMs !== undefined && leftMs < slowWorthMs) return false;
  // A swarm that HTTP has beaten is not asked for it again.
  const worthTrying = leg.kind !== next.kind && (next.kind === 'http' || next.brokeOff);
  const unknown = worthTrying && next.past.bytesPerMs === undefined;
  if (unknown && leftMs !== undefined && leftMs > unknownWorthMs) return true;
  const usual = (past.bytesPerMs ?? 0) * slowShare;
  const beside = (next.past.bytesPerMs ?? 0) * slowBesideShare;
  return bytesPerMs < Math.max(usual, beside);
}

/** Milliseconds of waiting over which `LegView.bytesPerMs` is to be taken. */
export const rateOverMs = slowMs;

/** Which legs are to be stopped, by their place in `legs`; and when to look again at the others. */
export function beaten(legs: readonly LegView[], nowMs: number): { stop: number[]; lookMs?: number } {
  const leader = legs.find(({ leads }) => leads);
  const stop: number[] = [];
  let lookMs = Number.POSITIVE_INFINITY;
  if (leader === undefined) return { stop };
  for (const [at, leg] of legs.entries()) {
    // Whoever is ahead of the front may take over yet, and who holds costs nothing.
    if (leg === leader || !leg.atFront || leg.state === 'holding') continue;
    if (leg.kind === 'swarm' && leg.state === 'opening') continue;
    const untilMs = mayOvertakeUntilMs(leader, leg);
    if (untilMs <= nowMs) stop.push(at);
    else lookMs = Math.min(lookMs, untilMs);
  }
  return Number.isFinite(lookMs) ? { stop, lookMs } : { stop };
}

/** How long a leg behind the leading one gets. */
function mayOvertakeUntilMs(leader: LegView, leg: LegView): number {
  const gives = leg.state === 'giving';
  const sinceMs = Math.max(leg.askedMs, leg.behindSinceMs ?? leg.askedMs);
  if (!gives) {
    // It was asked because the leading one is silent, and that still is.
    if ((leader.silentSinceMs ?? leg.startedMs) < leg.startedMs) return Number.POSITIVE_INFINITY;
    // The swarm leads, or a cache beside a cache: whoever has nothing to show has lost.
    if (!leg.helpsSlow && (leg.kind === 'http' || leader.kind === 'swarm')) return 0;
    const usualMs = (leg.past.firstByteP90Ms ?? 0) * lateFactor;
    return sinceMs + Math.max(leg.helpsSlow ? helpMs : overlapMs, usualMs);
  }
  if (leader.filled) return 0;
  if (leader.bytesPerMs === undefined || leg.bytesPerMs === undefined) return sinceMs + overlapMs;
  const share = leader.kind === 'swarm' && leg.kind === 'http' ? spareShare : 1;
  // A faster one will overtake.
  return leader.bytesPerMs >= leg.bytesPerMs * share ? 0 : Number.POSITIVE_INFINITY;
}

/**
 * Where a leg of the swarm that can be asked now begins beside another one that runs: as far ahead as that one will be when the first
 * piece comes, so that it takes over there and little is fetched twice. `undefined` when nothing would be left for it.
 */
export function startAhead(options: {
  nowMs: number;
  front: number;
  sizeBytes: number;
  pieceLength: number;
  past: PastView;
  /** What it took until it could be asked: several round trips, of which the first piece takes one or two. */
  reachedMs: number;
  running: LegView | undefined;
}): number | undefined {
  const { nowMs, front, sizeBytes, pieceLength, past, reachedMs, running } = options;
  if (running === undefined) return front;
  const usualMs = running.state === 'giving' ? 0 : (running.past.firstByteMs ?? 0);
  if (nowMs - (running.silentSinceMs ?? nowMs) - usualMs > stoppedMs) return front;
  const leadMs = (past.firstByteMs ?? Math.max(leadUnknownMs, reachedMs)) * leadFactor;
  const rate = running.bytesPerMs ?? running.past.bytesPerMs;
  // Nothing is known of who runs: they race.
  if (rate === undefined) return front;
  const firstByteMs =
    running.state === 'giving' ? nowMs : running.startedMs + (running.past.firstByteMs ?? 0);
  const meanwhile = Math.max(0, nowMs + leadMs - Math.max(nowMs, firstByteMs)) * rate;
  const ahead = Math.ceil((front + meanwhile) / pieceLength) * pieceLength;
  const before = Math.floor((front + meanwhile) / pieceLength) * pieceLength;
  // A slow one would take long to the next piece: then this one is fetched whole.
  const waitMs = (ahead - front - meanwhile) / rate;
  const from = waitMs > leadMs * 2 ? Math.max(front, before) : ahead;
  return from < sizeBytes ? from : undefined;
}

/** Who begins. */
export function opening(options: {
  tiny: boolean;
  /** A source of the swarm that could be asked; `warm` when somebody there can give at once. */
  swarm: { warm: boolean } | undefined;
  http: boolean;
}): { kind: 'swarm' | 'http'; why: LegReason } | undefined {
  const { tiny, swarm, http } = options;
  if (!http) return swarm && { kind: 'swarm', why: 'no-http' };
  if (swarm === undefined) return { kind: 'http', why: 'peers-unknown' };
  if (!tiny) return { kind: 'swarm', why: 'peers-known' };
  return swarm.warm ? { kind: 'swarm', why: 'tiny-warm' } : { kind: 'http', why: 'tiny-cold' };
}
