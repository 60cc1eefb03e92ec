/**
 * Closes packs: when enough small NAR files wait, or one has waited for long enough. Each NAR file is read once more for it, and must still
 * have the hash under which it was verified.
 *
 * What is on disk when the process is killed is either a whole pack or finished by the next start:
 *
 *   planned → hashed → its narinfos on disk, under its infohash → noted in the catalog → its NAR files noted, in turns → complete
 */

import { hash } from 'node:crypto';
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import type { Catalog } from '../catalog/catalog.ts';
import { type Pack, packFiles, packFilesMax, packName, packText, parsePack } from '../catalog/pack.ts';
import type { PackPlace, UnpackedNarFile } from '../catalog/packs.ts';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { type InfoHash, sha256FromDigest } from '../nar/hash.ts';
import { type SecretKey, sign } from '../nar/signature.ts';
import { PackHasher } from '../swarm/torrent/pack-torrent.ts';
import { infoDictionary } from '../swarm/torrent/torrent.ts';
import type { Logger } from '../web/log.ts';
import { CatalogBatch } from './catalog-batch.ts';
import type { NarFiles } from './nar-files.ts';
import type { PackFiles } from './pack-files.ts';
import { type PackPlan, planPack } from './pack-plan.ts';

export interface PackRules {
  /** Bytes of NAR files that fill a pack; 0: none is ever closed. */
  sizeBytes: number;
  /** Milliseconds after which what waits is closed into a pack however small. */
  ageMs: number;
}

export const packRulesDefault: Readonly<PackRules> = { sizeBytes: 256 * 1024 * 1024, ageMs: 3_600_000 };

/** Eight times the default: the largest pack there may be has twice as much, and narinfos are in it, too. */
export const packSizeMaxBytes = 1024 * 1024 * 1024;

/** How often it is looked whether a pack is due. */
const lookMs = 5_000;
/** After a failure of the disk, and when less was there than was counted. */
const retryMs = 60_000;
/** Between two lines about a pack that takes long. */
const progressLineMs = 5_000;
/** Bytes of narinfos hashed, and NAR files noted, without letting others have their turn: 1 ms. */
const turnBytes = 1024 * 1024;
const turnPlaces = 64;

export interface PackCloserOptions {
  rules: PackRules;
  catalog: Catalog;
  narFiles: NarFiles;
  packFiles: PackFiles;
  secretKey: SecretKey;
  nixStoreDir(): string;
  /** A pack is there from now on, and all of it. */
  onClosed(infoHash: InfoHash): void;
  logger: Logger;
  /** Milliseconds since 1970. */
  clock?: () => number;
}

export interface PacksStatus {
  closed: number;
  /** NAR files in them. */
  nars: number;
  bytes: number;
  /** NAR files of at most 1 MiB in no pack. */
  unpacked: { nars: number; bytes: number; oldestMs: number | null };
  /** The pack that is being closed. */
  closing: { nars: number; bytes: number; doneBytes: number } | null;
  /** Why the last attempt failed. */
  failed: string | null;
}

export class PackCloser {
  readonly #options: PackCloserOptions;
  readonly #batch: CatalogBatch;
  readonly #clock: () => number;
  readonly #stopping = new AbortController();
  #loop: Promise<void> | undefined;
  #working: Promise<unknown> = Promise.resolve();
  #closing: PacksStatus['closing'] = null;
  #failed: string | null = null;
  /** When so much waits that a pack should be full, and it was not: NAR files that are gone are counted as well. */
  #vainUntilMs = 0;

  private constructor(options: PackCloserOptions) {
    this.#options = options;
    this.#batch = new CatalogBatch(options.catalog);
    this.#clock = options.clock ?? Date.now;
  }

  /** Finishes what a killed process left. */
  static async open(options: PackCloserOptions): Promise<PackCloser> {
    const closer = new PackCloser(options);
    await closer.#recover();
    return closer;
  }

  status(): PacksStatus {
    const { unpacked, ...counts } = this.#options.catalog.packs.counts();
    const waiting = { ...unpacked, oldestMs: unpacked.oldestMs ?? null };
    return { ...counts, unpacked: waiting, closing: this.#closing, failed: this.#failed };
  }

  /** From now on packs are closed as they are due. */
  start(): void {
    if (this.#options.rules.sizeBytes > 0) this.#loop ??= this.#run();
  }

  /** Closes all packs that are due now. Throws store-failed, and `aborted` when it was closed meanwhile. */
  closeDue(): Promise<void> {
    const work = this.#working.then(async () => {
      while (await this.#closeOne());
    });
    this.#working = work.catch(() => undefined);
    return work;
  }

  /** Breaks off what is under way. May be called twice. */
  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
    await this.#working;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      let waitMs = lookMs;
      try {
        await this.closeDue();
      } catch (error) {
        if (signal.aborted) return;
        this.#options.logger.error('pack-failed', { error });
        waitMs = retryMs;
      }
      await delay(waitMs, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Whether one was closed, so that another one may be due. */
  async #closeOne(): Promise<boolean> {
    const { rules, catalog, nixStoreDir } = this.#options;
    const { signal } = this.#stopping;
    const due = this.#due();
    if (due === undefined) return false;
    try {
      const plan = await planPack({
        catalog,
        batch: this.#batch,
        nixStoreDir: nixStoreDir(),
        sizeBytes: rules.sizeBytes,
        isHeld: (narFile) => this.#isHeld(narFile),
        signal,
      });
      // Some of what waits may be gone: then what is left is not full.
      if (plan === undefined || (due === 'full' && !plan.full)) {
        this.#vainUntilMs = this.#clock() + retryMs;
        return false;
      }
      await this.#closePack(plan);
      this.#failed = null;
      return true;
    } catch (error) {
      if (signal.aborted) throw new NarswarmError('aborted', 'closing packs was given up', { cause: error });
      // One NAR file turned out to be another: it waits, and the others are tried again without it.
      if (isNarswarmError(error, 'not-held', 'file-hash-mismatch')) return true;
      this.#failed = error instanceof Error ? error.message : String(error);
      throw error;
    } finally {
      this.#closing = null;
    }
  }

  #due(): 'full' | 'old' | undefined {
    const { rules, catalog } = this.#options;
    const nowMs = this.#clock();
    if (rules.sizeBytes === 0 || this.#stopping.signal.aborted || nowMs < this.#vainUntilMs) return undefined;
    const { nars, bytes, oldestMs } = catalog.packs.counts().unpacked;
    if (oldestMs !== undefined && nowMs - oldestMs >= rules.ageMs) return 'old';
    // With its narinfo each is two files.
    return bytes >= rules.sizeBytes || nars * 2 >= packFilesMax ? 'full' : undefined;
  }

  async #closePack(plan: PackPlan): Promise<void> {
    const { catalog, packFiles: files, secretKey, logger, onClosed } = this.#options;
    const startMs = this.#clock();
    const { pack, info } = await this.#hash(plan);
    const { infoHash } = pack;
    const written = await files.write(plan.meta);
    // As signPack, in turns.
    const text = packText(pack);
    await setImmediate();
    const manifest = `${text}Sig: ${sign(secretKey, text)}\n`;
    await setImmediate();
    const signed = parsePack(manifest);
    await written.nameIt(infoHash);
    this.#stopping.signal.throwIfAborted();
    const length = this.#closing?.bytes ?? 0;
    const row = { infoHash, length, metaBytes: plan.meta.length, nars: pack.narFiles.length };
    const closedMs = this.#clock();
    await this.#batch.run(() => catalog.packs.put({ ...row, closedMs, manifest, info }));
    await this.#note(signed);
    onClosed(infoHash);
    const ms = this.#clock() - startMs;
    logger.info('pack-closed', {
      infoHash,
      nars: row.nars,
      narInfos: pack.narInfos.length,
      bytes: length,
      ms,
    });
  }

  /** Reads every NAR file. Throws `not-held` or `file-hash-mismatch` for one that is another than it was, which then is in none. */
  async #hash(plan: PackPlan): Promise<{ pack: Omit<Pack, 'sigs'>; info: Buffer }> {
    const { logger } = this.#options;
    const { content, meta, narFiles } = plan;
    // Tens of milliseconds each for 16,000 files.
    const name = packName(content);
    await setImmediate();
    const places = packFiles(content);
    await setImmediate();
    const hasher = new PackHasher(name, places);
    const bytes = hasher.lengthBytes;
    const progress = { nars: narFiles.length, bytes, doneBytes: 0 };
    this.#closing = progress;
    let toldMs = this.#clock();
    const take = async (chunk: Buffer): Promise<void> => {
      hasher.write(chunk);
      progress.doneBytes += chunk.length;
      if (this.#clock() - toldMs >= progressLineMs) {
        toldMs = this.#clock();
        logger.info('pack-progress', { ...progress });
      }
      await setImmediate();
      this.#stopping.signal.throwIfAborted();
    };
    for (let at = 0; at < meta.length; at += turnBytes) await take(meta.subarray(at, at + turnBytes));
    for (const narFile of narFiles) await take(await this.#read(narFile));
    const torrent = hasher.finish();
    return { pack: { ...content, infoHash: torrent.infoHash }, info: infoDictionary(torrent) };
  }

  async #read(narFile: UnpackedNarFile): Promise<Buffer> {
    const { narFiles, catalog, logger } = this.#options;
    const { entry } = narFile;
    try {
      const file = await narFiles.open(entry);
      const bytes = await file.read(0, entry.fileSize).finally(() => file.close());
      if (sha256FromDigest(hash('sha256', bytes, 'buffer')) === entry.fileHash) return bytes;
      throw new NarswarmError('file-hash-mismatch', `NAR file ${entry.fileHash} has changed unseen`);
    } catch (error) {
      if (isNarswarmError(error, 'not-held', 'file-hash-mismatch')) {
        // One that is gone may come back; one that was changed unseen would be tried again for ever.
        const { code } = error;
        await this.#batch.run(() => {
          if (code === 'not-held') catalog.packs.putOff(narFile, this.#clock());
          else catalog.packs.leaveOut(narFile);
        });
        logger.warn('pack-without', { fileHash: entry.fileHash, error });
      }
      throw error;
    }
  }

  async #isHeld(narFile: UnpackedNarFile): Promise<boolean> {
    const { narFiles, catalog } = this.#options;
    try {
      await (await narFiles.open(narFile.entry)).close();
      return true;
    } catch (error) {
      if (!isNarswarmError(error, 'not-held')) throw error;
      // The next reading of the sources takes it out of the catalog.
      await this.#batch.run(() => catalog.packs.putOff(narFile, this.#clock()));
      return false;
    }
  }

  /** In turns: 5,000 rows in one transaction would keep everybody else waiting for a tenth of a second. */
  async #note(pack: Pack): Promise<void> {
    const { packs } = this.#options.catalog;
    const places = placesOf(pack);
    await setImmediate();
    for (let at = 0; at < places.length; at += turnPlaces) {
      await this.#batch.run(() => packs.putPlaces(pack.infoHash, places.slice(at, at + turnPlaces)));
      this.#stopping.signal.throwIfAborted();
    }
    await this.#batch.run(() => packs.complete(pack.infoHash));
  }

  async #recover(): Promise<void> {
    const { catalog, packFiles: files, logger } = this.#options;
    for (const infoHash of catalog.packs.incomplete()) {
      const pack = parsePack(catalog.packs.manifest(infoHash) ?? '');
      const metaBytes = placesOf(pack)[0]?.offset ?? 0;
      const whole = await files.has(infoHash, metaBytes);
      if (whole) await this.#note(pack);
      else await this.#batch.run(() => catalog.packs.drop(infoHash, this.#clock()));
      logger.info('pack-recovered', { infoHash, whole });
    }
    await files.sweep((infoHash) => catalog.packs.has(infoHash));
  }
}

function placesOf(pack: Pack): PackPlace[] {
  return packFiles(pack).flatMap(({ narFile, offset, sizeBytes }) =>
    narFile === undefined ? [] : [{ fileHash: narFile.fileHash, offset, sizeBytes }],
  );
}
