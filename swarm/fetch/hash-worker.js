// @ts-check
/**
 * The other side of a HashThread. In JavaScript, because a thread that strips types loads what does that first: it takes twice the time to
 * start, when a file is waited for already, and 6 MiB.
 */

import { createHash, hash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';

/** @type {Map<number, import('node:crypto').Hash>} */
const running = new Map();

parentPort?.on('message', (/** @type {readonly import('./hash-jobs.ts').NumberedJob[]} */ jobs) => {
  const answers = jobs.map(({ id, job }) => {
    const digest = work(job);
    return { id, ...(digest && { digest }) };
  });
  parentPort?.postMessage(answers);
});

/** @param {import('./hash-jobs.ts').HashJob} job */
function work(job) {
  if (job.kind === 'sha1') return hash('sha1', job.bytes, 'buffer');
  const { stream } = job;
  if (job.kind === 'update') {
    const digest = running.get(stream) ?? createHash('sha256');
    running.set(stream, digest.update(job.bytes));
    return undefined;
  }
  const digest = running.get(stream) ?? createHash('sha256');
  running.delete(stream);
  return job.kind === 'digest' ? digest.digest() : undefined;
}
