/** Moves what one leg of a race gives from its source to the front: opens it, has it ask when a peer can give, takes its bytes, waits for room. */

import { isNarswarmError, NarswarmError } from '../../nar/errors.ts';
import type { Assembly } from './assembly.ts';
import type { OpenNarBytes } from './nar-source.ts';
import type { RaceFront } from './race-front.ts';
import { type Leg, waitingMaxBytes } from './race-leg.ts';

export interface RacePumpOptions {
  assembly: Assembly;
  front: RaceFront;
  /** Whether it is to be waited for as if there were nobody else. */
  patient(leg: Leg): boolean;
  /** Where a leg that can be asked from now on begins, `undefined` when nothing is left for it. It was `reachedMs` on its way to there. */
  begin(leg: Leg, nowMs: number, reachedMs: number): number | undefined;
  /** Others run besides. */
  contested(): boolean;
  /** Something is to be looked at: a leg holds, asks, or has given something beside others. */
  onChange(): void;
  /** Nothing was left for it when it could be asked. */
  onLate(leg: Leg): void;
  /** Its source does not have the file. */
  onAbsent(leg: Leg): void;
  /** All that it has was taken from it. */
  onFinished(leg: Leg): void;
}

/** Something is wrong with what came, or with the disk. */
const endsAtOnce = ['piece-mismatch', 'file-hash-mismatch', 'file-size-mismatch', 'store-failed'] as const;

export class RacePump {
  readonly #options: RacePumpOptions;

  constructor(options: RacePumpOptions) {
    this.#options = options;
  }

  /** Until it has ended, or was stopped. Throws when it failed. */
  async run(leg: Leg): Promise<void> {
    const { front, patient, onAbsent } = this.#options;
    const { source, stopping } = leg;
    const opened = await source.open(leg.fromByte, stopping.signal, patient(leg));
    if (opened === undefined) return onAbsent(leg);
    if (leg.end !== undefined) return closeBytes(opened);
    front.learnSize(opened.lengthBytes);
    if (!(await this.#asks(leg, opened))) return closeBytes(opened);
    try {
      await this.#take(leg, opened);
    } catch (error) {
      // What it gave before it broke off is right, and those that run are on their way there.
      if (!isNarswarmError(error, ...endsAtOnce)) await this.#untilTaken(leg);
      throw error;
    }
    await this.#atEnd(leg);
  }

  /** It begins to ask: at once, or when a peer can give. False when nothing is left for it by then. */
  async #asks(leg: Leg, opened: OpenNarBytes): Promise<boolean> {
    const { begin, onChange, onLate } = this.#options;
    if (leg.state !== 'opening') return true;
    const { live } = opened;
    if (live !== undefined) {
      leg.state = 'holding';
      void live.then(() => {
        leg.released = true;
        leg.bell.ring();
      });
      onChange();
      while (!leg.released) await leg.bell.next(leg.stopping.signal);
    }
    const nowMs = performance.now();
    const fromByte = opened.startAt === undefined ? leg.fromByte : begin(leg, nowMs, nowMs - leg.startedMs);
    if (fromByte === undefined) {
      onLate(leg);
      return false;
    }
    opened.startAt?.(fromByte);
    leg.asks(fromByte, nowMs);
    leg.receives = opened.receivedBytes;
    onChange();
    return true;
  }

  async #take(leg: Leg, opened: OpenNarBytes): Promise<void> {
    const { assembly, front, contested, onChange } = this.#options;
    for await (const { bytes, checked, peers } of opened.bytes) {
      // The end of an HTTP body is waited for, so that its connection can be used again; but nothing may follow.
      if (assembly.complete) return;
      leg.arrived(bytes.length, peers, performance.now());
      leg.byTorrent = checked;
      const { keptMs } = assembly;
      await front.take(leg, bytes);
      leg.kept(assembly.keptMs - keptMs);
      if (assembly.complete && leg.source.kind === 'swarm') return;
      if (leg.waitingBytes >= waitingMaxBytes) await this.#room(leg);
      if (contested()) onChange();
      leg.waits(performance.now());
    }
  }

  async #room(leg: Leg): Promise<void> {
    const sinceMs = performance.now();
    while (leg.waitingBytes >= waitingMaxBytes) await leg.bell.next(leg.stopping.signal);
    leg.kept(performance.now() - sinceMs);
  }

  async #untilTaken(leg: Leg): Promise<void> {
    const { assembly } = this.#options;
    while (leg.waiting.length > 0 && !assembly.complete) await leg.bell.next(leg.stopping.signal);
  }

  /** All that it has was taken from it, or waits. */
  async #atEnd(leg: Leg): Promise<void> {
    const { assembly, front, onFinished } = this.#options;
    await this.#untilTaken(leg);
    if (!assembly.complete && leg.at === front.byte && leg.at === (front.sizeBytes ?? leg.at)) {
      await front.finish(leg);
    }
    if (assembly.complete || leg.end !== undefined) return;
    if (leg.at !== front.sizeBytes) {
      throw new NarswarmError('upstream-failed', `${leg.source.name} ended too early`);
    }
    onFinished(leg);
  }
}

/** An iteration that never began does not close what it would read from; the signal of the leg does, when it is stopped. */
function closeBytes({ bytes }: OpenNarBytes): void {
  void bytes[Symbol.asyncIterator]().return?.();
}
