/**
 * The whitelist of another tracker, kept up to date: every torrent of the catalog as 40 hexadecimal digits on a line of its own, which
 * is what opentracker reads. Each version takes the place of the one before at once and whole; then a command tells the tracker.
 */

import { execFile } from 'node:child_process';
import { open, rename, rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Catalog } from '../catalog/catalog.ts';
import type { CatalogPacks } from '../catalog/packs.ts';
import type { InfoHash } from '../nar/hash.ts';
import type { Logger } from '../web/log.ts';

/** The catalog is looked at this often; while it changes all the time, the file is written as often as that at most. */
export const whitelistEveryMs = 2_000;
/** A file of a million torrents takes seconds to write: it takes no more than this part of the time, one in so many. */
const restShare = 10;
/** Rows read without letting others have their turn: a millisecond or so. */
const pageRows = 1_000;
/** A command that reloads something takes no time; one that hangs is ended. */
const reloadTimeoutMs = 10_000;

type WhitelistedCatalog = Pick<Catalog, 'infoHashes' | 'torrentChanges'> & {
  packs: Pick<CatalogPacks, 'list'>;
};

export interface TrackerWhitelistOptions {
  catalog: WhitelistedCatalog;
  file: string;
  /** Run by the shell after each new version. */
  reloadCommand?: string;
  logger: Logger;
  everyMs?: number;
}

export class TrackerWhitelist {
  readonly #options: TrackerWhitelistOptions;
  readonly #closing = new AbortController();
  readonly #loop: Promise<void>;

  /** Writes the first version right away. */
  constructor(options: TrackerWhitelistOptions) {
    this.#options = options;
    this.#loop = this.#run();
  }

  /** Ends what is under way, and leaves the last whole version. May be called twice. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { catalog, file, logger, everyMs = whitelistEveryMs } = this.#options;
    const { signal } = this.#closing;
    let written = -1;
    let restMs = 0;
    while (!signal.aborted) {
      try {
        const { torrentChanges: changes } = catalog;
        if (changes !== written) {
          const startMs = performance.now();
          const torrents = await this.#write();
          if (torrents === undefined) return;
          restMs = (performance.now() - startMs) * restShare;
          written = changes;
          logger.info('whitelist-written', { file, torrents });
          await this.#reload();
        }
      } catch (error) {
        logger.error('whitelist-failed', { file, error });
      }
      await delay(Math.max(everyMs, restMs), undefined, { signal }).catch(() => undefined);
    }
  }

  /** How many torrents; `undefined` when it was closed meanwhile. */
  async #write(): Promise<number | undefined> {
    const { catalog, file } = this.#options;
    const next = `${file}.next`;
    const handle = await open(next, 'w');
    let torrents = 0;
    try {
      for (const infoHashes of pagesOf(catalog)) {
        await handle.write(infoHashes.map((infoHash) => `${infoHash}\n`).join(''));
        torrents += infoHashes.length;
        if (this.#closing.signal.aborted) {
          await rm(next, { force: true });
          return undefined;
        }
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(next, file);
    return torrents;
  }

  async #reload(): Promise<void> {
    const { reloadCommand, logger } = this.#options;
    if (reloadCommand === undefined) return;
    await new Promise<void>((resolve) => {
      const options = { timeout: reloadTimeoutMs, signal: this.#closing.signal };
      execFile('/bin/sh', ['-c', reloadCommand], options, (error, _stdout, stderr) => {
        if (error !== null && !this.#closing.signal.aborted) {
          logger.warn('tracker-reload-failed', { error, stderr: stderr.slice(0, 500) });
        }
        resolve();
      });
    });
  }
}

/** NAR files and NARs, then packs. */
function* pagesOf(catalog: WhitelistedCatalog): Generator<InfoHash[]> {
  for (let after: number | undefined = 0; after !== undefined; ) {
    const page = catalog.infoHashes(after, pageRows);
    yield page.infoHashes;
    after = page.last;
  }
  for (
    let page = catalog.packs.list(undefined, pageRows);
    page.length > 0;
    page = catalog.packs.list(page.at(-1), pageRows)
  )
    yield page;
}
