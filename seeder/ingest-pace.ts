/** How fast the sources are being read, and how long the rest takes at that pace. */

/** What is older says little: a source begins with what is unchanged, or has its large NARs together. */
export const paceWindowMs = 30_000;
/** Less than this is no pace yet: nothing is said of the time left. */
export const paceMinMs = 2_000;
/** Between two samples that are kept, so that there are at most 60. */
const sampleEveryMs = 500;

interface Sample {
  readonly atMs: number;
  readonly done: number;
  readonly bytes: number;
}

export interface Pace {
  /** Bytes of NAR files. */
  bytesPerSecond: number;
  /** `undefined` while nobody can tell. */
  secondsLeft: number | undefined;
}

export class PaceMeter {
  /** Oldest first; the first one is the last before the window began. */
  readonly #samples: Sample[];

  constructor(startedMs: number) {
    this.#samples = [{ atMs: startedMs, done: 0, bytes: 0 }];
  }

  /** Takes note of how far it is: as often as anything was done. */
  note(atMs: number, done: number, bytes: number): void {
    const last = this.#samples.at(-1);
    if (last !== undefined && atMs - last.atMs < sampleEveryMs) return;
    this.#samples.push({ atMs, done, bytes });
    this.#forget(atMs);
  }

  /** `total`: how many there are to be done; `undefined` when that is not known. */
  pace(atMs: number, done: number, bytes: number, total: number | undefined): Pace {
    this.#forget(atMs);
    const [first] = this.#samples;
    const seconds = first === undefined ? 0 : (atMs - first.atMs) / 1000;
    if (first === undefined || seconds <= 0) return { bytesPerSecond: 0, secondsLeft: undefined };
    const bytesPerSecond = Math.round((bytes - first.bytes) / seconds);
    const perSecond = (done - first.done) / seconds;
    const known = total !== undefined && perSecond > 0 && seconds * 1000 >= paceMinMs;
    return {
      bytesPerSecond,
      secondsLeft: known ? Math.ceil(Math.max(0, total - done) / perSecond) : undefined,
    };
  }

  #forget(nowMs: number): void {
    for (
      let [, second] = this.#samples;
      second !== undefined && second.atMs <= nowMs - paceWindowMs;
      [, second] = this.#samples
    ) {
      this.#samples.shift();
    }
  }
}
