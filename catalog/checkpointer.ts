/**
 * Keeps the write-ahead log of a catalog short from another thread.
 *
 * SQLite by itself does so in the transaction that makes the log too long: with a million NAR files, 150 new ones change 4,000 pages all over the
 * database, and whoever serves peers stood still for half a second while they were written and synced.
 */

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

export interface Checkpointer {
  /** To be called before the catalog is closed. May be called twice. */
  close(): Promise<void>;
}

/**
 * For the catalog at `path`, which is open, with `checkpoints: 'elsewhere'`. `onFault`: the thread died; from then on the catalog does the work
 * itself, late and all at once.
 */
export function openCheckpointer(path: string, onFault: (error: unknown) => void): Checkpointer {
  const worker = new Worker(new URL('checkpoint-worker.ts', import.meta.url), { workerData: { path } });
  const exited = once(worker, 'exit').catch(() => undefined);
  worker.on('error', onFault);
  return {
    async close() {
      worker.postMessage('stop');
      await exited;
    },
  };
}
