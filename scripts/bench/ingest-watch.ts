/** Loaded into a program before it starts (`--import`): writes how late its event loop was, as a line on descriptor 3, when it ends. */
import { writeSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';

/** A turn that is no later than this is not told from none. */
const resolutionMs = 5;

if (isMainThread) {
  const delays = monitorEventLoopDelay({ resolution: resolutionMs });
  // What loads the program is no part of what it does.
  setImmediate(() => delays.enable());
  process.once('exit', () => {
    const [maxMs, p99Ms] = [delays.max, delays.percentile(99)].map((ns) =>
      Math.max(0, ns / 1e6 - resolutionMs),
    );
    writeSync(3, `${JSON.stringify({ maxMs, p99Ms })}\n`);
  });
}
