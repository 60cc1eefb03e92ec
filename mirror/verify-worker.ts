/** A worker thread that verifies NAR files, one after another, as verifier.ts sends them. */

import { parentPort } from 'node:worker_threads';
import { type ErrorCode, isNarswarmError } from '../nar/errors.ts';
import { type VerifiedNarFile, type VerifyJob, verifyNarFile } from '../parts/verify.ts';
import { XzShell } from '../parts/xz-shell.ts';

export interface VerifyRequest {
  id: number;
  job: VerifyJob;
}

/** Errors do not keep their class on the way between threads. */
export type VerifyAnswer =
  | { id: number; verified: VerifiedNarFile }
  | { id: number; refused: { code: ErrorCode; message: string } }
  | { id: number; failed: string };

const port = parentPort;
if (port === null) throw new Error('verify-worker.ts runs as a worker thread');
/** It ends when this thread does, and its pipes with it. */
const xzShell = new XzShell();
let last: Promise<void> = Promise.resolve();

port.on('message', ({ id, job }: VerifyRequest) => {
  last = last.then(async () => port.postMessage(await answer(id, job)));
});

async function answer(id: number, job: VerifyJob): Promise<VerifyAnswer> {
  try {
    return { id, verified: await verifyNarFile(job, { xzShell }) };
  } catch (error) {
    if (isNarswarmError(error)) return { id, refused: { code: error.code, message: error.message } };
    return { id, failed: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}
