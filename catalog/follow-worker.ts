/** The thread that takes files into a followed catalog: reading a million records must not keep anybody's peers waiting. */

import { parentPort, workerData } from 'node:worker_threads';
import { type ErrorCode, isNarswarmError } from '../nar/errors.ts';
import { type ApplyTask, applyFile } from './apply-segment.ts';
import { attemptAsync, openDatabase } from './database.ts';
import { followedKind } from './followed-schema.ts';

export interface FollowWorkerData {
  path: string;
  nixStoreDir: string;
}

export type ApplyAnswer = { code?: ErrorCode; message: string } | 'done';

/**
 * Pages that are kept while records come in: the indexes of a million NAR files, which grow at random places, are
 * 60 MiB.
 */
const cacheBytes = 96 * 1024 * 1024;
/**
 * Pages in the journal before they are moved, 384 MiB: nearly every segment changes nearly every page of the indexes, which is then moved once for
 * several segments.
 */
const journalPages = 48_000;

const { path, nixStoreDir } = workerData as FollowWorkerData;
const db = openDatabase(path, { kind: followedKind });
db.exec(`PRAGMA cache_size = ${-cacheBytes / 1024}; PRAGMA wal_autocheckpoint = ${journalPages}`);

parentPort?.on('message', async (task: ApplyTask | 'stop') => {
  if (task === 'stop') {
    db.close();
    parentPort?.close();
    return;
  }
  let answer: ApplyAnswer = 'done';
  try {
    await attemptAsync(`taking in ${task.path}`, () => applyFile(db, nixStoreDir, task));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    answer = isNarswarmError(error) ? { code: error.code, message } : { message };
  }
  parentPort?.postMessage(answer);
});
