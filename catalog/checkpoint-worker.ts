/** Moves what is in a catalog's write-ahead log into the database, on a thread of its own; see checkpointer.ts. */

import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { isWorthMoving } from './checkpointer.ts';
import { catalogLogPages, isBusy } from './database.ts';

/** How often it looks. With a row a millisecond, the log grows by some 5,000 pages meanwhile. */
const everyMs = 500;
/**
 * A log that grows without a pause never has a moment in which it could begin anew: from this length on, 256 MiB, writers wait for that moment.
 * What they wait for is what came in since the last look, and two syncs of the disk.
 */
const restartPages = 8 * catalogLogPages;

const { path, patienceMs } = workerData as { path: string; patienceMs: number };
const db = new DatabaseSync(path);
db.exec('PRAGMA synchronous = NORMAL; PRAGMA cache_size = -64');
/** Only tells how long the log is; a SQLite that does not know it moves what is there, as `passive` does. */
const look = db.prepare('PRAGMA wal_checkpoint(NOOP)');
const passive = db.prepare('PRAGMA wal_checkpoint(PASSIVE)');
const restart = db.prepare('PRAGMA wal_checkpoint(RESTART)');
const stopping = new AbortController();
parentPort?.once('message', () => stopping.abort());

let movedMs = performance.now();
let ownPages = 0;
while (!stopping.signal.aborted) {
  await sleep(everyMs, undefined, { signal: stopping.signal }).catch(() => undefined);
  const { log, checkpointed } = look.get() ?? {};
  const pages = Number(log) - Number(checkpointed) - ownPages;
  if (!isWorthMoving({ pages, forMs: performance.now() - movedMs, patienceMs })) continue;
  movedMs = performance.now();
  const { log: left, checkpointed: moved } = passive.get() ?? {};
  if (Number(left) > restartPages) restart.get();
  else if (left !== moved) continue;
  ownPages = beginAnew();
}
db.close();
parentPort?.close();

/** The first write after all is moved begins the log anew, and waits for a sync: better here. Gives the pages that it wrote. */
function beginAnew(): number {
  const { user_version } = db.prepare('PRAGMA user_version').get() ?? {};
  try {
    // Writes the first page, and changes nothing.
    db.exec(`PRAGMA user_version = ${Number(user_version)}`);
    return 1;
  } catch (error) {
    // Whoever is writing has begun it anew.
    if (isBusy(error)) return 0;
    throw error;
  }
}
