/** What a check came to. */

import { NarswarmError } from '../../nar/errors.ts';

export interface Check {
  /** `unknown`: there was nothing to check it with. */
  result: 'holds' | 'fails' | 'unknown';
  /** What was checked. */
  what: string;
  detail: string;
}

export function holds(what: string, detail = ''): Check {
  return { result: 'holds', what, detail };
}

export function fails(what: string, detail: string): Check {
  return { result: 'fails', what, detail };
}

export function unknown(what: string, why: string): Check {
  return { result: 'unknown', what, detail: why };
}

export function compare(what: string, said: string | number, found: string | number): Check {
  return said === found ? holds(what, String(found)) : fails(what, `${said} is said, ${found} is there`);
}

/** Runs `check`; what it throws is a check that fails. Anything but a NarswarmError is a fault of ours, and rises. */
export async function attempt<T>(
  what: string,
  check: () => T | Promise<T>,
): Promise<{ value: T } | { failure: Check }> {
  try {
    return { value: await check() };
  } catch (error) {
    if (!(error instanceof NarswarmError) || error.code === 'aborted') throw error;
    const at = error.offset === undefined ? '' : `, at byte ${error.offset}`;
    return { failure: fails(what, `${error.code}: ${error.message}${at}`) };
  }
}
