/** The other side of a HashThread. */

import { createHash, type Hash, hash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';

export type HashJob =
  | { readonly kind: 'sha1'; readonly bytes: Uint8Array }
  | { readonly kind: 'update'; readonly stream: number; readonly bytes: Uint8Array }
  | { readonly kind: 'digest' | 'drop'; readonly stream: number };

export interface HashAnswer {
  readonly id: number;
  readonly digest?: Uint8Array;
}

const running = new Map<number, Hash>();

parentPort?.on('message', (job: HashJob & { readonly id: number }) => {
  const digest = work(job);
  parentPort?.postMessage({ id: job.id, ...(digest && { digest }) });
});

function work(job: HashJob): Uint8Array | undefined {
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
