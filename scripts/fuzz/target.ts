/** What is fuzzed: how its inputs are made, and what must hold for each. */

import { type ErrorCode, isNarswarmError } from '../../nar/errors.ts';
import type { Random } from './random.ts';

export type Verdict = 'accepted' | 'refused';

export interface Target {
  /** A valid input, or nearly so; mutation follows. */
  make(random: Random): Buffer;
  /** Words that mean something to the parser, one character per byte. */
  words: readonly string[];
  /**
   * Feeds the input and checks what must hold. Throws when it does not, and whatever it throws is a failure. What is random in how
   * it is fed, such as where chunks end, comes from `random`.
   */
  run(input: Buffer, random: Random): Verdict;
}

/** What `action` returns, or `undefined` when it throws an error with one of `codes`. Any other error passes through. */
export function unlessRefused<T>(codes: readonly ErrorCode[], action: () => T): T | undefined {
  try {
    return action();
  } catch (error) {
    if (isNarswarmError(error, ...codes)) return undefined;
    throw error;
  }
}

/** A property that an input breaks. */
export function holds(condition: boolean, what: string): void {
  if (!condition) throw new Error(`broken: ${what}`);
}
