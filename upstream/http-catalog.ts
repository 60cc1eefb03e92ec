/** A catalog over HTTP: its head, asked for again only when it changed, and its files, which go on where they broke off. */

import { setTimeout as sleep } from 'node:timers/promises';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import type { Sha256 } from '../nar/hash.ts';
import { readWhole } from './body.ts';
import { HttpCache, type HttpCacheOptions } from './http-cache.ts';

export interface HttpCatalogLimits {
  /** Bytes of a head. As in catalog/head.ts. */
  headMaxBytes: number;
  /** Milliseconds for a head in all, against a server that sends a byte now and then. */
  headDeadlineMs: number;
  /** Bytes a second that a file must come at on average, against a server that sends a byte now and then; others may have it, too. */
  fileLeastBytesPerSecond: number;
  /** Milliseconds in which it need not yet. */
  fileGraceMs: number;
  /** How often a file may break off without a byte more before it is given up. */
  breaksMax: number;
  /** Milliseconds before it is asked for again, after a break without a byte more. */
  pauseMs: number;
}

export const httpCatalogLimits: Readonly<HttpCatalogLimits> = {
  headMaxBytes: 4 << 20,
  headDeadlineMs: 60_000,
  fileLeastBytesPerSecond: 8 * 1024,
  fileGraceMs: 60_000,
  breaksMax: 3,
  pauseMs: 1_000,
};

/** Entity tags are sent back as they came; longer ones than this are not kept. */
const etagMaxCharacters = 256;

/** What catalog/follow.ts calls a transport. */
export class HttpCatalog {
  readonly url: string;
  readonly #cache: HttpCache;
  readonly #limits: HttpCatalogLimits;

  /** `url`: that of a seeder or mirror, below which `catalog/head` lies. Throws `config-invalid` for none. */
  constructor(options: HttpCacheOptions & { catalogLimits?: Partial<HttpCatalogLimits> }) {
    this.#cache = new HttpCache(options);
    this.url = this.#cache.url;
    this.#limits = { ...httpCatalogLimits, ...options.catalogLimits };
  }

  /** `unchanged` when it is still the one with this tag. Throws `upstream-failed`, also when there is none. */
  async fetchHead(
    etag?: string,
    signal?: AbortSignal,
  ): Promise<{ text: string; etag?: string } | 'unchanged'> {
    const { headMaxBytes, headDeadlineMs } = this.#limits;
    const deadline = AbortSignal.timeout(headDeadlineMs);
    const either = signal ? AbortSignal.any([signal, deadline]) : deadline;
    try {
      const headers: Record<string, string> = etag === undefined ? {} : { 'if-none-match': etag };
      const answer = await this.#cache.get('catalog/head', { headers, signal: either });
      if (answer.status === 304 && etag !== undefined) {
        await answer.body.return();
        return 'unchanged';
      }
      if (answer.status !== 200) {
        await answer.body.return();
        throw this.#failed(`status ${answer.status} in place of the head of a catalog`);
      }
      const text = (await readWhole(answer.body, headMaxBytes)).toString('latin1');
      const tag = answer.headers.etag;
      return tag === undefined || tag.length > etagMaxCharacters ? { text } : { text, etag: tag };
    } catch (error) {
      if (deadline.aborted && signal?.aborted !== true) throw this.#failed('no whole head in time', error);
      throw error;
    }
  }

  /** Exactly the file's length, or an error: `segment-missing` when it is not there, `upstream-failed`, `aborted`. */
  async *fetchFile(
    file: { sha256: Sha256; sizeBytes: number },
    signal: AbortSignal = new AbortController().signal,
  ): AsyncGenerator<Buffer> {
    const path = `catalog/${file.sha256}.segment.zst`;
    const beganMs = performance.now();
    let received = 0;
    for (let breaks = 0; ; ) {
      const before = received;
      try {
        const opened = await this.#cache.openNar(path, { fromByte: received, signal });
        if (opened === undefined) {
          throw new NarswarmError('segment-missing', `${this.url} does not have ${path}`);
        }
        for await (const chunk of opened.body) {
          received += chunk.length;
          if (this.#isTooSlow(received, beganMs)) throw this.#failed(`${path} comes too slowly`);
          yield chunk;
          // Whoever reads sees by the length that it is another file; there is no end to wait for.
          if (received > file.sizeBytes) return;
        }
        // A clean end before the file's own is what its size is for: it is no break.
        return;
      } catch (error) {
        if (!isNarswarmError(error, 'upstream-failed') || received >= file.sizeBytes) throw error;
        if (this.#isTooSlow(received, beganMs)) throw error;
        breaks = received > before ? 0 : breaks + 1;
        if (breaks === this.#limits.breaksMax) throw error;
        if (breaks > 0) await sleep(this.#limits.pauseMs, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  /** May be called twice. */
  close(): Promise<void> {
    return this.#cache.close();
  }

  #isTooSlow(receivedBytes: number, beganMs: number): boolean {
    const { fileLeastBytesPerSecond, fileGraceMs } = this.#limits;
    return receivedBytes < ((performance.now() - beganMs - fileGraceMs) / 1_000) * fileLeastBytesPerSecond;
  }

  #failed(what: string, cause?: unknown): NarswarmError {
    return new NarswarmError('upstream-failed', `${this.url}: ${what}`, cause === undefined ? {} : { cause });
  }
}
