/** What programs and servers say, as it may be shown on a terminal. */

/**
 * One line of text that may hold what a cache, a peer or a file said: nothing in it moves the cursor, begins another line or turns the direction of
 * writing.
 */
export function plainLine(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu, '?');
}

/** A moment in milliseconds since 1970, as in an ISO date. */
export function printMoment(ms: number): string {
  const moment = new Date(ms);
  return Number.isNaN(moment.getTime()) ? 'at no time' : moment.toISOString();
}
