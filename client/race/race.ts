/**
 * Fetches one NAR file from sources that race, help and replace each other. Each runs as a leg from a byte of its own on; bytes behind
 * the front are dropped, those ahead of it wait. When and whom is decided in race-policy.ts; here they are started and stopped.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { isNarswarmError, NarswarmError } from '../../nar/errors.ts';
import type { LegEnd, LegReason } from '../story.ts';
import { aborted } from '../waiting.ts';
import type { LaterPlan, RaceOptions, RaceResult } from './nar-plan.ts';
import type { NarSource } from './nar-source.ts';
import { asNarswarmError, RaceFailures } from './race-failures.ts';
import { RaceFront } from './race-front.ts';
import { Leg } from './race-leg.ts';
import { beaten, joining, type LegView, legsMax, opening, startAhead, tinyBytes } from './race-policy.ts';
import { RacePump } from './race-pump.ts';
import { SourcePlan } from './source-plan.ts';

/** Before a source that failed is tried again: longer each time. */
const retryDelayMs = 100;

/** For the end of a body whose last byte is here, so that its connection can be used again. */
const endOfBodyMs = 250;

/** A leg without a torrent begins at a multiple of it when it begins ahead. */
const aheadStepBytes = 64 * 1024;

/** Milliseconds that HTTP must still need for a swarm that becomes known meanwhile to be connected to. */
const joinWorthMs = 100;

/** Made once: where they come from says nothing, and finding it out takes as long as the rest of a race. */
const fileIsHere = new NarswarmError('aborted', 'the file is here');
const anotherWasFaster = new NarswarmError('aborted', 'another source was faster');

export class Race {
  /** Also those that have ended, in the order of their start. */
  readonly legs: Leg[] = [];
  readonly #options: RaceOptions;
  readonly #plan: SourcePlan<NarSource>;
  readonly #pumps: Promise<void>[] = [];
  readonly #result = Promise.withResolvers<RaceResult>();
  readonly #front: RaceFront;
  readonly #pump: RacePump;
  readonly #failures: RaceFailures;
  readonly #lastResorts: Set<NarSource>;
  /** How often each was asked to help a slow one, since it last broke off after it had given something. */
  readonly #slowJoins = new Map<NarSource, number>();
  /** Those that gave something that was worth it. */
  readonly #gave = new Set<NarSource>();
  #running: Leg[] = [];
  #later: boolean;
  #looksWhenMoved = false;
  #lastEnd: LegReason | undefined;
  #timer: NodeJS.Timeout | undefined;
  #over = false;

  constructor(options: RaceOptions) {
    const { plan, limits } = options;
    this.#options = options;
    this.#plan = new SourcePlan(this.#usable(plan.sources), this.#usable(plan.lastResorts), limits);
    this.#lastResorts = new Set(plan.lastResorts);
    this.#front = new RaceFront({
      ...options,
      // A beginning is compared with it first.
      torrent: options.assembly.appended === 0 ? plan.torrent : undefined,
      legs: () => this.#running,
      onMoved: () => {
        if (!this.#looksWhenMoved || this.#over) return;
        this.#looksWhenMoved = false;
        this.#look();
      },
      onLead: () => {
        if (this.#running.length > 1) queueMicrotask(() => this.#look());
      },
      onComplete: (leg) => this.#completed(leg),
      onFailed: (error) => this.#spoilt(error),
    });
    this.#failures = new RaceFailures({ ...options, sources: this.#plan });
    this.#pump = new RacePump({
      assembly: options.assembly,
      front: this.#front,
      patient: (leg) => leg.source.kind === 'swarm' && !this.#hopesForHttp(leg),
      begin: ({ past }, nowMs, reachedMs) => this.#ahead(past.view(), nowMs, reachedMs),
      contested: () => this.#running.length > 1,
      onChange: () => this.#look(),
      onLate: (leg) => {
        this.#stop(leg, 'beaten');
        // It can be asked again when the other one stops after all.
        this.#look();
      },
      onAbsent: (leg) => this.#absent(leg),
      onFinished: (leg) => this.#finished(leg),
    });
    this.#later = plan.later !== undefined;
  }

  /** Until the file is complete or no source is left. Throws `aborted`, and `store-failed` when the disk is in the way. Once. */
  async run(): Promise<RaceResult> {
    const { signal, plan, assembly } = this.#options;
    const onAbort = (): void => this.#fail(aborted(signal));
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      if (signal.aborted) throw aborted(signal);
      if (plan.later !== undefined && plan.holdMs !== undefined && plan.holdMs > 0)
        this.#front.hold(plan.holdMs);
      if (assembly.appended === 0 || (await this.#goesOn())) this.#open();
      void plan.later?.then((later) => this.#found(later));
      return await this.#result.promise;
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#over = true;
      this.#front.close();
      clearTimeout(this.#timer);
      await this.#settle();
    }
  }

  #usable(sources: readonly NarSource[]): NarSource[] {
    const { bad, fileHash, suspects } = this.#options;
    return sources.filter(({ name }) => !bad.has(fileHash, name) && !suspects.has(name));
  }

  /** Whether what is there already may be gone on with. */
  async #goesOn(): Promise<boolean> {
    const { torrent } = this.#options.plan;
    if (torrent === undefined) return true;
    if ((await this.#adopt({ torrent, sources: [], lastResorts: [] })) && !this.#over) return true;
    this.#spoilt(new NarswarmError('piece-mismatch', `what was released is not ${torrent.name}`));
    return false;
  }

  // Who runs

  #open(): void {
    const { why } = this.#options;
    const swarms = this.#options.plan.sources.filter(({ kind }) => kind === 'swarm');
    const warm = this.#usable(swarms).find((source) => source.warm?.() === true);
    const swarm = warm ?? this.#plan.first('swarm');
    const http = this.#plan.first('http');
    const begin = opening({
      tiny: this.#tiny,
      swarm: swarm && { warm: warm !== undefined },
      http: http !== undefined,
    });
    const source = begin?.kind === 'swarm' ? swarm : http;
    if (begin !== undefined && source !== undefined) this.#start(source, why ?? begin.why, 0);
    this.#look();
  }

  get #tiny(): boolean {
    return this.#front.sizeBytes !== undefined && this.#front.sizeBytes <= tinyBytes;
  }

  async #found(later: LaterPlan | undefined): Promise<void> {
    if (this.#over) return;
    const adopted = later !== undefined && (await this.#adopt(later));
    this.#later = false;
    if (this.#over) return;
    if (!adopted) this.#front.letGo();
    if (adopted) {
      const sources = this.#usable(later.sources);
      this.#plan.add(sources);
      this.#plan.addLastResorts(this.#usable(later.lastResorts));
      for (const source of later.lastResorts) this.#lastResorts.add(source);
      const [swarm] = sources;
      if (swarm !== undefined && this.#worthJoining()) this.#start(swarm, 'peers-found', 0);
    }
    this.#look();
  }

  async #adopt({ torrent }: LaterPlan): Promise<boolean> {
    try {
      return await this.#front.adopt(torrent);
    } catch (error) {
      this.#spoilt(error);
      return false;
    }
  }

  /** Whether a swarm may still be of use beside what runs. A tiny file is over before. */
  #worthJoining(): boolean {
    if (this.#tiny || this.#running.length === 0 || this.#running.length >= legsMax) return false;
    const [leader] = this.#views(performance.now()).filter(({ atFront }) => atFront);
    const rate = leader?.bytesPerMs ?? leader?.past.bytesPerMs;
    if (rate === undefined || this.#front.sizeBytes === undefined) return true;
    return (this.#front.sizeBytes - this.#front.byte) / rate > joinWorthMs;
  }

  /** Does what is due. */
  #look(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (let round = 0; !this.#over && round <= legsMax; round++) {
      const nowMs = performance.now();
      const views = this.#views(nowMs);
      const lost = beaten(views, nowMs);
      const losers = lost.stop.flatMap((at) => this.#running[at] ?? []);
      for (const leg of losers) this.#stop(leg, 'beaten');
      if (losers.length > 0) continue;
      if (!views.some(({ atFront }) => atFront)) {
        // Whoever gave what it is being moved by is there again in a moment.
        this.#looksWhenMoved = this.#front.advancing;
        if (this.#looksWhenMoved || !this.#replace()) return;
        continue;
      }
      const next = this.#helper(views);
      const join = joining({
        limits: this.#options.limits,
        nowMs,
        tiny: this.#tiny && !this.#options.ahead,
        missingBytes:
          this.#front.sizeBytes === undefined ? undefined : this.#front.sizeBytes - this.#front.byte,
        legs: views,
        next: next && {
          kind: next.source.kind,
          past: this.#options.pasts.of(next.source.name).view(),
          brokeOff: next.failures > 0,
          gave: this.#gave.has(next.source),
          usedWhenSlow: next.again || (this.#slowJoins.get(next.source) ?? 0) >= 2,
        },
      });
      if (join.why !== undefined && next !== undefined) {
        if (join.why === 'late') {
          for (const [at, { source }] of this.#running.entries())
            if (views[at]?.atFront) this.#plan.late(source);
        }
        if (join.why === 'slow')
          this.#slowJoins.set(next.source, (this.#slowJoins.get(next.source) ?? 0) + 1);
        this.#start(next.source, join.why, next.failures);
        continue;
      }
      const releaseMs = this.#release(nowMs, next === undefined);
      this.#lookAgain(Math.min(lost.lookMs ?? Infinity, join.lookMs ?? Infinity, releaseMs) - nowMs);
      return;
    }
  }

  #lookAgain(ms: number): void {
    if (Number.isFinite(ms)) this.#timer = setTimeout(() => this.#look(), Math.max(1, ms));
  }

  /** Who holds asks all the same when there is nobody else, or after a while: then it fails for a reason. Gives when that is. */
  #release(nowMs: number, nobodyElse: boolean): number {
    let nextMs = Number.POSITIVE_INFINITY;
    const alone =
      nobodyElse && this.#running.every(({ state }) => state === 'opening' || state === 'holding');
    for (const leg of this.#running) {
      if (leg.state !== 'holding') continue;
      const atMs = leg.startedMs + this.#options.limits.swarmPatienceMs;
      if (!alone && atMs > nowMs) {
        nextMs = Math.min(nextMs, atMs);
        continue;
      }
      leg.released = true;
      leg.bell.ring();
    }
    return nextMs;
  }

  #views(nowMs: number): LegView[] {
    return this.#running.map((leg) => leg.view(this.#front.byte, this.#front.sizeBytes, nowMs));
  }

  /**
   * Who could help those that run. Last resorts do not: they are for when nobody runs. When there is nobody else, one that runs ahead can
   * give what is before that, too.
   */
  #helper(views: readonly LegView[]): { source: NarSource; failures: number; again: boolean } | undefined {
    const runs = new Set(this.#running.map(({ source }) => source));
    const atFront = new Set(this.#running.filter((_, at) => views[at]?.atFront).map(({ source }) => source));
    const other = this.#plan.next(runs);
    const next = other ?? (this.#front.advancing ? undefined : this.#plan.next(atFront));
    if (next === undefined || this.#lastResorts.has(next.source)) return undefined;
    return { ...next, again: other === undefined };
  }

  /** Nobody gives what is next. False when that is all there is to do. */
  #replace(): boolean {
    const why =
      this.#lastEnd ??
      this.#options.why ??
      (this.#plan.has('http', this.#lastResorts) ? 'peers-unknown' : 'no-http');
    // Also one that runs ahead already, if the others have failed more often: then it fills the gap, too.
    const next = this.#plan.next();
    if (next !== undefined) {
      this.#start(next.source, why, next.failures);
      return true;
    }
    // Time to give up.
    const [ahead] = this.#running;
    if (ahead !== undefined) {
      this.#stop(ahead, 'beaten');
      return true;
    }
    if (this.#later) return false;
    const nobody = (): NarswarmError =>
      new NarswarmError('upstream-failed', `nobody has ${this.#options.fileHash}`);
    this.#finish({ failure: this.#failures.last ?? nobody() });
    return false;
  }

  #start(source: NarSource, why: LegReason, failures: number): void {
    const { pasts } = this.#options;
    const nowMs = performance.now();
    const past = pasts.of(source.name);
    this.#failures.logFallback(source, why, this.#running.at(-1) ?? this.legs.at(-1));
    // Whoever comes because another one is slow begins where that one will be.
    const fromByte = why === 'slow' ? this.#ahead(past.view(), nowMs, 0) : this.#front.byte;
    if (fromByte === undefined) return;
    this.#plan.started();
    const leg = new Leg({ source, why, fromByte, nowMs, past });
    this.legs.push(leg);
    this.#running.push(leg);
    this.#pumps.push(this.#run(leg, failures * retryDelayMs));
  }

  #ahead(past: LegView['past'], nowMs: number, reachedMs: number): number | undefined {
    const front = this.#front.byte;
    const running = this.#views(nowMs).filter(({ atFront, state }) => {
      return atFront && (state === 'asked' || state === 'giving');
    });
    return startAhead({
      nowMs,
      front,
      sizeBytes: this.#front.sizeBytes ?? Number.POSITIVE_INFINITY,
      pieceLength: this.#front.torrent?.pieceLength ?? aheadStepBytes,
      past,
      reachedMs,
      running: running.find(({ leads }) => leads) ?? running[0],
    });
  }

  #stop(leg: Leg, end: LegEnd): void {
    leg.stop(end, performance.now(), anotherWasFaster);
    this.#leave(leg);
  }

  #leave(leg: Leg): void {
    this.#running = this.#running.filter((each) => each !== leg);
  }

  async #run(leg: Leg, delayMs: number): Promise<void> {
    try {
      if (delayMs > 0) await delay(delayMs, undefined, { signal: leg.stopping.signal });
      await this.#pump.run(leg);
    } catch (error) {
      if (leg.end === undefined && !this.#over) this.#failed(leg, asNarswarmError(error));
    }
  }

  /** Whether a cache may give what this leg is asked for; those that are late need not be hoped for. */
  #hopesForHttp({ why }: Leg): boolean {
    const late = why === 'late' ? this.#running.map(({ source }) => source) : [];
    return this.#plan.has('http', new Set([...this.#lastResorts, ...late]));
  }

  // How it ends

  #absent(leg: Leg): void {
    this.#plan.gone(leg.source);
    this.#ended(leg, 'absent', 'absent');
  }

  /** All that it has was taken from it. */
  #finished(leg: Leg): void {
    leg.ended('finished', performance.now());
    this.#leave(leg);
    this.#look();
  }

  #failed(leg: Leg, error: NarswarmError): void {
    const why = this.#failures.note(leg, error, this.#front.byte);
    if (leg.usedBytes >= this.#options.limits.attemptWorthBytes) {
      this.#gave.add(leg.source);
      this.#slowJoins.delete(leg.source);
    }
    // A full disk is nobody's fault, and no other source helps.
    if (error.code === 'store-failed') this.#fail(error);
    else this.#ended(leg, 'failed', why, error);
  }

  #ended(leg: Leg, end: LegEnd, why: LegReason, error?: NarswarmError): void {
    leg.ended(end, performance.now(), error);
    this.#lastEnd = why;
    this.#leave(leg);
    this.#look();
  }

  /** The whole is wrong although no part was known to be, or the disk is in the way. */
  #spoilt(error: unknown): void {
    if (this.#over) return;
    const byPieces = isNarswarmError(error, 'piece-mismatch');
    if (byPieces || isNarswarmError(error, 'file-hash-mismatch', 'file-size-mismatch')) {
      for (const source of byPieces ? this.#front.unsure : this.#front.gave) this.#failures.wrong.add(source);
      this.#finish({ failure: error });
    } else this.#fail(error);
  }

  #completed(leg: Leg): void {
    leg.ended('finished', performance.now());
    // It may wait for its last bytes to be taken.
    leg.bell.ring();
    if (this.#front.torrentInDoubt) this.#options.onWrongTorrent();
    this.#leave(leg);
    for (const other of [...this.#running]) this.#stop(other, 'beaten');
    this.#finish({});
  }

  #finish(result: { failure?: NarswarmError }): void {
    this.#over = true;
    this.#front.close();
    const { torrent, startIsWrong } = this.#front;
    this.#result.resolve({ ...result, wrong: this.#failures.wrong, torrent, startIsWrong });
  }

  #fail(error: unknown): void {
    this.#over = true;
    this.#front.close();
    this.#result.reject(error);
  }

  /** Nobody is left running. */
  async #settle(): Promise<void> {
    const { signal } = this.#options;
    const reason = signal.aborted ? aborted(signal) : fileIsHere;
    for (const leg of this.#running) leg.stop('stopped', performance.now(), reason);
    this.#running = [];
    const pumps = Promise.allSettled(this.#pumps);
    const timer = setTimeout(() => {
      for (const leg of this.legs) leg.stopping.abort(reason);
    }, endOfBodyMs);
    await pumps;
    clearTimeout(timer);
  }
}
