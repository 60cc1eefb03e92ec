/** One source giving a NAR file from one byte on: what it gave, how fast, and what of it still waits for its turn. */

import {
  type LegEnd,
  type LegReason,
  type StoryLeg,
  storyErrorMaxCharacters,
  storyPeersMax,
} from '../story.ts';
import { Bell } from '../waiting.ts';
import type { ByteChecker } from './byte-checker.ts';
import type { NarSource } from './nar-source.ts';
import { type LegView, rateOverMs } from './race-policy.ts';
import { rateStretchBytes, type SourcePast } from './source-past.ts';

/** Bytes ahead of the front that wait here; more stay where they are, with the fetcher or in the network. */
export const waitingMaxBytes = 2 * 1024 * 1024;

export class Leg {
  readonly source: NarSource;
  readonly why: LegReason;
  readonly startedMs: number;
  readonly past: SourcePast;
  readonly stopping = new AbortController();
  /** Rung when there is room again, and when it need not hold any longer. */
  readonly bell = new Bell();
  /** In order, without gaps up to `at`. */
  readonly waiting: { start: number; bytes: Buffer }[] = [];
  waitingBytes = 0;
  state: LegView['state'];
  /** Where it began. */
  fromByte: number;
  /** The next byte that it gives. */
  at: number;
  /** It is to ask for bytes although nobody is known to be able to give them. */
  released = false;
  /** How it ended. */
  end: LegEnd | undefined;
  /** Its bytes were the last that the front moved by. */
  leads = false;
  usedBytes = 0;
  /** What came from it, right or wrong. */
  receivedBytes = 0;
  /** What lets its bytes through, unless the source itself has looked at them. */
  checker: ByteChecker | undefined;
  /** Its bytes were compared with the torrent. */
  byTorrent = false;
  /** Bytes that came to the source, those included that it has not given yet. */
  receives: (() => number) | undefined;
  #askedMs: number;
  #firstByteMs: number | undefined;
  #endedMs: number | undefined;
  #error: string | undefined;
  readonly #peers = new Set<string>();
  /** Since when something is waited for. */
  #waitsSinceMs: number | undefined;
  #behindSinceMs: number | undefined;
  #heardBytes = 0;
  #heardMs = 0;
  #arrivedMs = 0;
  /** It was kept from giving more for so long since then. */
  #keptMs = 0;
  /** What came since the rate was looked at last, and what of it counts for the source's past. */
  #stretch = { bytes: 0, ms: 0 };
  #pastStretch = { bytes: 0, ms: 0 };
  #bytesPerMs: number | undefined;

  constructor(options: {
    source: NarSource;
    why: LegReason;
    fromByte: number;
    nowMs: number;
    past: SourcePast;
  }) {
    this.source = options.source;
    this.why = options.why;
    this.fromByte = options.fromByte;
    this.at = options.fromByte;
    this.startedMs = options.nowMs;
    this.past = options.past;
    this.state = options.source.kind === 'http' ? 'asked' : 'opening';
    this.#askedMs = options.nowMs;
    if (this.state === 'asked') this.#waitsSinceMs = options.nowMs;
  }

  /** It asks for bytes from `fromByte` on. */
  asks(fromByte: number, nowMs: number): void {
    this.state = 'asked';
    this.released = true;
    this.fromByte = fromByte;
    this.at = fromByte;
    this.#askedMs = nowMs;
    this.#waitsSinceMs = nowMs;
  }

  /** The next bytes are waited for. */
  waits(nowMs: number): void {
    this.#waitsSinceMs ??= nowMs;
  }

  /** Bytes came from it; whether they are right is another question. */
  arrived(bytes: number, peers: readonly string[] | undefined, nowMs: number): void {
    const waitedMs = nowMs - (this.#waitsSinceMs ?? nowMs);
    this.#waitsSinceMs = undefined;
    this.receivedBytes += bytes;
    const arrivedMs = this.#arrivedMs;
    this.#arrivedMs = nowMs;
    for (const peer of peers ?? []) if (this.#peers.size < storyPeersMax) this.#peers.add(peer);
    if (this.state !== 'giving') {
      this.state = 'giving';
      this.#firstByteMs = nowMs;
      this.past.tookToFirstByte(nowMs - this.#askedMs);
      return;
    }
    this.past.waited(waitedMs);
    // Not only what was waited: what came while the computer was busy did not come in no time.
    this.#measure(bytes, Math.max(0, nowMs - arrivedMs - this.#keptMs));
    this.#keptMs = 0;
  }

  /** There was no room for what it gives. */
  kept(ms: number): void {
    this.#keptMs += ms;
  }

  /** Whoever sends bytes of a piece that is not whole yet is not silent. */
  #hear(nowMs: number): void {
    const received = this.receives?.() ?? 0;
    if (received === this.#heardBytes) return;
    this.#heardBytes = received;
    if (this.#waitsSinceMs !== undefined) this.#heardMs = nowMs;
  }

  #measure(bytes: number, ms: number): void {
    for (const stretch of [this.#stretch, this.#pastStretch]) {
      stretch.bytes += bytes;
      stretch.ms += ms;
    }
    if (this.#pastStretch.bytes >= rateStretchBytes * 4) this.#tellPast();
    const { bytes: stretchBytes, ms: stretchMs } = this.#stretch;
    if (stretchMs < rateOverMs && stretchBytes < rateStretchBytes * 4) return;
    this.#bytesPerMs = rateOf(this.#stretch);
    this.#stretch = { bytes: 0, ms: 0 };
  }

  #tellPast(): void {
    this.past.gave(this.#pastStretch.bytes, this.#pastStretch.ms);
    this.#pastStretch = { bytes: 0, ms: 0 };
  }

  /** Bytes that are right, in their turn or not. */
  push(bytes: Buffer): void {
    this.waiting.push({ start: this.at, bytes });
    this.waitingBytes += bytes.length;
    this.at += bytes.length;
  }

  /** Of what waits, the bytes at the front; what others gave before is dropped. */
  shiftAt(front: number, nowMs: number): Buffer | undefined {
    for (let first = this.waiting[0]; first !== undefined; first = this.waiting[0]) {
      if (first.start > front) return undefined;
      this.waiting.shift();
      this.waitingBytes -= first.bytes.length;
      const late = Math.min(front - first.start, first.bytes.length);
      if (late < first.bytes.length) {
        this.#behindSinceMs = undefined;
        return late === 0 ? first.bytes : first.bytes.subarray(late);
      }
      this.#behindSinceMs ??= nowMs;
    }
    return undefined;
  }

  stop(end: LegEnd, nowMs: number, reason: Error): void {
    if (this.end !== undefined) return;
    this.ended(end, nowMs);
    this.stopping.abort(reason);
  }

  ended(end: LegEnd, nowMs: number, error?: Error & { code?: string }): void {
    if (this.end !== undefined) return;
    this.end = end;
    this.#hear(nowMs);
    this.#endedMs = nowMs;
    // Whoever was beaten before its first byte took at least so long.
    if (end === 'beaten' && this.state === 'asked') this.past.tookAtLeast(nowMs - this.#askedMs);
    this.waiting.length = 0;
    this.waitingBytes = 0;
    if (this.#pastStretch.bytes >= rateStretchBytes) this.#tellPast();
    if (error !== undefined) {
      this.#error = `${error.code ?? error.name}: ${error.message}`.slice(0, storyErrorMaxCharacters);
    }
  }

  view(front: number, sizeBytes: number | undefined, nowMs: number): LegView {
    if (this.state === 'asked' && this.at < front) this.#behindSinceMs ??= nowMs;
    this.#hear(nowMs);
    const waitsSinceMs = this.#waitsSinceMs;
    const stretch = this.#stretch.bytes >= rateStretchBytes ? rateOf(this.#stretch) : undefined;
    return {
      kind: this.source.kind,
      state: this.state,
      startedMs: this.startedMs,
      helpsSlow: this.why === 'slow',
      askedMs: this.#askedMs,
      atFront: (this.waiting[0]?.start ?? this.at) <= front,
      leads: this.leads,
      silentSinceMs: waitsSinceMs && Math.max(waitsSinceMs, this.#heardMs),
      behindSinceMs: this.#behindSinceMs,
      bytesPerMs: this.#bytesPerMs ?? stretch,
      filled: this.waitingBytes >= waitingMaxBytes || this.at === sizeBytes,
      past: this.past.view(),
    };
  }

  story(startMs: number, nowMs: number): StoryLeg {
    return {
      source: this.source.name,
      kind: this.source.kind,
      why: this.why,
      fromByte: this.fromByte,
      startedMs: round(this.startedMs - startMs),
      ...(this.#firstByteMs !== undefined && { firstByteMs: round(this.#firstByteMs - startMs) }),
      endedMs: round((this.#endedMs ?? nowMs) - startMs),
      usedBytes: this.usedBytes,
      unusedBytes: Math.max(0, Math.max(this.receivedBytes, this.#heardBytes) - this.usedBytes),
      end: this.end ?? 'stopped',
      ...(this.#error !== undefined && { error: this.#error }),
      ...(this.#peers.size > 0 && { peers: [...this.#peers] }),
    };
  }
}

function rateOf({ bytes, ms }: { bytes: number; ms: number }): number {
  return bytes / Math.max(ms, 0.1);
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}
