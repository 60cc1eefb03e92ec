/**
 * How each source has done lately: how long it took to its first byte, how long between bytes, how fast it gave. What a leg is held
 * against. In memory only: after a restart the network may be another one.
 */

/** What is known of a source; a figure is missing while too little is known for it. */
export interface PastView {
  /** Milliseconds from asking to the first byte: in the middle, and 9 in 10 times. */
  readonly firstByteMs?: number;
  readonly firstByteP90Ms?: number;
  /** The same of the times only that a first byte came: whoever is silent is given no more time for it. */
  readonly answeredP90Ms?: number;
  /** Milliseconds that the next bytes were waited for, 9 in 10 times. */
  readonly gapP90Ms?: number;
  /** Bytes a millisecond while they were wanted, in the middle. */
  readonly bytesPerMs?: number;
}

/** Nothing is known. */
export const noPast: PastView = {};

/** Buckets for each doubling: a figure is right to a fifth. */
const bucketsPerDoubling = 4;
/** From a thousandth to 2 to the 22nd, which is more than an hour of milliseconds or 4 GB/s. */
const bucketsBelowOne = 10 * bucketsPerDoubling;
const buckets = bucketsBelowOne + 22 * bucketsPerDoubling;

/** Samples from which on a source's past is worth something. */
const samplesMin = 4;
/** Samples that a histogram holds before they count half: what happened long ago fades. */
const samplesMax = 128;

/** Bytes from which on a stretch says something about speed: less comes out of buffers at once. */
export const rateStretchBytes = 256 * 1024;

/** Sources whose past is known; whoever was not used longest is forgotten. */
const sourcesMax = 256;

/** Counts of values by their magnitude. */
export class Histogram {
  readonly #counts = new Uint16Array(buckets);
  #samples = 0;

  add(value: number): void {
    const at = Math.round(Math.log2(Math.max(value, 0.001)) * bucketsPerDoubling) + bucketsBelowOne;
    const bucket = Math.min(buckets - 1, Math.max(0, at));
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    this.#samples++;
    if (this.#samples < samplesMax) return;
    this.#samples = 0;
    for (const [each, count] of this.#counts.entries()) {
      this.#counts[each] = count >> 1;
      this.#samples += count >> 1;
    }
  }

  /** The value that `share` of the samples do not exceed, to a fifth; `undefined` while there are too few. */
  quantile(share: number): number | undefined {
    if (this.#samples < samplesMin) return undefined;
    let left = Math.ceil(this.#samples * share);
    for (const [bucket, count] of this.#counts.entries()) {
      left -= count;
      if (left <= 0) return 2 ** ((bucket - bucketsBelowOne) / bucketsPerDoubling);
    }
    return undefined;
  }
}

export class SourcePast {
  readonly #firstByte = new Histogram();
  readonly #answered = new Histogram();
  readonly #gap = new Histogram();
  readonly #rate = new Histogram();
  #view: PastView | undefined;

  tookToFirstByte(ms: number): void {
    this.#answered.add(ms);
    this.#firstByte.add(ms);
    this.#view = undefined;
  }

  /** The first byte was not waited for any longer. Counted only when it says that the source is slower than it seems. */
  tookAtLeast(ms: number): void {
    if (ms <= (this.view().firstByteMs ?? 0)) return;
    this.#firstByte.add(ms);
    this.#view = undefined;
  }

  /** Something was waited for, after the first byte. */
  waited(ms: number): void {
    this.#gap.add(ms);
    this.#view = undefined;
  }

  /** A stretch of at least `rateStretchBytes`. */
  gave(bytes: number, ms: number): void {
    this.#rate.add(bytes / Math.max(ms, 0.1));
    this.#view = undefined;
  }

  view(): PastView {
    this.#view ??= {
      ...given('firstByteMs', this.#firstByte.quantile(0.5)),
      ...given('firstByteP90Ms', this.#firstByte.quantile(0.9)),
      ...given('answeredP90Ms', this.#answered.quantile(0.9)),
      ...given('gapP90Ms', this.#gap.quantile(0.9)),
      ...given('bytesPerMs', this.#rate.quantile(0.5)),
    };
    return this.#view;
  }
}

function given<Name extends keyof PastView>(name: Name, value: number | undefined): PastView {
  return value === undefined ? noPast : { [name]: value };
}

export class SourcePasts {
  /** In the order of their last use. */
  readonly #pasts = new Map<string, SourcePast>();

  of(source: string): SourcePast {
    const past = this.#pasts.get(source) ?? new SourcePast();
    this.#pasts.delete(source);
    this.#pasts.set(source, past);
    const oldest = this.#pasts.keys().next();
    if (this.#pasts.size > sourcesMax && !oldest.done) this.#pasts.delete(oldest.value);
    return past;
  }

  /** For the status: milliseconds and bytes a second. */
  status(): { source: string; firstByteMs?: number; firstByteP90Ms?: number; bytesPerSecond?: number }[] {
    return [...this.#pasts].map(([source, past]) => {
      const { firstByteMs, firstByteP90Ms, bytesPerMs } = past.view();
      return {
        source,
        ...(firstByteMs !== undefined && { firstByteMs: Math.round(firstByteMs * 10) / 10 }),
        ...(firstByteP90Ms !== undefined && { firstByteP90Ms: Math.round(firstByteP90Ms * 10) / 10 }),
        ...(bytesPerMs !== undefined && { bytesPerSecond: Math.round(bytesPerMs * 1_000) }),
      };
    });
  }
}

/** What arrives in one packet train anyway: for so much only the first byte is waited for. */
const firstBytesBytes = 64 * 1024;

/** What a source would probably take for a whole file of that size; `undefined` while too little is known of it. */
export function expectedMs(sizeBytes: number, { firstByteMs, bytesPerMs }: PastView): number | undefined {
  if (firstByteMs === undefined) return undefined;
  const rest = Math.max(0, sizeBytes - firstBytesBytes);
  if (rest === 0) return firstByteMs;
  return bytesPerMs === undefined ? undefined : firstByteMs + rest / bytesPerMs;
}
