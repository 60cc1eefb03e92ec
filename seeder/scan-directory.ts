/**
 * A binary cache in a directory, served in place. What was read before and has not changed since is not read again; the rows
 * of the catalog are the only record of how far a scan has come.
 */

import { open, opendir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { NarInfoKey } from '../catalog/catalog.ts';
import { cacheInfoDefaultStoreDir, cacheInfoMaxBytes, parseCacheInfo } from '../nar/cache-info.ts';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { type NarInfo, narInfoMaxBytes, parseNarInfo } from '../nar/narinfo.ts';
import { parseStoreHash } from '../nar/store-path.ts';
import { diskError, errorCode } from '../store/disk-error.ts';
import { Exclusive, forEachBounded } from './exclusive.ts';
import { recordKnown, recordVerified } from './ingest-record.ts';
import {
  type CacheSource,
  checkNarInfo,
  type Outcome,
  policyTag,
  recordRefusal,
  type SourceParts,
} from './ingest-source.ts';
import { type FileVersion, narPathOf, printFingerprint, sameVersion, versionOf } from './scan-fingerprint.ts';
import { realPathWithin, sourcePathOf } from './scan-path.ts';

/** Directory entries read at once. */
const directoryReadEntries = 256;
/** Rows read at once when looking for narinfos that are gone, and files looked at side by side. */
const sweepPageRows = 1000;
const sweepAtOnce = 16;

const suffix = '.narinfo';

/** What `take` finds out, step by step: it makes the fingerprint. */
interface Seen {
  narInfo: FileVersion | undefined;
  nar: FileVersion | undefined;
  narPath: string | undefined;
}

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
        if (name.endsWith(suffix) && !name.startsWith('.')) yield name;
      }
    } catch (cause) {
      throw diskError(`list ${this.#directory}`, cause);
    }
  }

  async take(name: string, signal: AbortSignal): Promise<Outcome> {
    const { catalog } = this.#parts;
    const known = catalog.known(this.url, name);
    const seen: Seen = { narInfo: undefined, nar: undefined, narPath: undefined };
    try {
      seen.narInfo = await versionOf(join(this.#directory, name));
      if (known !== undefined && (await this.#isUnchanged(known.fingerprint, seen.narInfo))) {
        return known.state === 'accepted' ? 'unchanged' : 'refused';
      }
      return await this.#read(name, seen, signal);
    } catch (error) {
      const key = { source: this.url, narInfoName: name, fingerprint: this.#fingerprint(seen) };
      return recordRefusal(catalog, key, error);
    }
  }

  /** Forgets the narinfos that are no longer there. */
  async finish(signal: AbortSignal): Promise<void> {
    if (!this.#hasCacheInfo) return;
    await forEachBounded(this.#knownNames(signal), sweepAtOnce, async (name) => {
      const there = await versionOf(join(this.#directory, name));
      if (there === undefined) this.#parts.catalog.forget(this.url, name);
    });
  }

  async close(): Promise<void> {}

  async #readCacheInfo(): Promise<void> {
    let text: string;
    try {
      this.#realDirectory = await realpath(this.#directory);
      text = (await readSmall(join(this.#directory, 'nix-cache-info'), cacheInfoMaxBytes)).toString();
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

  async #isUnchanged(fingerprint: string, narInfo: FileVersion | undefined): Promise<boolean> {
    const before = narPathOf(fingerprint);
    if (before === undefined) return false;
    const { narPath } = before;
    const nar = narPath === undefined ? undefined : await versionOf(join(this.#directory, narPath));
    return this.#fingerprint({ narInfo, nar, narPath }) === fingerprint;
  }

  #fingerprint(seen: Seen): string {
    return printFingerprint({ ...seen, policy: this.#policy });
  }

  async #read(name: string, seen: Seen, signal: AbortSignal): Promise<Outcome> {
    const narInfo = await this.#readNarInfo(name, seen.narInfo);
    const compression = checkNarInfo(narInfo, name, this.#storeDir, this.#parts.trustedKeys);
    const narPath = sourcePathOf(narInfo.url);
    seen.narPath = narPath;
    return this.#narFiles.run<Outcome>(narPath, async () => {
      const path = join(this.#directory, narPath);
      const nar = await versionOf(path);
      seen.nar = nar;
      if ((await realPathWithin(this.#realDirectory, path)) === undefined || nar === undefined) {
        throw new NarswarmError('nar-file-missing', `there is no file ${narPath}`);
      }
      const key = { source: this.url, narInfoName: name, fingerprint: this.#fingerprint(seen) };
      if (this.#isRecorded(key, narInfo, narPath, nar)) return 'accepted';
      const { fileHash, fileSize, narHash, narSize } = narInfo;
      const job = { path, compression, fileHash, fileSize, narHash, narSize };
      const verified = await this.#parts.pool.verify(job, signal);
      const { mtimeNs, inode } = verified;
      const read: FileVersion = { sizeBytes: verified.fileSize, mtimeNs, inode, isFile: true };
      if (!sameVersion(read, nar) || !sameVersion(read, await versionOf(path))) {
        throw new NarswarmError('not-held', `${narPath} changed while it was read`);
      }
      recordVerified(this.#parts, key, narInfo, { ...verified, compression, path: narPath });
      this.#parts.onVerified(verified.fileSize);
      return 'accepted';
    });
  }

  async #readNarInfo(name: string, version: FileVersion | undefined): Promise<NarInfo> {
    checkName(name);
    if (version?.isFile !== true) throw new NarswarmError('narinfo-corrupt', `${name} is no file`);
    const path = join(this.#directory, name);
    if ((await realPathWithin(this.#realDirectory, path)) === undefined) {
      throw new NarswarmError('not-held', `${name} went away`);
    }
    try {
      return parseNarInfo(await readSmall(path, narInfoMaxBytes));
    } catch (cause) {
      throw diskError(`read ${name}`, cause);
    }
  }

  /** Whether the NAR file was verified before, under another narinfo or other keys, and is still the same. */
  #isRecorded(key: NarInfoKey, narInfo: NarInfo, narPath: string, nar: FileVersion): boolean {
    const { catalog } = this.#parts;
    const { fileHash, url } = narInfo;
    const entry = fileHash === undefined ? catalog.byUrl(url) : catalog.byFileHash(fileHash);
    if (entry === undefined) return false;
    const { source, path, sizeBytes, mtimeNs } = entry.location;
    const same = source === this.url && path === narPath;
    const unchanged = sizeBytes === nar.sizeBytes && mtimeNs === nar.mtimeNs;
    return same && unchanged && recordKnown(this.#parts, key, narInfo, entry);
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

function checkName(name: string): void {
  try {
    parseStoreHash(name.slice(0, -suffix.length));
  } catch (cause) {
    if (!isNarswarmError(cause)) throw cause;
    throw new NarswarmError('narinfo-corrupt', `${name.slice(0, 100)} is not named after a store path`, {
      cause,
    });
  }
}

/** A file of at most `maxBytes`; a longer one is cut one byte later, so that its parser refuses it. */
async function readSmall(path: string, maxBytes: number): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const buffer = Buffer.allocUnsafe(Math.min(size, maxBytes + 1));
    let filled = 0;
    while (filled < buffer.length) {
      const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return buffer.subarray(0, filled);
  } finally {
    await file.close();
  }
}
