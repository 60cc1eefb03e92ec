/**
 * A binary cache over HTTP, which cannot be listed: it is walked from given store paths along their References. NAR
 * files are downloaded into the seeder's own store. What is in the catalog already costs no request.
 */

import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { NarFileEntry, NarInfoKey } from '../catalog/catalog.ts';
import { cacheInfoDefaultStoreDir } from '../nar/cache-info.ts';
import { checkNarInfo } from '../nar/check-narinfo.ts';
import { type Compression, narFileName } from '../nar/compression.ts';
import { NarswarmError } from '../nar/errors.ts';
import type { Sha256 } from '../nar/hash.ts';
import { type NarInfo, parseNarInfo } from '../nar/narinfo.ts';
import { parseStoreHash, type StoreHash, storeHashOf } from '../nar/store-path.ts';
import type { NarFileStore } from '../store/nar-file-store.ts';
import { HttpCache, type OpenNar } from '../upstream/http-cache.ts';
import { readStorePaths } from '../upstream/store-paths.ts';
import { Exclusive } from './exclusive.ts';
import { download, storedPath } from './http-source-download.ts';
import { Frontier } from './http-source-frontier.ts';
import { recordKnown, recordVerified } from './ingest-record.ts';
import {
  type CacheSource,
  type Outcome,
  policyTag,
  recordRefusal,
  type SourceParts,
} from './ingest-source.ts';

export interface HttpSourceParts extends SourceParts {
  readonly store: NarFileStore;
  /** Directory of `store`. */
  readonly storeDir: string;
  /** File or URL of the store paths to begin with. */
  readonly storePaths: string;
}

export class HttpSource implements CacheSource {
  readonly url: string;
  readonly #parts: HttpSourceParts;
  readonly #cache: HttpCache;
  readonly #narFiles = new Exclusive();
  #frontier: Frontier | undefined;
  #storeDir = cacheInfoDefaultStoreDir;
  #policy = '';
  /** Items given out and not taken yet: they may still name others. */
  #underWay = 0;
  #wake: () => void = () => undefined;

  constructor(parts: HttpSourceParts) {
    this.#parts = parts;
    this.url = parts.url;
    this.#cache = new HttpCache({ url: parts.url });
  }

  /** Store hashes: those of the list, and whatever `take` finds that they refer to. */
  async *items(signal: AbortSignal): AsyncGenerator<string> {
    const info = await this.#cache.getCacheInfo(signal);
    if (info === undefined) throw new NarswarmError('upstream-failed', `${this.url} has no nix-cache-info`);
    this.#storeDir = info.storeDir;
    this.#parts.onStoreDir(info.storeDir);
    this.#policy = policyTag(this.#parts, info.storeDir);
    // A run that was stopped has left its own behind.
    this.#frontier?.close();
    const frontier = new Frontier();
    this.#frontier = frontier;
    this.#underWay = 0;
    const wake = (): void => this.#wake();
    signal.addEventListener('abort', wake);
    const list = readStorePaths(this.#parts.storePaths, { signal });
    try {
      for (let listEnded = false; ; ) {
        if (signal.aborted) throw new NarswarmError('aborted', 'the walk was given up');
        const next = frontier.next();
        if (next !== undefined) {
          this.#underWay++;
          yield next;
        } else if (!listEnded) {
          // Read no faster than its paths are taken.
          const path = await list.next();
          if (path.done === true) listEnded = true;
          else frontier.add(storeHashOf(path.value));
        } else if (this.#underWay > 0) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        } else return;
      }
    } finally {
      signal.removeEventListener('abort', wake);
      await list.return(undefined);
    }
  }

  async take(item: string, signal: AbortSignal): Promise<Outcome> {
    const { catalog } = this.#parts;
    const hash = parseStoreHash(item);
    const narInfoName = `${hash}.narinfo`;
    let fingerprint = this.#fingerprint('', undefined);
    try {
      const known = catalog.known(this.url, narInfoName);
      if (known?.state === 'accepted' && this.#isOfPolicy(known.fingerprint) && (await this.#isHeld(hash))) {
        return 'unchanged';
      }
      const text = await this.#cache.getNarInfo(hash, signal);
      if (text === undefined) {
        throw new NarswarmError('upstream-failed', 'the cache has no such narinfo');
      }
      fingerprint = this.#fingerprint(text, undefined);
      const narInfo = parseNarInfo(text);
      const compression = checkNarInfo(narInfo, narInfoName, this.#storeDir, this.#parts.trustedKeys);
      this.#meet(narInfo);
      return await this.#narFiles.run(narInfo.url, async () => {
        const key = { source: this.url, narInfoName, fingerprint };
        if (await this.#isRecorded(key, narInfo)) return 'accepted';
        const opened = await this.#cache.openNar(narInfo.url, { signal });
        if (opened === undefined) throw new NarswarmError('nar-file-missing', `nothing at ${narInfo.url}`);
        key.fingerprint = fingerprint = this.#fingerprint(text, opened);
        if (known?.state === 'refused' && known.fingerprint === fingerprint) {
          await opened.body.return();
          return 'refused';
        }
        return await this.#takeNarFile(key, narInfo, compression, opened, signal);
      });
    } catch (error) {
      return await recordRefusal(this.#parts, { source: this.url, narInfoName, fingerprint }, error);
    } finally {
      this.#underWay--;
      this.#wake();
    }
  }

  /** Nobody knows before the walk is over. */
  async count(): Promise<undefined> {}

  async finish(): Promise<void> {
    this.#frontier?.close();
    this.#frontier = undefined;
  }

  async close(): Promise<void> {
    this.#frontier?.close();
    await this.#cache.close();
  }

  /** With what the upstream tells of the NAR file, so that one that was replaced is downloaded again. */
  #fingerprint(text: string, nar: OpenNar | undefined): string {
    const tag = createHash('sha256')
      .update(JSON.stringify([text, nar?.etag ?? '', nar?.lengthBytes ?? '', nar?.finalUrl ?? '']))
      .digest('hex');
    return `h1 ${this.#policy} ${tag}`;
  }

  #isOfPolicy(fingerprint: string): boolean {
    return fingerprint.startsWith(`h1 ${this.#policy} `);
  }

  /** Whether an accepted narinfo needs nothing; then its references are met. */
  async #isHeld(hash: StoreHash): Promise<boolean> {
    const { catalog } = this.#parts;
    const text = catalog.narInfo(hash);
    if (text === undefined) return false;
    const narInfo = parseNarInfo(text);
    const entry = this.#entryOf(narInfo);
    if (entry === undefined || !(await this.#isStored(entry))) return false;
    this.#meet(narInfo);
    return true;
  }

  #entryOf({ fileHash, url }: NarInfo): NarFileEntry | undefined {
    const { catalog } = this.#parts;
    return fileHash === undefined ? catalog.byUrl(url) : catalog.byFileHash(fileHash);
  }

  /** Whether the NAR file is as it was when it was verified. For one in another source that source answers. */
  async #isStored({ location }: NarFileEntry): Promise<boolean> {
    if (location.source !== this.url) return true;
    try {
      const now = await stat(join(this.#parts.storeDir, location.path), { bigint: true });
      return now.mtimeNs === location.mtimeNs && now.size === BigInt(location.sizeBytes);
    } catch {
      return false;
    }
  }

  async #isRecorded(key: NarInfoKey, narInfo: NarInfo): Promise<boolean> {
    // Without a FileHash nothing says that the bytes behind the URL are still the same.
    const entry = narInfo.fileHash && this.#entryOf(narInfo);
    if (!entry || !(await this.#isStored(entry))) return false;
    return this.#parts.batch.run(() => recordKnown(this.#parts, key, narInfo, entry));
  }

  async #takeNarFile(
    key: NarInfoKey,
    narInfo: NarInfo,
    compression: Compression,
    opened: OpenNar,
    signal: AbortSignal,
  ): Promise<Outcome> {
    const { store, storeDir, pool, catalog, batch } = this.#parts;
    const fileHash = await this.#stored(narInfo, compression, opened, signal);
    const name = narFileName(fileHash, compression);
    const path = storedPath(name);
    const { fileSize, narHash, narSize } = narInfo;
    try {
      const job = { path: join(storeDir, path), compression, fileHash, fileSize, narHash, narSize };
      const verified = await pool.verify(job, signal);
      await batch.run(() => recordVerified(catalog, key, narInfo, { ...verified, compression, path }));
      this.#parts.onVerified(verified.fileSize);
      return 'accepted';
    } finally {
      // What is of no use, or not known to be of any, is not kept. A killed seeder leaves it; the next run looks there first.
      if (catalog.byFileHash(fileHash) === undefined) await store.remove(name);
    }
  }

  /** The NAR file in the store: the one that is there, or else downloaded. */
  async #stored(
    narInfo: NarInfo,
    compression: Compression,
    opened: OpenNar,
    signal: AbortSignal,
  ): Promise<Sha256> {
    const { store } = this.#parts;
    try {
      if (narInfo.fileHash !== undefined) {
        const there = await store.open(narFileName(narInfo.fileHash, compression));
        await there?.close();
        const sizeBytes = there?.sizeBytes;
        if (sizeBytes !== undefined && sizeBytes === (narInfo.fileSize ?? sizeBytes)) return narInfo.fileHash;
      }
      return await download(store, opened.body, narInfo, compression, signal);
    } finally {
      await opened.body.return();
    }
  }

  #meet({ references }: NarInfo): void {
    for (const reference of references) this.#frontier?.add(storeHashOf(reference));
    this.#wake();
  }
}
