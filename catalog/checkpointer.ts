/**
 * Keeps the write-ahead log of a catalog short from another thread.
 *
 * SQLite by itself does so in the transaction that makes the log too long: with a million NAR files, 150 new ones change 4,000 pages all over the
 * database, and whoever serves peers stood still for half a second while they were written and synced.
 *
 * Once all of it is moved, the next writer begins the log anew, and SQLite syncs the disk for it, in whatever thread that is: 1 to 9 ms on an
 * idle disk, a quarter of a second on a busy one. So the same thread writes next, if it can, and little is left where it is until it is worth that.
 */

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { catalogLogPages } from './database.ts';

/** How long a short log is left alone: what a seeder writes down of its uploads is some hundred pages a second at most. */
const checkpointPatienceMs = 60_000;

/** Whether so many pages, which were not moved for so long, should be now. */
export function isWorthMoving({
  pages,
  forMs,
  patienceMs,
}: {
  pages: number;
  forMs: number;
  patienceMs: number;
}): boolean {
  return pages >= catalogLogPages || (pages > 0 && forMs >= patienceMs);
}

export interface Checkpointer {
  /** To be called before the catalog is closed. May be called twice. */
  close(): Promise<void>;
}

/**
 * For the catalog at `path`, which is open, with `checkpoints: 'elsewhere'`. `onFault`: the thread died; from then on the catalog does the work
 * itself, late and all at once.
 */
export function openCheckpointer(
  path: string,
  onFault: (error: unknown) => void,
  { patienceMs = checkpointPatienceMs }: { patienceMs?: number } = {},
): Checkpointer {
  const workerData = { path, patienceMs };
  const worker = new Worker(new URL('checkpoint-worker.ts', import.meta.url), {
    workerData,
    // What this process was started with, such as the loader of a test runner, is not for its threads.
    execArgv: [],
  });
  const exited = once(worker, 'exit').catch(() => undefined);
  worker.on('error', onFault);
  return {
    async close() {
      worker.postMessage('stop');
      await exited;
    },
  };
}
