/** Takes files into a followed catalog: small ones at once, large ones on the thread of follow-worker.ts. */

import { once } from 'node:events';
import type { DatabaseSync } from 'node:sqlite';
import { Worker } from 'node:worker_threads';
import { NarswarmError } from '../nar/errors.ts';
import { type ApplyTask, applyFile } from './apply-segment.ts';
import { attemptAsync, openDatabase } from './database.ts';
import type { ApplyAnswer, FollowWorkerData } from './follow-worker.ts';
import { followedKind } from './followed-schema.ts';

/** Compressed. Up to here a file is read in a few turns of some milliseconds; starting a thread takes a hundred. */
const smallMaxBytes = 256 * 1024;

/** Records live for a moment: more room for them costs memory and gains nothing. */
const youngGenerationMaxMib = 8;

export class Applier {
  readonly #data: FollowWorkerData;
  #db: DatabaseSync | undefined;
  #worker: Worker | undefined;

  constructor(data: FollowWorkerData) {
    this.#data = data;
  }

  /** One after the other. Throws what `applyFile` throws. */
  async apply(task: ApplyTask, sizeBytes: number): Promise<void> {
    if (sizeBytes > smallMaxBytes) {
      this.#worker ??= new Worker(new URL('follow-worker.ts', import.meta.url), {
        workerData: this.#data,
        execArgv: [],
        resourceLimits: { maxYoungGenerationSizeMb: youngGenerationMaxMib },
      });
      await askWorker(this.#worker, task);
      return;
    }
    const { path, nixStoreDir } = this.#data;
    // A connection of its own: readers on another do not see what is not whole.
    this.#db ??= openDatabase(path, { kind: followedKind });
    const db = this.#db;
    await attemptAsync(`taking in ${task.path}`, () => applyFile(db, nixStoreDir, task));
  }

  /** `now` breaks off what the thread does, which leaves nothing of it. */
  async close({ now = false } = {}): Promise<void> {
    this.#db?.close();
    this.#db = undefined;
    const worker = this.#worker;
    if (worker === undefined) return;
    const exited = once(worker, 'exit');
    if (now) await worker.terminate();
    else worker.postMessage('stop');
    await exited;
    this.#worker = undefined;
  }
}

async function askWorker(worker: Worker, task: ApplyTask): Promise<void> {
  const answer = await new Promise<ApplyAnswer>((resolve, reject) => {
    const done = (settle: () => void): void => {
      worker.off('message', onMessage).off('error', onError).off('exit', onExit);
      settle();
    };
    const onMessage = (message: ApplyAnswer): void => done(() => resolve(message));
    const onError = (error: unknown): void => done(() => reject(died(error)));
    const onExit = (): void => done(() => reject(died(undefined)));
    worker.on('message', onMessage).on('error', onError).on('exit', onExit);
    worker.postMessage(task);
  });
  if (answer === 'done') return;
  if (answer.code === undefined) throw new Error(answer.message);
  throw new NarswarmError(answer.code, answer.message);
}

function died(cause: unknown): NarswarmError {
  return new NarswarmError('store-failed', 'the thread that takes in a catalog ended', { cause });
}
