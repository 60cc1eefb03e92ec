/** Reads all sources: what is new is verified, signed and taken into the catalog. */

import { join } from 'node:path';
import type { Catalog } from '../catalog/catalog.ts';
import { cacheInfoDefaultStoreDir } from '../nar/cache-info.ts';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import type { PublicKey, SecretKey } from '../nar/signature.ts';
import type { NarFileStore } from '../store/nar-file-store.ts';
import { CatalogBatch } from './catalog-batch.ts';
import { forEachBounded } from './exclusive.ts';
import { HttpSource } from './http-source.ts';
import { PaceMeter } from './ingest-pace.ts';
import type { CacheSource, SourceParts } from './ingest-source.ts';
import { DirectorySource } from './scan-directory.ts';
import { VerifyPool } from './verify-pool.ts';

/** Narinfos that are read at once, beyond those that keep the verifiers busy: enough to hide the disk's latency. */
export const ingestAhead = 16;

/** Least time between two calls of `onProgress`. */
export const progressEveryMs = 250;

/** Name of the catalog's note of the store directory that its narinfos are for. */
export const storeDirKey = 'nix-store-dir';

export interface IngestOptions {
  /** `store` lies in its `store` directory. */
  dataDir: string;
  /** `file:///dir` or `http(s)://…`. */
  sources: readonly string[];
  /** What none of these keys signed is refused, unless it is content-addressed. */
  trustedKeys: readonly PublicKey[];
  /** Signs the torrentinfos. */
  secretKey: SecretKey;
  /** File or URL with the store paths to take from sources behind HTTP. */
  storePaths?: string | undefined;
  catalog: Catalog;
  /** For NAR files of sources behind HTTP. */
  store: NarFileStore;
  /** Threads that verify; as many as there are processors by default. */
  workers?: number;
  clock?: () => number;
  onProgress?: (progress: IngestProgress) => void;
}

export interface IngestProgress {
  running: boolean;
  /** Narinfos that are being read, or whose NAR files are verified or wait for it. */
  pending: number;
  /** Narinfos of this run, or of the last one, that were dealt with, however it ended. */
  done: number;
  /** Of those, the ones that are refused. */
  refused: number;
  /** Of those, the ones that changed while they were read; the next run reads them. */
  later: number;
  /** Bytes of NAR files that were verified in this run. */
  bytes: number;
  /** Of late; after a run, all through it. */
  bytesPerSecond: number;
  /** Narinfos that there are; missing until they are counted, and when a source cannot be listed. */
  total?: number | undefined;
  /** At the pace of late; missing as long as nobody can tell, and after the run. */
  secondsLeft?: number | undefined;
  /** When this run began, in milliseconds since 1970; 0 before the first. */
  startedMs: number;
  /** Sources that could not be read to the end, and why. */
  failed: { source: string; message: string }[];
}

export class Ingest {
  readonly #options: IngestOptions;
  readonly #pool: VerifyPool;
  readonly #batch: CatalogBatch;
  readonly #sources: CacheSource[];
  readonly #clock: () => number;
  readonly #stopping = new AbortController();
  #run: Promise<void> | undefined;
  #progress: Counted = freshProgress(0);
  #meter = new PaceMeter(0);
  #endedMs = 0;
  #toldMs = 0;
  #closed: Promise<void> | undefined;

  /** Throws `config-invalid` for a source that cannot be one. */
  constructor(options: IngestOptions) {
    this.#options = options;
    this.#clock = options.clock ?? Date.now;
    const { workers, trustedKeys, secretKey } = options;
    this.#pool = new VerifyPool({ ...(workers === undefined ? {} : { workers }), trustedKeys, secretKey });
    this.#batch = new CatalogBatch(options.catalog);
    this.#sources = options.sources.map((url) => this.#openSource(url));
  }

  /** The store directory of the cache, as last seen. */
  get nixStoreDir(): string {
    return this.#options.catalog.getMeta(storeDirKey) ?? cacheInfoDefaultStoreDir;
  }

  progress(): IngestProgress {
    const { done, bytes, total, running, startedMs, failed } = this.#progress;
    const seconds = (this.#endedMs - startedMs) / 1000;
    const pace = running
      ? this.#meter.pace(this.#clock(), done, bytes, total)
      : { bytesPerSecond: seconds > 0 ? Math.round(bytes / seconds) : 0 };
    // Some may have come after the others were counted.
    const all = total === undefined ? {} : { total: Math.max(total, done) };
    return { ...this.#progress, ...all, ...pace, failed: [...failed] };
  }

  /**
   * Reads all sources once. An error of one does not keep the others from being read; it is thrown at the end. Throws
   * `aborted` when `signal` says so; what was finished until then stays. While a run is under way, gives that one.
   */
  run(signal?: AbortSignal): Promise<void> {
    if (this.#stopping.signal.aborted) return Promise.reject(aborted());
    const either = signal ? AbortSignal.any([signal, this.#stopping.signal]) : this.#stopping.signal;
    this.#run ??= this.#readAll(either).finally(() => {
      this.#run = undefined;
    });
    return this.#run;
  }

  /** Ends the threads that have nothing to do, until the next run. */
  rest(): Promise<void> {
    return this.#pool.rest();
  }

  /** Stops the run, if there is one, and ends the workers. May be called twice. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      this.#stopping.abort();
      await this.#run?.catch(() => undefined);
      await Promise.all([this.#pool.close(), ...this.#sources.map((source) => source.close())]);
    })();
    return this.#closed;
  }

  async #readAll(signal: AbortSignal): Promise<void> {
    const startedMs = this.#clock();
    this.#progress = { ...freshProgress(startedMs), running: true };
    this.#meter = new PaceMeter(startedMs);
    const counting = this.#countAll(this.#progress, signal);
    const errors: unknown[] = [];
    try {
      for (const source of this.#sources) {
        try {
          await this.#read(source, signal);
        } catch (error) {
          if (signal.aborted || isNarswarmError(error, 'aborted')) throw aborted(error);
          errors.push(error);
          const message = error instanceof Error ? error.message : String(error);
          this.#progress.failed.push({ source: source.url, message });
        }
      }
    } finally {
      await counting;
      this.#endedMs = this.#clock();
      this.#progress.running = false;
      this.#tell(true);
    }
    if (errors.length === 1) throw errors[0];
    if (errors.length > 1) throw new AggregateError(errors, `${errors.length} sources could not be read`);
  }

  /** Beside the reading, which need not wait for it. A source that cannot be counted fails when it is read. */
  async #countAll(progress: Counted, signal: AbortSignal): Promise<void> {
    try {
      let total = 0;
      for (const source of this.#sources) {
        const count = await source.count(signal);
        if (count === undefined || signal.aborted) return;
        total += count;
      }
      progress.total = total;
    } catch {
      // Then the total stays unknown.
    }
  }

  async #read(source: CacheSource, signal: AbortSignal): Promise<void> {
    const progress = this.#progress;
    await forEachBounded(source.items(signal), this.#pool.capacity + ingestAhead, async (item) => {
      progress.pending++;
      try {
        const outcome = await source.take(item, signal);
        progress.done++;
        if (outcome === 'refused' || outcome === 'later') progress[outcome]++;
      } finally {
        progress.pending--;
        this.#meter.note(this.#clock(), progress.done, progress.bytes);
        this.#tell(false);
      }
    });
    await source.finish(signal);
  }

  #tell(always: boolean): void {
    const { onProgress } = this.#options;
    const nowMs = this.#clock();
    if (onProgress === undefined || (!always && nowMs - this.#toldMs < progressEveryMs)) return;
    this.#toldMs = nowMs;
    onProgress(this.progress());
  }

  #openSource(url: string): CacheSource {
    const { catalog, trustedKeys, secretKey, store, storePaths, dataDir } = this.#options;
    const parts: SourceParts = {
      url,
      catalog,
      trustedKeys,
      secretKey,
      pool: this.#pool,
      batch: this.#batch,
      onStoreDir: (storeDir) => this.#takeStoreDir(url, storeDir),
      onVerified: (sizeBytes) => {
        this.#progress.bytes += sizeBytes;
      },
    };
    if (url.startsWith('file:')) return new DirectorySource(parts);
    if (storePaths === undefined) {
      throw new NarswarmError('config-invalid', `${url} cannot be listed: it needs a list of store paths`);
    }
    return new HttpSource({ ...parts, store, storeDir: join(dataDir, 'store'), storePaths });
  }

  /** All narinfos of a catalog are for one store directory: Nix drops a cache that has another than its own. */
  #takeStoreDir(source: string, storeDir: string): void {
    const { catalog } = this.#options;
    const known = catalog.getMeta(storeDirKey);
    if (known === undefined || (known !== storeDir && catalog.counts().narinfos === 0)) {
      catalog.setMeta(storeDirKey, storeDir);
    } else if (known !== storeDir) {
      throw new NarswarmError(
        'store-dir-mismatch',
        `${source} is for ${storeDir}, this catalog for ${known}`,
      );
    }
  }
}

/** What is counted; the rest of the progress follows from it. */
type Counted = Omit<IngestProgress, 'bytesPerSecond' | 'secondsLeft'>;

function freshProgress(startedMs: number): Counted {
  return { running: false, pending: 0, done: 0, refused: 0, later: 0, bytes: 0, startedMs, failed: [] };
}

function aborted(cause?: unknown): NarswarmError {
  return new NarswarmError('aborted', 'reading the sources was given up', { cause });
}
