/** The questions to one catalog: gathered into requests; it is left alone for a while after it failed. */

import type { Sha256 } from '../../nar/hash.ts';
import type { PublicKey } from '../../nar/signature.ts';
import { mayBeNamed } from '../../parts/named-peers.ts';
import { fetchResolveLines, type ResolveLine, resolveBatch } from '../../parts/resolve-request.ts';
import { checkLineAside, type PackOffset, type Resolved, readResolveLine } from '../../parts/resolved.ts';
import type { PeerAddress } from '../../swarm/address/peer-address.ts';
import type { Logger } from '../../web/log.ts';
import type { ClientLimits } from '../config.ts';
import { isWithin } from '../waiting.ts';
import { Claim, type ClaimOptions } from './catalog-claim.ts';

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

/**
 * Characters of a line up to which it is kept as it came until somebody wants the torrent: that of a NAR file of a megabyte with 50 peers. What is
 * longer is verified at once and left to the disk.
 */
const keptLineMaxCharacters = 4 * 1024;

/** The rest of a catalog that keeps failing doubles this often: from 5 s to 80 s. */
const cooldownDoublings = 4;

/** Lines of an answer whose signatures are verified at once: enough for the threads that do. */
const linesAtOnce = 64;

/** Questions waiting for one catalog; a prefetch beyond it is not made. */
const waitingMax = 5_000;

/** Between two times that the log tells of lines that were refused: an answer may be a thousand such. */
const sayRefusedMs = 10_000;

/** What a catalog says of a NAR file. */
export interface Whereabouts {
  readonly peers: readonly PeerAddress[];
  readonly pack?: PackOffset | undefined;
  /** What the catalog signed. Not kept of large ones. */
  readonly claim?: Claim | undefined;
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
  readonly #claims: ClaimOptions;
  #waiting = new Map<Sha256, (answer: CatalogAnswer) => void>();
  #gathering = false;
  #underWay = 0;
  /** Of those under way, how many take longer than NAR files are made to wait for them. */
  #late = 0;
  #sentMs = Number.NEGATIVE_INFINITY;
  #apartMs = 0;
  /** By the clock. */
  #restsSince = 0;
  #restMs = 0;
  #failuresInARow = 0;
  #requests = 0;
  #refusedLines = 0;
  #saidRefusedMs = Number.NEGATIVE_INFINITY;

  constructor(options: CatalogQuestionsOptions) {
    this.#options = options;
    const { url, keep: onGood } = options;
    this.#claims = { url, onGood, onRefused: (error) => this.#refuse(error) };
  }

  resolve(fileHash: Sha256): Promise<CatalogAnswer> {
    if (this.#failedLately || this.#waiting.size >= waitingMax) return Promise.resolve('failed');
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

  /** Whoever has somebody else to ask is not to wait for it. It may answer all the same when it only takes long. */
  get resting(): boolean {
    return !this.#options.patient && (this.#late > 0 || this.#failedLately);
  }

  get #failedLately(): boolean {
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
    const { keys, keep } = this.#options;
    try {
      const read = readResolveLine(text);
      const { fileHash, pack } = read;
      if (!batch.has(fileHash)) return false;
      const kept = text.length <= keptLineMaxCharacters;
      if (!kept) keep(await checkLineAside(read, keys()));
      const claim = kept ? new Claim(read, this.#claims) : undefined;
      const answer = batch.get(fileHash);
      batch.delete(fileHash);
      answer?.({ peers: read.peers.filter((peer) => mayBeNamed(peer, askedAt)), pack, claim });
      return answer !== undefined;
    } catch (error) {
      this.#refuse(error);
      return false;
    }
  }

  #refuse(error: unknown): void {
    const { url, logger } = this.#options;
    this.#refusedLines++;
    const nowMs = performance.now();
    if (nowMs - this.#saidRefusedMs < sayRefusedMs) return;
    this.#saidRefusedMs = nowMs;
    logger.warn('catalog-line-refused', { catalog: url, refusedLines: this.#refusedLines, error });
  }

  async #request(batch: Map<Sha256, (answer: CatalogAnswer) => void>): Promise<void> {
    const { url, limits, logger, signal } = this.#options;
    let late = false;
    const slow = setTimeout(() => {
      late = true;
      this.#late++;
    }, limits.resolveBudgetMs);
    const inTime = (): void => {
      if (late) this.#late--;
      late = false;
    };
    try {
      this.#requests++;
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(limits.resolveDeadlineMs)]);
      const reading = new Set<Promise<void>>();
      for await (const line of fetchResolveLines(url, [...batch.keys()], deadline)) {
        const read = this.#readLine(line, batch).then((good) => {
          reading.delete(read);
          // A long answer is not a slow one.
          if (good) {
            inTime();
            slow.refresh();
          }
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
      inTime();
    }
  }
}
