/**
 * A thread that hashes, so that the one that serves sockets does not: SHA-1 of pieces and SHA-256 of whole files cost as much as all else that
 * is done with a byte together. Node's own asynchronous digests copy their input first, which costs half of what they save; memory
 * from `memory` is read in place.
 */

import { type Hash, hash, subtle } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import { NarswarmError } from '../../nar/errors.ts';
import type { HashAnswer, HashJob, NumberedJob } from './hash-jobs.ts';
import { PieceMemory } from './piece-memory.ts';

/** Mebibytes of its heap: it holds nothing but the states of running hashes. */
const heapMaxMib = 32;

/**
 * Messages that are under way, so that it never waits for the next one. What is asked meanwhile goes together, as each costs as much as
 * hashing 32 KiB.
 */
const messagesMax = 3;

/** A SHA-256 that grows. */
export interface RunningSha256 {
  /** Resolves when the bytes were taken in, and may change again. In the order of the calls. */
  update(bytes: Uint8Array): Promise<void>;
  digest(): Promise<Buffer>;
  /** It is not wanted any more. */
  drop(): void;
}

export class HashThread {
  readonly memory = new PieceMemory({ shared: true });
  #worker: Worker | undefined;
  #online = false;
  #failure: NarswarmError | undefined;
  #closed = false;
  readonly #waiting = new Map<number, { resolve(answer: HashAnswer): void; reject(error: unknown): void }>();
  #jobs = 0;
  #streams = 0;
  /** Not sent yet. */
  #queue: NumberedJob[] = [];
  #messages = 0;

  /** False until the thread has started, which the first look begins: until then, hashing in place is quicker. */
  get ready(): boolean {
    this.start();
    return this.#online;
  }

  /** So that it is ready when something is to be hashed: it takes a tenth of a second. */
  start(): void {
    if (this.#worker === undefined && this.usable) this.#start();
  }

  /** Whether it takes jobs, if only once it has started. */
  get usable(): boolean {
    return !this.#closed && this.#failure === undefined;
  }

  /** Of bytes that do not change meanwhile. */
  async sha1(bytes: Uint8Array): Promise<Buffer> {
    const { digest } = await this.#ask({ kind: 'sha1', bytes });
    return digestOf(digest);
  }

  sha256(): RunningSha256 {
    this.start();
    const stream = ++this.#streams;
    return {
      update: async (bytes) => void (await this.#ask({ kind: 'update', stream, bytes })),
      digest: async () => digestOf((await this.#ask({ kind: 'digest', stream })).digest),
      drop: () => void this.#ask({ kind: 'drop', stream }).catch(() => undefined),
    };
  }

  /** What is under way fails. May be called twice. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#fail(new NarswarmError('aborted', 'the hashing thread was closed'));
    await this.#worker?.terminate();
  }

  #start(): void {
    const worker = new Worker(new URL('./hash-worker.js', import.meta.url), {
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: heapMaxMib },
    });
    this.#worker = worker;
    worker.on('online', () => {
      this.#online = !this.#closed;
    });
    worker.on('message', (answers: readonly HashAnswer[]) => {
      for (const answer of answers) {
        this.#waiting.get(answer.id)?.resolve(answer);
        this.#waiting.delete(answer.id);
      }
      this.#messages--;
      this.#send();
      // Whoever closes waits for its end, which an answer that was on its way must not cut short.
      if (this.#waiting.size === 0 && !this.#closed) worker.unref();
    });
    worker.on('error', (cause) =>
      this.#fail(new NarswarmError('verify-crashed', 'the hashing thread died', { cause })),
    );
    worker.on('exit', () => this.#fail(new NarswarmError('verify-crashed', 'the hashing thread ended')));
    // It keeps the process alive while something is waited for.
    worker.unref();
  }

  #ask(job: HashJob): Promise<HashAnswer> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) return reject(this.#failure);
      const id = ++this.#jobs;
      if (this.#waiting.size === 0) this.#worker?.ref();
      this.#waiting.set(id, { resolve, reject });
      this.#queue.push({ id, job });
      this.#send();
    });
  }

  #send(): void {
    if (this.#queue.length === 0 || this.#messages >= messagesMax) return;
    const copies: ArrayBuffer[] = [];
    const jobs = this.#queue.map(({ id, job }) => ({ id, job: sendable(job, copies) }));
    this.#queue = [];
    this.#messages++;
    this.#worker?.postMessage(jobs, copies);
  }

  #fail(failure: NarswarmError): void {
    this.#online = false;
    this.#failure ??= failure;
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
    this.#queue = [];
  }
}

/** A view of memory that is not shared would be sent with all that is behind it: its bytes go into memory of their own. */
function sendable(job: HashJob, copies: ArrayBuffer[]): HashJob {
  if (!('bytes' in job) || job.bytes.buffer instanceof SharedArrayBuffer) return job;
  const bytes = Uint8Array.from(job.bytes);
  copies.push(bytes.buffer);
  return { ...job, bytes };
}

/** The same in place, for what is small. */
export function hashInPlace(running: Hash): RunningSha256 {
  return {
    async update(bytes) {
      running.update(bytes);
    },
    digest: async () => running.digest(),
    drop() {},
  };
}

/** SHA-1 on the thread, or here while it is not ready or has died; by one of Node's own without it. */
export async function sha1Aside(thread: HashThread | undefined, bytes: Buffer): Promise<Buffer> {
  if (thread === undefined) return Buffer.from(await subtle.digest('SHA-1', bytes));
  if (thread.ready) {
    try {
      return await thread.sha1(bytes);
    } catch {
      // Whoever cannot use the thread hashes here.
    }
  }
  return hash('sha1', bytes, 'buffer');
}

function digestOf(digest: Uint8Array | undefined): Buffer {
  return Buffer.from(digest ?? []);
}
