/** Proves that a test leaves no socket, file, timer or listener behind. */

import { readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';

/** Sockets are closed by the other end as well, and files by threads that are ending: on a busy computer that takes seconds. */
const settleMs = 15_000;
const pollMs = 10;

/**
 * Call at the start of a test: when it is over and its own teardowns have run, the process must have no more open
 * files and sockets than now, and no more timers.
 */
export function provesNothingStaysOpen(t: Test): void {
  const before = openResources();
  // Teardowns run last in, first out.
  t.teardown(async () => {
    const deadline = Date.now() + settleMs;
    let left = leftOver(before);
    while (left.length > 0 && Date.now() < deadline) {
      await sleep(pollMs);
      left = leftOver(before);
    }
    if (left.length > 0) throw new Error(`left open: ${left.join(', ')}`);
  });
}

function leftOver(before: Map<string, number>): string[] {
  return [...openResources()]
    .filter(([what, count]) => count > (before.get(what) ?? 0))
    .map(([what]) => what);
}

/** What is open, each with how often. */
function openResources(): Map<string, number> {
  const counts = new Map<string, number>();
  const add = (what: string): void => void counts.set(what, (counts.get(what) ?? 0) + 1);
  for (const what of process.getActiveResourcesInfo()) {
    // Not held by anyone, or already at work on ending.
    if (what !== 'Immediate' && what !== 'CloseReq' && what !== 'TTYWrap' && what !== 'PipeWrap') add(what);
  }
  try {
    for (const descriptor of readdirSync('/proc/self/fd')) {
      try {
        const target = readlinkSync(`/proc/self/fd/${descriptor}`);
        // The directory being listed; and what Node opens for itself when it first needs it.
        if (!target.startsWith('/proc/') && !/^anon_inode|^pipe:|^\/dev\/(null|urandom|pts)/.test(target)) {
          add(target.startsWith('socket:') ? 'socket' : target);
        }
      } catch {
        // Closed between the listing and the look.
      }
    }
  } catch {
    // No /proc on this system: what Node itself tells has to do.
  }
  return counts;
}
