/**
 * Verifies NAR files on a thread of its own, so that whoever is served waits for no hash. One thread: a mirror takes its time, and what it
 * fetches is limited by the network. It goes when there is nothing to do.
 */

import { Worker } from 'node:worker_threads';
import { NarswarmError } from '../nar/errors.ts';
import type { VerifiedNarFile, VerifyJob } from '../parts/verify.ts';
import type { VerifyAnswer, VerifyRequest } from './verify-worker.ts';

/** Milliseconds without work after which the thread, tens of MiB, ends. */
const restMs = 30_000;

interface Task {
  resolve(verified: VerifiedNarFile): void;
  reject(error: unknown): void;
}

export class Verifier {
  readonly #tasks = new Map<number, Task>();
  #worker: Worker | undefined;
  #resting: NodeJS.Timeout | undefined;
  #nextId = 0;
  #closed = false;

  /** Rejects as `verifyNarFile` throws; with `verify-crashed` when the thread died, with `aborted` when this closes. */
  verify(job: VerifyJob): Promise<VerifiedNarFile> {
    if (this.#closed) return Promise.reject(aborted());
    clearTimeout(this.#resting);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#tasks.set(id, { resolve, reject });
      this.#worker ??= this.#open();
      this.#worker.postMessage({ id, job } satisfies VerifyRequest);
    });
  }

  /** Ends the thread at once. May be called twice. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#resting);
    const worker = this.#worker;
    this.#worker = undefined;
    this.#rejectAll(aborted());
    await worker?.terminate();
  }

  #open(): Worker {
    const worker = new Worker(new URL('./verify-worker.ts', import.meta.url), { execArgv: [] });
    let cause: unknown;
    worker.on('message', (answer: VerifyAnswer) => this.#settle(answer));
    worker.on('error', (error) => {
      cause = error;
    });
    worker.on('exit', () => {
      if (this.#worker !== worker) return;
      this.#worker = undefined;
      this.#rejectAll(new NarswarmError('verify-crashed', 'the verifying thread died', { cause }));
    });
    return worker;
  }

  #settle(answer: VerifyAnswer): void {
    const task = this.#tasks.get(answer.id);
    this.#tasks.delete(answer.id);
    if ('verified' in answer) task?.resolve(withBuffers(answer.verified));
    else if ('refused' in answer)
      task?.reject(new NarswarmError(answer.refused.code, answer.refused.message));
    else task?.reject(new NarswarmError('verify-crashed', `verifying failed: ${answer.failed}`));
    if (this.#tasks.size === 0) this.#resting = setTimeout(() => void this.#rest(), restMs).unref();
  }

  async #rest(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.terminate();
  }

  #rejectAll(error: NarswarmError): void {
    for (const task of this.#tasks.values()) task.reject(error);
    this.#tasks.clear();
  }
}

/** A Buffer arrives from another thread as a plain Uint8Array. */
function withBuffers(verified: VerifiedNarFile): VerifiedNarFile {
  const { pieces } = verified.file;
  const file = { ...verified.file, pieces: Buffer.from(pieces.buffer, pieces.byteOffset, pieces.length) };
  return { ...verified, file };
}

function aborted(): NarswarmError {
  return new NarswarmError('aborted', 'verifying was given up');
}
