/**
 * A thread that hashes, so that the one that serves sockets does not: SHA-1 of pieces and SHA-256 of whole files cost as much as all else that
 * is done with a byte together. Node's own asynchronous digests copy their input first, which costs half of what they save; memory
 * from `memory` is read in place.
 */

import { type Hash, hash } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import { NarswarmError } from '../../nar/errors.ts';
import type { HashAnswer, HashJob } from './hash-worker.ts';
import { PieceMemory } from './piece-memory.ts';

/** Mebibytes of its heap: it holds nothing but the states of running hashes. */
const heapMaxMib = 32;

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

  /** False until the thread has started, which the first look begins: until then, hashing in place is quicker. */
  get ready(): boolean {
    if (this.#worker === undefined && this.usable) this.#start();
    return this.#online;
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
    if (this.#worker === undefined && this.usable) this.#start();
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
    const worker = new Worker(new URL('./hash-worker.ts', import.meta.url), {
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: heapMaxMib },
    });
    this.#worker = worker;
    worker.on('online', () => {
      this.#online = !this.#closed;
    });
    worker.on('message', (answer: HashAnswer) => {
      this.#waiting.get(answer.id)?.resolve(answer);
      this.#waiting.delete(answer.id);
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
      if (!('bytes' in job) || job.bytes.buffer instanceof SharedArrayBuffer) {
        this.#worker?.postMessage({ ...job, id });
      } else {
        // A view would be sent with all of the memory behind it.
        const bytes = Uint8Array.from(job.bytes);
        this.#worker?.postMessage({ ...job, bytes, id }, [bytes.buffer]);
      }
    });
  }

  #fail(failure: NarswarmError): void {
    this.#online = false;
    this.#failure ??= failure;
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
  }
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

/** SHA-1 on the thread, or here while it is not ready or has died. */
export async function sha1Aside(thread: HashThread, bytes: Buffer): Promise<Buffer> {
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
