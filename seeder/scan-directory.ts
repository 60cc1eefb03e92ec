/**
 * A binary cache in a directory, served in place. What was read before and has not changed since is not read again; the rows
 * of the catalog are the only record of how far a scan has come.
 */

import { opendir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { NarInfoKey } from '../catalog/catalog.ts';
import { cacheInfoDefaultStoreDir, cacheInfoMaxBytes, parseCacheInfo } from '../nar/cache-info.ts';
import { NarswarmError } from '../nar/errors.ts';
import type { NarInfo } from '../nar/narinfo.ts';
import { diskError, errorCode } from '../store/disk-error.ts';
import { type FileVersion, sameVersion, versionOf } from '../store/file-version.ts';
import { Exclusive, forEachBounded } from './exclusive.ts';
import { recordKnown, recordVerified } from './ingest-record.ts';
import {
  type CacheSource,
  type Outcome,
  policyTag,
  recordRefusal,
  type SourceParts,
} from './ingest-source.ts';
import { type NarInfoRead, narInfoSuffix, readSmall } from './scan-read.ts';
import { errorOf } from './verify-pool.ts';

/** Directory entries read at once, and when they are only counted. */
const directoryReadEntries = 256;
const countReadEntries = 4096;
/** Rows read at once when looking for narinfos that are gone, and files looked at side by side. */
const sweepPageRows = 1000;
const sweepAtOnce = 16;

export class DirectorySource implements CacheSource {
  readonly url: string;
  readonly #parts: SourceParts;
  readonly #directory: string;
  /** Two narinfos of one NAR file must not have it read twice. */
  readonly #narFiles = new Exclusive();
  #realDirectory = '';
  #storeDir = cacheInfoDefaultStoreDir;
  #policy = '';
  /** False when the directory does not look like a cache: then nothing is forgotten, for it may be a disk that is not there. */
  #hasCacheInfo = false;

  /** `parts.url` begins with `file:`. */
  constructor(parts: SourceParts) {
    this.#parts = parts;
    this.url = parts.url;
    this.#directory = fileURLToPath(parts.url);
  }

  /** Names of narinfos. Throws `store-failed` when the directory cannot be read, and `cache-info-corrupt`. */
  async *items(signal: AbortSignal): AsyncGenerator<string> {
    await this.#readCacheInfo();
    try {
      const directory = await opendir(this.#directory, { bufferSize: directoryReadEntries });
      for await (const { name } of directory) {
        if (signal.aborted) throw new NarswarmError('aborted', 'the scan was given up');
        if (isNarInfoName(name)) yield name;
      }
    } catch (cause) {
      throw diskError(`list ${this.#directory}`, cause);
    }
  }

  /** Reads the directory once more, and holds nothing of it. */
  async count(signal: AbortSignal): Promise<number> {
    let count = 0;
    for await (const { name } of await opendir(this.#directory, { bufferSize: countReadEntries })) {
      if (signal.aborted) break;
      if (isNarInfoName(name)) count++;
    }
    return count;
  }

  async take(narInfoName: string, signal: AbortSignal): Promise<Outcome> {
    const { catalog, pool } = this.#parts;
    const known = catalog.known(this.url, narInfoName);
    const key = { source: this.url, narInfoName, fingerprint: '' };
    try {
      const job = {
        directory: this.#directory,
        realDirectory: this.#realDirectory,
        storeDir: this.#storeDir,
        policy: this.#policy,
        narInfoName,
        known: known?.fingerprint,
      };
      const read = await pool.read(job, signal);
      if (read === 'unchanged') return known?.state === 'refused' ? 'refused' : 'unchanged';
      key.fingerprint = read.fingerprint;
      if ('refused' in read) throw errorOf(read.refused);
      return await this.#verify(key, read, signal);
    } catch (error) {
      return recordRefusal(this.#parts, key, error);
    }
  }

  /** Forgets the narinfos that are no longer there. */
  async finish(signal: AbortSignal): Promise<void> {
    if (!this.#hasCacheInfo) return;
    const { catalog, batch } = this.#parts;
    await forEachBounded(this.#knownNames(signal), sweepAtOnce, async (name) => {
      const there = await versionOf(join(this.#directory, name));
      if (there === undefined) await batch.run(() => catalog.forget(this.url, name));
    });
  }

  async close(): Promise<void> {}

  async #readCacheInfo(): Promise<void> {
    let text: string;
    try {
      this.#realDirectory = await realpath(this.#directory);
      text = readSmall(join(this.#directory, 'nix-cache-info'), cacheInfoMaxBytes).toString();
      this.#hasCacheInfo = true;
    } catch (cause) {
      if (this.#realDirectory === '' || errorCode(cause) !== 'ENOENT') {
        throw diskError(`read the cache in ${this.#directory}`, cause);
      }
      this.#hasCacheInfo = false;
      text = '';
    }
    this.#storeDir = parseCacheInfo(text).storeDir;
    this.#parts.onStoreDir(this.#storeDir);
    this.#policy = policyTag(this.#parts, this.#storeDir);
  }

  async #verify(
    key: NarInfoKey,
    { narInfo, compression, narPath, nar }: NarInfoFound,
    signal: AbortSignal,
  ): Promise<Outcome> {
    return this.#narFiles.run<Outcome>(narPath, async () => {
      if (await this.#isRecorded(key, narInfo, narPath, nar)) return 'accepted';
      const { fileHash, fileSize, narHash, narSize } = narInfo;
      const job = { path: join(this.#directory, narPath), compression, fileHash, fileSize, narHash, narSize };
      const verified = await this.#parts.pool.verify(job, signal);
      const { mtimeNs, inode } = verified;
      const read: FileVersion = { sizeBytes: verified.fileSize, mtimeNs, inode, isFile: true };
      if (!sameVersion(read, nar)) {
        throw new NarswarmError('not-held', `${narPath} changed while it was read`);
      }
      await this.#parts.batch.run(() =>
        recordVerified(this.#parts.catalog, key, narInfo, { ...verified, compression, path: narPath }),
      );
      this.#parts.onVerified(verified.fileSize);
      return 'accepted';
    });
  }

  /** Whether the NAR file was verified before, under another narinfo or other keys, and is still the same. */
  async #isRecorded(key: NarInfoKey, narInfo: NarInfo, narPath: string, nar: FileVersion): Promise<boolean> {
    const { catalog, batch } = this.#parts;
    const { fileHash, url } = narInfo;
    const entry = fileHash === undefined ? catalog.byUrl(url) : catalog.byFileHash(fileHash);
    if (entry === undefined) return false;
    const { source, path, sizeBytes, mtimeNs } = entry.location;
    const same = source === this.url && path === narPath;
    const unchanged = sizeBytes === nar.sizeBytes && mtimeNs === nar.mtimeNs;
    return same && unchanged && batch.run(() => recordKnown(this.#parts, key, narInfo, entry));
  }

  async *#knownNames(signal: AbortSignal): AsyncGenerator<string> {
    const { catalog } = this.#parts;
    let page: string[];
    for (let after: string | undefined; ; after = page.at(-1)) {
      page = catalog.narInfoNames(this.url, after, sweepPageRows);
      yield* page;
      if (signal.aborted) throw new NarswarmError('aborted', 'the scan was given up');
      if (page.length < sweepPageRows) break;
    }
    for (let after = ''; ; ) {
      const refusals = catalog
        .refusals(sweepPageRows, { source: this.url, narInfoName: after })
        .filter(({ source }) => source === this.url);
      for (const { narInfoName } of refusals) yield narInfoName;
      if (signal.aborted) throw new NarswarmError('aborted', 'the scan was given up');
      if (refusals.length < sweepPageRows) break;
      after = refusals.at(-1)?.narInfoName ?? '';
    }
  }
}

type NarInfoFound = Extract<NarInfoRead, { nar: FileVersion }>;

function isNarInfoName(name: string): boolean {
  return name.endsWith(narInfoSuffix) && !name.startsWith('.');
}
