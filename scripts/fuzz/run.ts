/** Runs one target over many inputs: each from its own seed, so that any of them can be made again by itself. */

import { mutate } from './mutate.ts';
import { Random } from './random.ts';
import type { Target, Verdict } from './target.ts';

/**
 * Milliseconds that one input may take, in the best of some runs: 4 KiB are read in well under one, and what takes this long by itself
 * takes seconds when it is a hundred times as long.
 */
export const inputMaxMs = 50;
/** Bytes of memory that one input may make a parser take: far more than any input has, less than a declared length can say. */
export const inputMaxMemoryBytes = 16 * 1024 * 1024;
/** How often the memory is looked at: looking takes longer than most inputs. */
const memoryEvery = 1_024;
/** Bytes that a target may keep after all of its inputs, once everything is collected. */
export const keptMaxBytes = 32 * 1024 * 1024;
/** Failures after which a target is given up: the first one says enough. */
const failuresMax = 5;

export interface RunOptions {
  name: string;
  target: Target;
  seed: number;
  /** The first case, and how many. */
  from: number;
  inputs: number;
  /** Milliseconds after which no further input is begun. */
  ms: number;
  /** Whether an input that takes too long is a failure. */
  timed: boolean;
}

export interface Failure {
  target: string;
  seed: number;
  case: number;
  input: Buffer;
  error: unknown;
}

export interface RunResult {
  inputs: number;
  ms: number;
  accepted: number;
  refused: number;
  slowestMs: number;
  slowestCase: number;
  /** Most that one of the inputs that were looked at took. */
  memoryBytes: number;
  keptBytes: number;
  failures: Failure[];
}

/** The input of a case. One in eight is left as it was made. */
export function inputOf(target: Target, seed: number, number: number): { input: Buffer; random: Random } {
  const random = new Random(seed, number, 0x6e617273);
  const made = target.make(random);
  return { input: random.oneIn(8) ? made : mutate(random, made, target.words), random };
}

export function runTarget({ name, target, seed, from, inputs, ms, timed }: RunOptions): RunResult {
  const result: RunResult = {
    inputs: 0,
    ms: 0,
    accepted: 0,
    refused: 0,
    slowestMs: 0,
    slowestCase: 0,
    memoryBytes: 0,
    keptBytes: 0,
    failures: [],
  };
  const keptBefore = memoryBytes(true);
  // Refusals are most of what there is, and writing down where they were thrown takes longer than all the rest.
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  const startedMs = performance.now();
  for (let number = from; number < from + inputs; number++) {
    const { input, random } = inputOf(target, seed, number);
    const fail = (error: unknown): number =>
      result.failures.push({ target: name, seed, case: number, input, error });
    const watched = number % memoryEvery === 0;
    const memoryBefore = watched ? memoryBytes(false) : 0;
    const beganMs = performance.now();
    try {
      result[target.run(input, random)]++;
    } catch (error) {
      fail(error);
    }
    const endedMs = performance.now();
    if (watched) result.memoryBytes = Math.max(result.memoryBytes, memoryBytes(false) - memoryBefore);
    if (result.memoryBytes > inputMaxMemoryBytes)
      fail(new Error(`${result.memoryBytes} bytes for one input`));
    if (endedMs - beganMs > result.slowestMs) {
      // Others run on this machine as well; what is slow each time is slow itself.
      let bestMs = endedMs - beganMs;
      for (let again = 0; again < 2 || (again < 20 && bestMs > inputMaxMs); again++)
        bestMs = Math.min(bestMs, timeOf(target, seed, number));
      if (bestMs > result.slowestMs) {
        result.slowestMs = bestMs;
        result.slowestCase = number;
        if (timed && bestMs > inputMaxMs) fail(new Error(`${bestMs.toFixed(0)} ms for one input`));
      }
    }
    result.inputs++;
    if (result.failures.length >= failuresMax || endedMs - startedMs > ms) break;
  }
  result.ms = performance.now() - startedMs;
  Error.stackTraceLimit = stackTraceLimit;
  result.keptBytes = memoryBytes(true) - keptBefore;
  if (result.keptBytes > keptMaxBytes && globalThis.gc !== undefined) {
    const error = new Error(`${result.keptBytes} bytes are kept after all inputs`);
    result.failures.push({ target: name, seed, case: from, input: Buffer.alloc(0), error });
  }
  for (const failure of result.failures)
    failure.error = thrownBy(target, seed, failure.case) ?? failure.error;
  return result;
}

/** What a case that failed throws when it is run once more: with a stack now. */
function thrownBy(target: Target, seed: number, number: number): unknown {
  const { input, random } = inputOf(target, seed, number);
  try {
    target.run(input, random);
    return undefined;
  } catch (error) {
    return error;
  }
}

/** The verdict on an input that was kept; throws what it breaks. */
export function replay(target: Target, input: Buffer, seed = 1): Verdict {
  return target.run(input, new Random(seed, 0, 0x6e617273));
}

function timeOf(target: Target, seed: number, number: number): number {
  const { input, random } = inputOf(target, seed, number);
  const beganMs = performance.now();
  try {
    target.run(input, random);
  } catch {
    // It was noted the first time.
  }
  return performance.now() - beganMs;
}

function memoryBytes(collected: boolean): number {
  if (collected) globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
