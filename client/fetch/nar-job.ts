/**
 * The fetch of one NAR file, shared by all requests for it. Readers follow behind it at their own pace; one that goes
 * away disturbs no other.
 *
 * States: fetching → failed, or fetching → complete → ended (kept, if it fits). Gone when it ended and nobody reads.
 */

import { isCompression, narFileName } from '../../nar/compression.ts';
import { NarswarmError } from '../../nar/errors.ts';
import type { Sha256 } from '../../nar/hash.ts';
import { isDiskFull } from '../../store/disk-error.ts';
import type { NarFileHandle } from '../../store/nar-file-store.ts';
import { asNarswarmError } from '../race/race-failures.ts';
import type { HeldFiles } from '../state/cache.ts';
import type { GivenNarInfo } from '../state/state.ts';
import type { NarStory } from '../story.ts';
import { Bell } from '../waiting.ts';
import { NarFetch, type NarFetchOptions } from './nar-fetch.ts';

export interface NarJobOptions
  extends Omit<
    NarFetchOptions,
    'signal' | 'sizeBytes' | 'narSizeBytes' | 'createWriter' | 'plan' | 'onProgress'
  > {
  given: GivenNarInfo;
  held: HeldFiles;
  /** Milliseconds since 1970. */
  clock(): number;
  /** The fetch is over, and this is how it went. */
  onStory(story: NarStory): void;
  /** As for a NarFetch. `sizeBytes` tells the size as soon as it is known. */
  plan(
    sizeBytes: () => number | undefined,
    trustTorrent: boolean,
    signal: AbortSignal,
  ): ReturnType<NarFetchOptions['plan']>;
  /** More of it can be read. */
  onProgress(): void;
  /** The fetch is over; `kept` when the file is held now. */
  onEnd(kept: boolean): void;
  /** The file is held now. */
  onKept(): void;
  /** Nothing is left to do and nobody reads. May come twice. */
  onIdle(): void;
}

export class NarJob {
  readonly fileHash: Sha256;
  readonly #options: NarJobOptions;
  readonly #stop = new AbortController();
  readonly #bell = new Bell();
  readonly #fetch: NarFetch;
  readonly #storeName: string;
  readonly #done: Promise<void>;
  /** Once it is held, unless all of it is in memory. */
  #file: NarFileHandle | undefined;
  #kept = false;
  #failure: NarswarmError | undefined;
  #ended = false;
  #readers = 0;
  #linger: NodeJS.Timeout | undefined;

  constructor(options: NarJobOptions) {
    const { given, fileHash, held, plan } = options;
    const { compression, fileSize, narSize } = given.narInfo;
    const { signal } = this.#stop;
    this.#options = options;
    this.fileHash = fileHash;
    // Only its bytes matter; a compression that has no extension of ours changes nothing about them.
    this.#storeName = narFileName(fileHash, isCompression(compression) ? compression : 'none');
    this.#fetch = new NarFetch({
      ...options,
      sizeBytes: fileSize,
      narSizeBytes: narSize,
      signal,
      createWriter: () => held.create(this.#storeName, fileSize),
      plan: (trustTorrent) => plan(() => this.sizeBytes, trustTorrent, signal),
      onProgress: () => {
        options.onProgress();
        this.#bell.ring();
      },
    });
    this.#done = this.#run();
  }

  /** Size of the whole file, once it is known. */
  get sizeBytes(): number | undefined {
    return this.#fetch.sizeBytes;
  }

  /** Bytes from the start that can be read. */
  get releasedBytes(): number {
    return this.#fetch.assembly?.released ?? 0;
  }

  /** Of those, the bytes that are known to be those of the torrent. */
  get checkedBytes(): number {
    return this.#fetch.assembly?.checkedBytes ?? 0;
  }

  /** True when a new request must start a new job. */
  get failed(): boolean {
    return this.#failure !== undefined || this.#stop.signal.aborted;
  }

  status() {
    const { appended: fetchedBytes = 0, released: releasedBytes = 0 } = this.#fetch.assembly ?? {};
    return {
      sizeBytes: this.sizeBytes,
      fetchedBytes,
      releasedBytes,
      readers: this.#readers,
      ...this.#fetch.fetched,
    };
  }

  /** A reader; as long as there is one the job goes on. */
  join(): NarReader {
    this.#readers++;
    clearTimeout(this.#linger);
    return new NarReader(this, () => this.#leave());
  }

  /** True when the byte at `position` may be read, false when the file ends before it. Throws when the job fails first. */
  async waitFor(position: number, signal: AbortSignal): Promise<boolean> {
    for (;;) {
      const { assembly } = this.#fetch;
      if (assembly !== undefined && position < assembly.released) return true;
      if (assembly?.complete === true) return false;
      if (this.#failure !== undefined) throw this.#failure;
      await this.#bell.next(signal);
    }
  }

  /** At least one byte; `position` is one that `waitFor` gave true for. */
  async read(position: number, lengthBytes: number): Promise<Buffer> {
    const file = this.#file;
    if (file !== undefined) return file.read(position, Math.min(lengthBytes, file.sizeBytes - position));
    if (this.#fetch.assembly !== undefined) return this.#fetch.assembly.read(position, lengthBytes);
    throw new NarswarmError('store-failed', 'read before there is anything');
  }

  /** The same; what it gives is to be given back by `release`. */
  async lend(position: number, lengthBytes: number): Promise<Buffer> {
    const { assembly } = this.#fetch;
    return assembly !== undefined && (this.#file === undefined || assembly.remembers(position))
      ? assembly.lend(position, lengthBytes)
      : this.read(position, lengthBytes);
  }

  release(bytes: Uint8Array): void {
    this.#fetch.assembly?.release(bytes);
  }

  /** Breaks the job off, for its readers too. */
  async close(): Promise<void> {
    this.#stop.abort(new NarswarmError('aborted', 'the client is stopping'));
    await this.#done;
    await this.#dispose();
  }

  #leave(): void {
    this.#readers--;
    if (this.#readers > 0) return;
    if (this.#ended) {
      void this.#dispose();
      return;
    }
    const { lingerMs, nearlyDoneBytes } = this.#options.limits;
    this.#linger = setTimeout(() => {
      const appended = this.#fetch.assembly?.appended ?? 0;
      const missing = (this.sizeBytes ?? Number.POSITIVE_INFINITY) - appended;
      if (appended > 0 && missing <= nearlyDoneBytes) return;
      this.#stop.abort(new NarswarmError('aborted', 'nobody reads any more'));
    }, lingerMs);
  }

  async #run(): Promise<void> {
    const { logger, counts, clock } = this.#options;
    const { fileHash } = this;
    const startedMs = clock();
    try {
      await this.#fetch.run();
      const { tookMs, httpMs } = this.#tell('fetched', startedMs);
      const savedMs = httpMs === undefined ? undefined : httpMs - tookMs;
      counts.fetched(this.#fetch.fetched, savedMs);
    } catch (error) {
      this.#failure = asNarswarmError(error);
      if (!this.#stop.signal.aborted) {
        counts.failed++;
        logger.warn('nar-failed', { fileHash, error: this.#failure });
      }
      this.#tell(this.#stop.signal.aborted ? 'stopped' : 'failed', startedMs);
      await this.#makeRoom(this.#failure);
    }
    this.#bell.ring();
    if (this.#failure === undefined) await this.#keep();
    this.#ended = true;
    this.#options.onEnd(this.#kept);
    if (this.#readers === 0) await this.#dispose();
  }

  #tell(outcome: NarStory['outcome'], startedMs: number): NarStory {
    const { given, ahead, onStory } = this.#options;
    const { fileHash } = this;
    const { storePath } = given.narInfo;
    const { storeHash } = given;
    const story = { fileHash, storeHash, storePath, startedMs, outcome, ahead, ...this.#fetch.story() };
    onStory(story);
    return story;
  }

  /** Into the store, if it fits. Readers go on meanwhile. */
  async #keep(): Promise<void> {
    const { held, logger, given, onKept } = this.#options;
    const { assembly } = this.#fetch;
    // Not the writer's size: its last writes may still be under way.
    if (assembly === undefined || held.tooLarge(assembly.appended)) return;
    const { fileHash } = this;
    try {
      const file = {
        fileHash,
        name: this.#storeName,
        sizeBytes: assembly.appended,
        narInfo: given.narInfo.text,
      };
      const kept = await held.keep(file, assembly.writer);
      this.#kept = kept !== undefined;
      if (kept !== 'unopened') this.#file = kept;
      onKept();
    } catch (error) {
      logger.error('nar-not-kept', { fileHash, error });
      await this.#makeRoom(error);
    }
  }

  /** For the files that come next. */
  async #makeRoom(error: unknown): Promise<void> {
    if (isDiskFull(error)) await this.#options.held.makeRoom(this.sizeBytes ?? 0);
  }

  async #dispose(): Promise<void> {
    clearTimeout(this.#linger);
    this.#options.onIdle();
    await this.#fetch.close();
    await this.#file?.close();
  }
}

/** One request's hold on a job. */
export class NarReader {
  readonly #job: NarJob;
  #onClose: (() => void) | undefined;

  constructor(job: NarJob, onClose: () => void) {
    this.#job = job;
    this.#onClose = onClose;
  }

  get sizeBytes(): number | undefined {
    return this.#job.sizeBytes;
  }

  /** See `NarJob.waitFor`. */
  waitFor(position: number, signal: AbortSignal): Promise<boolean> {
    return this.#job.waitFor(position, signal);
  }

  /** At least one byte from `position`, waiting for it; an empty buffer at the end of the file. */
  async read(position: number, lengthBytes: number, signal: AbortSignal): Promise<Buffer> {
    if (!(await this.#job.waitFor(position, signal))) return Buffer.alloc(0);
    return this.#job.lend(position, lengthBytes);
  }

  /** Bytes that `read` gave are not read any more. Nobody has to say so; their memory is used again then. */
  release(bytes: Uint8Array): void {
    this.#job.release(bytes);
  }

  /** May be called twice. */
  close(): void {
    const onClose = this.#onClose;
    this.#onClose = undefined;
    onClose?.();
  }
}
