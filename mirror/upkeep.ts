/**
 * Keeps what is held right: reads it again, all of it in turn and slowly, since disks lose bits without saying so; and verifies what was found
 * on the disk at start.
 */

import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { isNarswarmError } from '../nar/errors.ts';
import { type Sha256, sha256FromDigest } from '../nar/hash.ts';
import { TokenBucket } from '../swarm/token-bucket.ts';
import type { Logger } from '../web/log.ts';
import { type Acquirer, wantedOf } from './acquire.ts';
import type { MirrorCatalog } from './catalogs.ts';
import type { Holdings } from './holdings.ts';
import type { HeldFile, MirrorState } from './state.ts';
import { WakeUp } from './wake-up.ts';

const readBytes = 256 * 1024;
/** Milliseconds between two looks whether anything is due. */
const lookMs = 60_000;
/** Milliseconds of the rate that may be saved up. */
const burstMs = 1_000;

export interface UpkeepOptions {
  catalogs: readonly MirrorCatalog[];
  holdings: Holdings;
  state: MirrorState;
  acquirer: Acquirer;
  /** At which it reads. */
  bytesPerSecond: number;
  /** How old a full verification may become. */
  everyMs: number;
  logger: Logger;
  /** Milliseconds since 1970. */
  now: () => number;
  /** A file that was found on the disk was none of use: it may be fetched. */
  onUseless(): void;
}

export class Upkeep {
  readonly #options: UpkeepOptions;
  readonly #bucket: TokenBucket;
  readonly #wake = new WakeUp();
  readonly #closing = new AbortController();
  readonly #loop: Promise<void>;
  #verifiedFiles = 0;
  #verifiedBytes = 0;
  #damagedFiles = 0;

  constructor(options: UpkeepOptions) {
    this.#options = options;
    this.#bucket = new TokenBucket(options.bytesPerSecond, burstMs, readBytes, performance.now());
    this.#loop = this.#run();
  }

  /** There may be something to verify. */
  lookAgain(): void {
    this.#wake.ring();
  }

  status() {
    const { state, now } = this.#options;
    const oldest = state.leastVerified();
    return {
      verifiedFiles: this.#verifiedFiles,
      verifiedBytes: this.#verifiedBytes,
      damagedFiles: this.#damagedFiles,
      oldestSeconds: oldest === undefined ? 0 : Math.round((now() - oldest.verifiedMs) / 1_000),
      bytesPerSecond: this.#options.bytesPerSecond,
    };
  }

  /** May be called twice. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { state, everyMs, now, logger } = this.#options;
    while (!signal.aborted) {
      try {
        await this.#claimFound();
        const file = state.leastVerified();
        const dueMs = file === undefined ? lookMs : file.verifiedMs + everyMs - now();
        if (file !== undefined && dueMs <= 0) await this.#verify(file);
        else await this.#wake.wait(Math.min(dueMs, lookMs), signal);
      } catch (error) {
        if (signal.aborted) return;
        logger.error('upkeep-failed', { error });
        await this.#wake.wait(lookMs, signal);
      }
    }
  }

  async #claimFound(): Promise<void> {
    const { catalogs, holdings, acquirer, logger, onUseless } = this.#options;
    for (const fileHash of holdings.unclaimed()) {
      if (this.#closing.signal.aborted) return;
      const catalog = catalogs.find((each) => each.torrentInfo(fileHash) !== undefined);
      try {
        if (catalog !== undefined) {
          await acquirer.claim(wantedOf(catalog, fileHash));
          logger.info('found-file-kept', { fileHash });
        } else if (catalogs.every(({ isKnown }) => isKnown)) {
          await holdings.dropUnclaimed(fileHash);
          logger.info('found-file-removed', { fileHash, why: 'no catalog has it' });
        }
      } catch (error) {
        if (!isNarswarmError(error) || isNarswarmError(error, 'aborted')) throw error;
        await holdings.dropUnclaimed(fileHash);
        logger.warn('found-file-removed', { fileHash, error });
        onUseless();
      }
    }
  }

  async #verify(file: HeldFile): Promise<void> {
    const { holdings, state, now, logger } = this.#options;
    const { fileHash } = file;
    // One that is gone or has changed is taken out by opening it.
    const handle = await holdings.open(file);
    if (handle === undefined) return;
    let read: Sha256 | 'unreadable' | undefined;
    try {
      const hash = createHash('sha256');
      for (let position = 0; position < file.sizeBytes; position += readBytes) {
        await this.#pace();
        if (this.#closing.signal.aborted) return;
        const bytes = await handle.read(position, Math.min(readBytes, file.sizeBytes - position));
        hash.update(bytes);
        this.#bucket.take(bytes.length);
        this.#verifiedBytes += bytes.length;
      }
      read = sha256FromDigest(hash.digest());
    } catch (error) {
      if (!isNarswarmError(error, 'store-failed', 'not-held')) throw error;
      // Taken out while it was read, or a disk that cannot read it any more.
      if (!state.isHeld(fileHash)) return;
      logger.warn('held-file-unreadable', { fileHash, error });
      read = 'unreadable';
    } finally {
      await handle.close();
    }
    if (read === fileHash) {
      this.#verifiedFiles++;
      state.setVerified(fileHash, now());
      return;
    }
    if (!state.isHeld(fileHash)) return;
    this.#damagedFiles++;
    logger.warn('held-file-damaged', { fileHash });
    await holdings.takeOut(fileHash, 'damaged');
  }

  /** Waits until the rate allows another read. */
  async #pace(): Promise<void> {
    const now = performance.now();
    const missing = readBytes - this.#bucket.available(now);
    if (missing <= 0) await setImmediate();
    else await new WakeUp().wait((missing / this.#options.bytesPerSecond) * 1_000, this.#closing.signal);
  }
}
