/** Whether a cell kept the promise: done when upstream or swarm alone would be, hardly later than the better of them, or fallen through cleanly. Pure. */

/** Milliseconds that Nix takes with one of the two alone; missing where it does not get the closure, or not in useful time. */
export interface Alone {
  readonly upstreamMs: number | undefined;
  readonly swarmMs: number | undefined;
}

/** How Nix fared in a cell. */
export interface Outcome {
  readonly ms: number;
  /** What Nix said when it failed. */
  readonly failure?: string;
  /** Statuses of 500 and above that Nix was given, as it complained of them. */
  readonly serverErrors: readonly string[];
}

export interface Verdict {
  readonly ok: boolean;
  /** What it was held to. */
  readonly boundMs: number;
  /** Empty when it is well. */
  readonly why: string;
}

/** As the promise has it: within 1.2 times of the better one's time, or two seconds more. */
const factor = 1.2;
const moreMs = 2_000;
/**
 * Without anybody who has the closure, Nix goes on to the next substituter within this: three sources that hang are given up after
 * five seconds each. With a cache that hangs and nothing between, Nix takes 300 s.
 */
export const fallThroughMs = 20_000;

/** `undefined` when the next substituter has to do it. */
export function betterMs({ upstreamMs, swarmMs }: Alone): number | undefined {
  const known = [upstreamMs, swarmMs].filter((ms) => ms !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}

export function boundOf(alone: Alone): number {
  const better = betterMs(alone);
  return better === undefined ? fallThroughMs : Math.max(better * factor, better + moreMs);
}

export function verdict(alone: Alone, { ms, failure, serverErrors }: Outcome): Verdict {
  const boundMs = boundOf(alone);
  const whys: string[] = [];
  if (failure !== undefined) whys.push(`Nix failed: ${failure}`);
  else if (ms > boundMs) whys.push('too slow');
  if (serverErrors.length > 0) whys.push(`Nix was given ${serverErrors.join(', ')}`);
  return { ok: whys.length === 0, boundMs, why: whys.join('; ') };
}
