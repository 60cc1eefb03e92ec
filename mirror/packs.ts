/**
 * Packs whose NAR files are all held: made again here, and seeded from the NAR files where they lie. Of a pack only its narinfos and its
 * info dictionary are kept beside them, about two hundredths of it.
 */

import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { type Pack, packCacheInfo, packFiles, packLength, packName, parsePack } from '../catalog/pack.ts';
import { packNarInfo } from '../catalog/pack-narinfo.ts';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { type InfoHash, parseInfoHash } from '../nar/hash.ts';
import { remakePack } from '../parts/remake-pack.ts';
import { diskError, errorCode } from '../store/disk-error.ts';
import { packTorrentOf } from '../swarm/torrent/pack-torrent.ts';
import { infoDictionary, type Torrent } from '../swarm/torrent/torrent.ts';
import type { Logger } from '../web/log.ts';
import type { MirrorCatalog } from './catalogs.ts';
import type { Holdings } from './holdings.ts';
import type { MirrorState } from './state.ts';
import { WakeUp } from './wake-up.ts';

/** Packs looked at between two turns of others: each may have thousands of NAR files. */
const pagePacks = 16;
const readBytes = 256 * 1024;

export interface KeptPack {
  readonly infoHash: InfoHash;
  readonly catalog: MirrorCatalog;
  readonly pack: Pack;
}

export interface PacksOptions {
  dir: string;
  catalogs: readonly MirrorCatalog[];
  state: MirrorState;
  holdings: Holdings;
  logger: Logger;
  /** A pack can be seeded from now on, or not any more. */
  onChange(infoHash: InfoHash, whole: boolean): void;
  /** Milliseconds after a change. */
  settleMs: number;
}

export class Packs {
  readonly #options: PacksOptions;
  readonly #whole = new Map<InfoHash, MirrorCatalog>();
  /** Not what their manifests say, however often they are made: `<catalog> <infohash>`, as what one catalog says is held against no other. */
  readonly #wrong = new Set<string>();
  readonly #wake = new WakeUp();
  readonly #closing = new AbortController();
  readonly #loop: Promise<void>;

  private constructor(options: PacksOptions) {
    this.#options = options;
    this.#loop = this.#run();
  }

  static async open(options: PacksOptions): Promise<Packs> {
    await mkdir(options.dir, { recursive: true });
    return new Packs(options);
  }

  /** What is held, or a catalog, has changed. */
  lookAgain(): void {
    this.#wake.ring();
  }

  has(infoHash: InfoHash): boolean {
    return this.#whole.has(infoHash);
  }

  /** `undefined` unless it is whole. */
  get(infoHash: InfoHash): KeptPack | undefined {
    const catalog = this.#whole.get(infoHash);
    const manifest = catalog?.followed.pack(infoHash);
    return catalog && manifest !== undefined ? { infoHash, catalog, pack: parsePack(manifest) } : undefined;
  }

  /** Those that are whole, and whose catalogs they are of. */
  list(): (readonly [InfoHash, MirrorCatalog])[] {
    return [...this.#whole];
  }

  metaPath(infoHash: InfoHash): string {
    return join(this.#options.dir, `${infoHash}.meta`);
  }

  /** Its info dictionary. Throws `store-failed`. */
  async info(infoHash: InfoHash): Promise<Buffer> {
    try {
      return await readFile(this.#infoPath(infoHash));
    } catch (cause) {
      throw diskError(`read the info dictionary of pack ${infoHash}`, cause);
    }
  }

  status() {
    return { seeded: this.#whole.size, wrong: this.#wrong.size };
  }

  /** May be called twice. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#wake.ring();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { logger } = this.#options;
    for (;;) {
      await this.#wake.wait(Number.MAX_SAFE_INTEGER, signal);
      await new WakeUp().wait(this.#options.settleMs, signal);
      if (signal.aborted) return;
      try {
        await this.#look();
      } catch (error) {
        if (signal.aborted) return;
        logger.error('packs-failed', { error });
      }
    }
  }

  async #look(): Promise<void> {
    const { catalogs } = this.#options;
    const known = new Set<InfoHash>();
    for (const catalog of catalogs) {
      for (let after: InfoHash | undefined; ; ) {
        const page = catalog.followed.packs(after, pagePacks);
        for (const infoHash of page) {
          known.add(infoHash);
          await this.#lookAt(catalog, infoHash);
          this.#closing.signal.throwIfAborted();
        }
        const last = page.at(-1);
        if (last === undefined) break;
        after = last;
        await setImmediate();
      }
    }
    for (const infoHash of this.#whole.keys()) if (!known.has(infoHash)) await this.#drop(infoHash);
    await this.#sweep();
  }

  async #lookAt(catalog: MirrorCatalog, infoHash: InfoHash): Promise<void> {
    const { state, logger } = this.#options;
    const key = `${catalog.name} ${infoHash}`;
    const of = this.#whole.get(infoHash);
    if (this.#wrong.has(key) || (of !== undefined && of !== catalog)) return;
    const manifest = catalog.followed.pack(infoHash);
    if (manifest === undefined) return;
    const pack = parsePack(manifest);
    const isWhole = pack.narFiles.every(({ fileHash }) => state.isHeld(fileHash));
    if (isWhole === (of !== undefined)) return;
    if (!isWhole) return this.#drop(infoHash);
    try {
      if (await this.#isMade(infoHash, pack)) {
        this.#whole.set(infoHash, catalog);
        this.#options.onChange(infoHash, true);
        return;
      }
      const { meta, torrent } = await this.#make(catalog, pack);
      if (torrent.infoHash !== infoHash)
        throw new NarswarmError('torrent-invalid', `pack ${infoHash} is another`);
      await this.#write(this.metaPath(infoHash), meta);
      await this.#write(this.#infoPath(infoHash), infoDictionary(torrent));
    } catch (error) {
      // A NAR file that went while it was read is looked for again with the next change.
      if (!isNarswarmError(error, 'torrent-invalid', 'not-held', 'narinfo-corrupt')) throw error;
      if (!isNarswarmError(error, 'not-held')) this.#wrong.add(key);
      logger.warn('pack-not-made', { infoHash, error });
      return;
    }
    this.#whole.set(infoHash, catalog);
    this.#options.onChange(infoHash, true);
    logger.info('pack-seeded', { infoHash, nars: pack.narFiles.length });
  }

  /** By an earlier run, which read all of it. */
  async #isMade(infoHash: InfoHash, pack: Pack): Promise<boolean> {
    try {
      const { size } = await stat(this.metaPath(infoHash));
      const info = await readFile(this.#infoPath(infoHash));
      if (size !== narFilesOf(pack)[0]?.offset) return false;
      const dictionary = { lengthBytes: info.length, read: () => info };
      // The name follows from all files: another catalog may say of the same pack that others are in it.
      return packTorrentOf({ infoHash, length: packLength(pack), info: dictionary }).name === packName(pack);
    } catch (cause) {
      if (errorCode(cause) === 'ENOENT' || isNarswarmError(cause, 'torrent-invalid')) return false;
      throw diskError(`look at pack ${infoHash}`, cause);
    }
  }

  /** Throws `not-held` when something is missing. */
  async #make(catalog: MirrorCatalog, pack: Pack): Promise<{ meta: Buffer; torrent: Torrent }> {
    const { state, holdings } = this.#options;
    const files = new Map(pack.narFiles.map((file) => [file.fileHash, file]));
    const meta: Buffer[] = [Buffer.from(packCacheInfo(pack.storeDir))];
    const made = await remakePack(
      pack,
      {
        async narInfo(storeHash) {
          const found = catalog.followed.narInfo(storeHash);
          const file = found && files.get(found.fileHash);
          if (found === undefined || file === undefined) return undefined;
          const text = packNarInfo(found.text, file);
          meta.push(Buffer.from(text));
          return { text };
        },
        async narFile({ fileHash }) {
          const row = state.held(fileHash);
          const handle = row && (await holdings.open(row));
          if (handle === undefined) return undefined;
          return (async function* read() {
            try {
              for (let at = 0; at < handle.sizeBytes; at += readBytes) {
                yield await handle.read(at, Math.min(readBytes, handle.sizeBytes - at));
              }
            } finally {
              await handle.close();
            }
          })();
        },
      },
      this.#closing.signal,
    );
    if ('torrent' in made) return { meta: Buffer.concat(meta), torrent: made.torrent };
    const [fault] = made.faults;
    throw new NarswarmError('not-held', `${fault?.path} of a pack: ${fault?.why}`);
  }

  async #drop(infoHash: InfoHash): Promise<void> {
    if (!this.#whole.delete(infoHash)) return;
    this.#options.onChange(infoHash, false);
    await rm(this.metaPath(infoHash), { force: true });
    await rm(this.#infoPath(infoHash), { force: true });
  }

  /** What an earlier run or a kill has left. */
  async #sweep(): Promise<void> {
    for (const name of await readdir(this.#options.dir)) {
      const match = /^([0-9a-f]{40})\.(?:meta|info)$/.exec(name);
      if (match?.[1] !== undefined && this.#whole.has(parseInfoHash(match[1]))) continue;
      await rm(join(this.#options.dir, name), { force: true });
    }
  }

  /** Whole or not there. */
  async #write(path: string, bytes: Buffer): Promise<void> {
    try {
      await using file = await open(`${path}.part`, 'w');
      await file.writeFile(bytes);
      await file.datasync();
      await rename(`${path}.part`, path);
    } catch (cause) {
      throw diskError(`write ${path}`, cause);
    }
  }

  #infoPath(infoHash: InfoHash): string {
    return join(this.#options.dir, `${infoHash}.info`);
  }
}

/** Where the NAR files lie in it, by offset; what is before the first of them is the narinfos. */
export function narFilesOf(pack: Pack) {
  return packFiles(pack).flatMap(({ narFile, offset, sizeBytes }) =>
    narFile === undefined ? [] : [{ fileHash: narFile.fileHash, offset, sizeBytes }],
  );
}
