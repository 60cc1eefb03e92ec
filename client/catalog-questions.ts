/** The questions to one catalog: gathered into requests; it is left alone for a while after it failed. */

import type { Sha256 } from '../nar/hash.ts';
import type { PublicKey } from '../nar/signature.ts';
import { mayBeNamed } from '../parts/named-peers.ts';
import { fetchResolveLines, type ResolveLine, resolveBatch } from '../parts/resolve-request.ts';
import { type PackOffset, parseResolveLineAside, type Resolved } from '../parts/resolved.ts';
import type { PeerAddress } from '../swarm/address/peer-address.ts';
import type { Logger } from '../web/log.ts';
import type { ClientLimits } from './config.ts';
import { isWithin } from './waiting.ts';

/** Questions wait this long for others to be asked with. */
const gatherMs = 2;

/**
 * Requests to one catalog begin so far apart, each time twice as far up to the second figure, until nothing was asked for as long as the third
 * says: what Nix asks meanwhile goes together, as a request costs as much as a hundred hashes in it.
 */
const apartMs = 20;
const apartMostMs = 160;
const apartForgetMs = 500;

/** Requests to one catalog at once; what is asked meanwhile goes with the next. One slow answer does not hold up the others. */
const requestsAtOnce = 4;

/** Torrents of NAR files up to this size are kept with the answer: 16 pieces. */
const keptTorrentMaxBytes = 1024 * 1024;

/** The rest of a catalog that keeps failing doubles this often: from 5 s to 80 s. */
const cooldownDoublings = 4;

/** Lines of an answer whose signatures are verified at once: enough for the threads that do. */
const linesAtOnce = 64;

/** Questions waiting for one catalog; a prefetch beyond it is not made. */
const waitingMax = 5_000;

/** What a catalog says of a NAR file. */
export interface Whereabouts {
  readonly peers: readonly PeerAddress[];
  readonly pack?: PackOffset | undefined;
  /** As it was verified then: while an answer is fresh, it need not be again. Not kept here of large ones. */
  readonly resolved?: Pick<Resolved, 'torrent' | 'torrentInfo'> | undefined;
}

export interface CatalogQuestionsOptions {
  url: string;
  /** Those that are trusted at this moment. */
  keys(): readonly PublicKey[];
  limits: ClientLimits;
  logger: Logger;
  clock: () => number;
  /** It is waited for, and asked again at once after a failure. */
  patient: boolean;
  signal: AbortSignal;
  keep(resolved: Resolved): void;
}

export type CatalogAnswer = Whereabouts | 'absent' | 'failed';

export class CatalogQuestions {
  readonly #options: CatalogQuestionsOptions;
  #waiting = new Map<Sha256, (answer: CatalogAnswer) => void>();
  #gathering = false;
  #underWay = 0;
  #sentMs = Number.NEGATIVE_INFINITY;
  #apartMs = 0;
  /** By the clock. */
  #restsSince = 0;
  #restMs = 0;
  #failuresInARow = 0;
  #requests = 0;
  #refusedLines = 0;

  constructor(options: CatalogQuestionsOptions) {
    this.#options = options;
  }

  resolve(fileHash: Sha256): Promise<CatalogAnswer> {
    if (this.resting || this.#waiting.size >= waitingMax) return Promise.resolve('failed');
    return new Promise((resolve) => {
      this.#waiting.set(fileHash, resolve);
      if (this.#gathering) return;
      this.#gathering = true;
      setTimeout(
        () => {
          this.#gathering = false;
          this.#send();
        },
        Math.max(gatherMs, this.#sentMs + this.#apartMs - performance.now()),
      );
    });
  }

  status() {
    const state = this.resting ? 'resting' : 'asked';
    return { url: this.#options.url, state, requests: this.#requests, refusedLines: this.#refusedLines };
  }

  get resting(): boolean {
    return !this.#options.patient && isWithin(this.#options.clock() - this.#restsSince, this.#restMs);
  }

  #rest(): void {
    const { clock, limits } = this.#options;
    const longer = 2 ** Math.min(this.#failuresInARow, cooldownDoublings);
    this.#restsSince = clock();
    this.#restMs = limits.catalogCooldownMs * longer;
  }

  #send(): void {
    while (this.#waiting.size > 0 && this.#underWay < requestsAtOnce) {
      const batch = new Map([...this.#waiting].slice(0, resolveBatch));
      for (const fileHash of batch.keys()) this.#waiting.delete(fileHash);
      this.#underWay++;
      const nowMs = performance.now();
      const forgotten = nowMs - this.#sentMs > apartForgetMs;
      this.#apartMs = forgotten ? apartMs : Math.min(this.#apartMs * 2, apartMostMs);
      this.#sentMs = nowMs;
      void this.#request(batch).then(() => {
        this.#underWay--;
        this.#send();
      });
    }
  }

  /** Whether it answers a question. Never rejects. */
  async #readLine(
    { text, askedAt }: ResolveLine,
    batch: Map<Sha256, (answer: CatalogAnswer) => void>,
  ): Promise<boolean> {
    const { url, keys, logger, keep } = this.#options;
    try {
      const resolved = await parseResolveLineAside(text, keys());
      const { pack, torrent, torrentInfo } = resolved;
      const peers = resolved.peers.filter((peer) => mayBeNamed(peer, askedAt));
      const answer = batch.get(torrentInfo.fileHash);
      if (answer === undefined) return false;
      batch.delete(torrentInfo.fileHash);
      keep(resolved);
      const small = torrent.length <= keptTorrentMaxBytes;
      answer({ peers, pack, ...(small && { resolved: { torrent, torrentInfo } }) });
      return true;
    } catch (error) {
      this.#refusedLines++;
      logger.warn('catalog-line-refused', { catalog: url, error });
      return false;
    }
  }

  async #request(batch: Map<Sha256, (answer: CatalogAnswer) => void>): Promise<void> {
    const { url, limits, logger, signal } = this.#options;
    // Longer than NAR files are made to wait for it: those that come now are not made to wait at all.
    const slow = setTimeout(() => this.#rest(), limits.resolveBudgetMs);
    try {
      this.#requests++;
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(limits.resolveDeadlineMs)]);
      const reading = new Set<Promise<void>>();
      for await (const line of fetchResolveLines(url, [...batch.keys()], deadline)) {
        const read = this.#readLine(line, batch).then((good) => {
          reading.delete(read);
          // A long answer is not a slow one.
          if (good) slow.refresh();
        });
        reading.add(read);
        if (reading.size >= linesAtOnce) await Promise.race(reading);
      }
      await Promise.all(reading);
      this.#restMs = 0;
      this.#failuresInARow = 0;
      for (const answer of batch.values()) answer('absent');
    } catch (error) {
      if (!signal.aborted) {
        this.#rest();
        this.#failuresInARow++;
        logger.warn('catalog-failed', { catalog: url, error });
      }
      for (const answer of batch.values()) answer('failed');
    } finally {
      clearTimeout(slow);
    }
  }
}
