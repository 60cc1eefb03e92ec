/** Reads narinfos and verifies NAR files on worker threads, so that the event loop never waits for a hash or a signature. */

import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { NarswarmError } from '../nar/errors.ts';
import { type PublicKey, printPublicKey, printSecretKey, type SecretKey } from '../nar/signature.ts';
import type { VerifyJob } from '../parts/verify.ts';
import type { Torrent } from '../swarm/torrent/torrent.ts';
import type { NarInfoJob, NarInfoRead, RefusalWords } from './scan-read.ts';
import type { SignedNarFile, VerifyAnswer, VerifyRequest, WorkerKeys } from './verify-worker.ts';

/** Jobs that wait at one worker, so that it need not wait for the main thread between small files. */
export const jobsPerWorker = 32;

/** NAR bytes that wait at one worker: behind more, a job had better wait for whichever worker is free first. */
export const waitingBytesPerWorker = 1024 * 1024;

/** A narinfo at a worker counts as a NAR of this size, which takes as long. */
const narInfoWeightBytes = 16 * 1024;

/** queued → running → settled; a job whose worker dies before its turn goes back to queued. */
interface Task {
  readonly id: number;
  readonly job: VerifyJob | NarInfoJob;
  readonly resolve: (answer: Settled) => void;
  readonly reject: (error: unknown) => void;
}

type Settled = SignedNarFile | NarInfoRead;

interface Lane {
  /** Opened with the first job, and again after it died. */
  worker: Worker | undefined;
  /** In the order in which the worker does them. */
  readonly running: Map<number, Task>;
  waitingBytes: number;
}

export interface VerifyPoolOptions {
  /** Threads; as many as there are processors by default. */
  workers?: number;
  /** Another worker, for tests. */
  workerUrl?: URL;
  /** Whoever signs narinfos; nobody by default. */
  trustedKeys?: readonly PublicKey[];
  /** Signs the torrentinfos; without it what is verified comes without signatures. */
  secretKey?: SecretKey;
}

export class VerifyPool {
  readonly #workerUrl: URL;
  readonly #lanes: Lane[];
  readonly #keys: WorkerKeys;
  #queue: Task[] = [];
  #dispatching = false;
  #nextId = 0;
  #closed = false;

  constructor(options: VerifyPoolOptions = {}) {
    const { workers = availableParallelism(), trustedKeys = [], secretKey } = options;
    this.#keys = {
      trustedKeys: trustedKeys.map(printPublicKey),
      secretKey: secretKey && printSecretKey(secretKey),
    };
    this.#workerUrl = options.workerUrl ?? new URL('./verify-worker.ts', import.meta.url);
    this.#lanes = Array.from({ length: workers }, () => ({
      worker: undefined,
      running: new Map(),
      waitingBytes: 0,
    }));
  }

  /** How many jobs keep every worker busy: callers should have no more under way. */
  get capacity(): number {
    return this.#lanes.length * jobsPerWorker;
  }

  /**
   * Rejects as `verifyNarFile` throws; with `verify-crashed` when the worker died over it, with `aborted` when `signal`
   * says so or the pool closes.
   */
  async verify(job: VerifyJob, signal?: AbortSignal): Promise<SignedNarFile> {
    const settled = await this.#submit(job, signal);
    if (typeof settled === 'object' && 'file' in settled) return settled;
    throw new NarswarmError('verify-crashed', 'the verifying thread answered something else');
  }

  /** What is wrong with the narinfo is in the answer; rejects with `verify-crashed` and `aborted` as `verify` does. */
  async read(job: NarInfoJob, signal?: AbortSignal): Promise<NarInfoRead> {
    const settled = await this.#submit(job, signal);
    if (typeof settled === 'string' || 'fingerprint' in settled) return settled;
    throw new NarswarmError('verify-crashed', 'the verifying thread answered something else');
  }

  async #submit(job: VerifyJob | NarInfoJob, signal: AbortSignal | undefined): Promise<Settled> {
    if (this.#closed || signal?.aborted) throw aborted();
    const id = this.#nextId++;
    let abort: (() => void) | undefined;
    try {
      return await new Promise<Settled>((resolve, reject) => {
        this.#queue.push({ id, job, resolve, reject });
        abort = () => this.#abort(id);
        signal?.addEventListener('abort', abort);
        this.#dispatchSoon();
      });
    } finally {
      if (abort) signal?.removeEventListener('abort', abort);
    }
  }

  /** Threads that are there. */
  get workers(): number {
    return this.#lanes.filter(({ worker }) => worker !== undefined).length;
  }

  /** Ends the workers that have nothing to do: each takes tens of MiB. The next job opens one again. */
  async rest(): Promise<void> {
    await Promise.all(
      this.#lanes.map(async (lane) => {
        if (lane.running.size > 0) return;
        const { worker } = lane;
        lane.worker = undefined;
        await worker?.terminate();
      }),
    );
  }

  /** Ends the workers at once; what they were doing is done again next time. May be called twice. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const task of this.#queue.splice(0)) task.reject(aborted());
    await Promise.all(
      this.#lanes.map(async (lane) => {
        for (const task of lane.running.values()) task.reject(aborted());
        lane.running.clear();
        const { worker } = lane;
        lane.worker = undefined;
        await worker?.terminate();
      }),
    );
  }

  /** After what else happens in this turn, so that one message takes all of it. */
  #dispatchSoon(): void {
    if (this.#dispatching) return;
    this.#dispatching = true;
    setImmediate(() => {
      this.#dispatching = false;
      if (!this.#closed) this.#dispatch();
    });
  }

  /** Hands queued jobs to the workers that have least to do, those of one worker in one message. */
  #dispatch(): void {
    const batches = new Map<Lane, Task[]>();
    for (let task = this.#queue[0]; task !== undefined; task = this.#queue[0]) {
      const lane = this.#laneFor(bytesOf(task));
      if (lane === undefined) break;
      this.#queue.shift();
      lane.running.set(task.id, task);
      lane.waitingBytes += bytesOf(task);
      const batch = batches.get(lane);
      if (batch) batch.push(task);
      else batches.set(lane, [task]);
    }
    for (const [lane, tasks] of batches) {
      lane.worker ??= this.#open(lane);
      const jobs = tasks.map(({ id, job }) => ({ id, job }));
      lane.worker.postMessage({ jobs } satisfies VerifyRequest);
    }
  }

  /** An idle worker takes anything; a busy one what is small. */
  #laneFor(bytes: number): Lane | undefined {
    const free = this.#lanes.filter(
      ({ running, waitingBytes }) =>
        running.size === 0 || (running.size < jobsPerWorker && waitingBytes + bytes <= waitingBytesPerWorker),
    );
    return free.sort((a, b) => a.waitingBytes - b.waitingBytes || a.running.size - b.running.size)[0];
  }

  #open(lane: Lane): Worker {
    const worker = new Worker(this.#workerUrl, { workerData: this.#keys, execArgv: [] });
    let cause: unknown;
    worker.on('message', (answer: VerifyAnswer) => this.#settle(lane, answer));
    worker.on('error', (error) => {
      cause = error;
    });
    worker.on('exit', () => {
      if (lane.worker === worker) this.#replace(lane, cause);
    });
    return worker;
  }

  #settle(lane: Lane, answer: VerifyAnswer): void {
    const task = lane.running.get(answer.id);
    if (task === undefined) return;
    lane.running.delete(answer.id);
    lane.waitingBytes -= bytesOf(task);
    if ('verified' in answer) {
      const { verified } = answer;
      task.resolve({ ...verified, file: withBuffer(verified.file), nar: withBuffer(verified.nar) });
    } else if ('read' in answer) {
      task.resolve(answer.read);
    } else if ('refused' in answer) {
      task.reject(errorOf(answer.refused));
    } else {
      task.reject(new NarswarmError('verify-crashed', `verifying failed: ${answer.failed}`));
    }
    this.#dispatchSoon();
  }

  /** A worker does its jobs in order, so that the first is the one over which it died. The others go back. */
  #replace(lane: Lane, cause: unknown): void {
    const [culprit, ...others] = lane.running.values();
    lane.worker = undefined;
    lane.running.clear();
    lane.waitingBytes = 0;
    this.#queue = [...others, ...this.#queue];
    culprit?.reject(new NarswarmError('verify-crashed', 'the verifying thread died', { cause }));
    this.#dispatchSoon();
  }

  #abort(id: number): void {
    const queued = this.#queue.findIndex((task) => task.id === id);
    if (queued >= 0) {
      for (const task of this.#queue.splice(queued, 1)) task.reject(aborted());
      return;
    }
    const lane = this.#lanes.find(({ running }) => running.has(id));
    lane?.worker?.postMessage({ abort: id } satisfies VerifyRequest);
  }
}

/** The error that a worker put into words. */
export function errorOf({ code, message, offset }: RefusalWords): NarswarmError {
  return new NarswarmError(code, message, offset === undefined ? {} : { offset });
}

/** What a job weighs: a narinfo is read in a moment. */
function bytesOf({ job }: Task): number {
  return 'narInfoName' in job ? narInfoWeightBytes : job.narSize;
}

/** A Buffer arrives from another thread as a plain Uint8Array. */
function withBuffer(torrent: Torrent): Torrent {
  const { buffer, byteOffset, length } = torrent.pieces;
  return { ...torrent, pieces: Buffer.from(buffer, byteOffset, length) };
}

function aborted(): NarswarmError {
  return new NarswarmError('aborted', 'verifying was given up');
}
