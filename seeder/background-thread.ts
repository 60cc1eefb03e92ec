/**
 * Lets a worker thread, and the processes that it starts, have the processor after the event loop: what they do is the same a moment later, but
 * whoever waits for the event loop, a peer or an HTTP request, waits for each turn of theirs that comes first.
 */

import { readlinkSync } from 'node:fs';
import { setPriority } from 'node:os';

/** A third of the processor's time beside one that is at 0, all of it beside none. */
const niceness = 5;

/** To be called in the thread. Where threads have no priorities of their own, nothing changes. */
export function runInBackground(): void {
  try {
    const [, thread] = /\/task\/(\d+)$/.exec(readlinkSync('/proc/thread-self')) ?? [];
    if (thread !== undefined) setPriority(Number(thread), niceness);
  } catch {
    // Not Linux, or it was started with a lower priority already.
  }
}
