/** The thread of one publication: see publish.ts. It ends by itself. */

import { parentPort, workerData } from 'node:worker_threads';
import { attemptAsync, openDatabase } from '../catalog/database.ts';
import { CatalogFiles } from '../catalog/files.ts';
import { CatalogLog } from '../catalog/log.ts';
import { type ErrorCode, isNarswarmError } from '../nar/errors.ts';
import { parseSecretKey } from '../nar/signature.ts';
import { runInBackground } from './background-thread.ts';
import { type Published, publish } from './publish.ts';
import type { ViewJob } from './publish-views.ts';

export interface PublishJob {
  /** Of the catalog's database. */
  readonly path: string;
  readonly filesDir: string;
  readonly nixStoreDir: string;
  /** As they are written. */
  readonly secretKeys: readonly string[];
  readonly lifetimeMs: number;
  readonly nowMs: number;
  readonly gentle: boolean;
  readonly viewNames: readonly string[];
  readonly viewJobs: readonly ViewJob[];
}

export type PublishAnswer = { published: Published } | { code?: ErrorCode; message: string };

runInBackground();
const { path, filesDir, secretKeys, ...job } = workerData as PublishJob;
const db = openDatabase(path, { checkpoints: 'elsewhere' });
let { gentle } = job;
// Whoever waits for it has nothing else to do.
parentPort?.once('message', () => {
  gentle = false;
});
let answer: PublishAnswer;
try {
  const published = await attemptAsync('publishing the catalog', async () => {
    return publish({
      ...job,
      isGentle: () => gentle,
      log: new CatalogLog(db),
      files: await CatalogFiles.open(filesDir),
      secretKeys: secretKeys.map(parseSecretKey),
      durably: (action) => {
        db.exec('PRAGMA synchronous = FULL');
        try {
          return action();
        } finally {
          db.exec('PRAGMA synchronous = NORMAL');
        }
      },
    });
  });
  answer = { published };
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  answer = isNarswarmError(error) ? { code: error.code, message } : { message };
} finally {
  db.close();
}
parentPort?.postMessage(answer);
parentPort?.close();
