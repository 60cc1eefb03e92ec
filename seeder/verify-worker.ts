/** A worker thread that verifies NAR files, one after another, as the pool sends them. */

import { parentPort } from 'node:worker_threads';
import { type ErrorCode, isNarswarmError } from '../nar/errors.ts';
import { type VerifiedNarFile, type VerifyJob, verifyNarFile } from './verify.ts';

export type VerifyRequest = { jobs: { id: number; job: VerifyJob }[] } | { abort: number };

/** Errors do not keep their class on the way between threads. */
export type VerifyAnswer =
  | { id: number; verified: VerifiedNarFile }
  | { id: number; refused: { code: ErrorCode; message: string; offset: number | undefined } }
  | { id: number; failed: string };

const port = parentPort;
if (port === null) throw new Error('verify-worker.ts runs as a worker thread');

/** Jobs that are not answered, to abort them. */
const aborts = new Map<number, AbortController>();
let last: Promise<void> = Promise.resolve();

port.on('message', (request: VerifyRequest) => {
  if ('abort' in request) {
    aborts.get(request.abort)?.abort();
    return;
  }
  for (const { id, job } of request.jobs) {
    const abort = new AbortController();
    aborts.set(id, abort);
    last = last.then(async () => {
      port.postMessage(await answer(id, job, abort.signal));
      aborts.delete(id);
    });
  }
});

async function answer(id: number, job: VerifyJob, signal: AbortSignal): Promise<VerifyAnswer> {
  try {
    return { id, verified: await verifyNarFile(job, signal) };
  } catch (error) {
    if (isNarswarmError(error)) {
      return { id, refused: { code: error.code, message: error.message, offset: error.offset } };
    }
    return { id, failed: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}
