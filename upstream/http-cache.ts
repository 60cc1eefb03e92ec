/** A Nix binary cache over HTTP, as a source. Nothing of what it says is believed here but that it said it. */

import type { IncomingHttpHeaders } from 'node:http';
import type { LookupFunction } from 'node:net';
import { promisify } from 'node:util';
import { brotliDecompress, gunzip, zstdDecompress } from 'node:zlib';
import { type CacheInfo, cacheInfoMaxBytes, parseCacheInfo } from '../nar/cache-info.ts';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { narInfoMaxBytes, parseNarInfo } from '../nar/narinfo.ts';
import { type StoreHash, storeHashOf } from '../nar/store-path.ts';
import { Body, readWhole } from './body.ts';
import { Deadline } from './deadline.ts';
import type { Health } from './health.ts';
import {
  type Answer,
  type Credentials,
  checkUrl,
  discard,
  failed,
  HttpClient,
  type Method,
  upstreamError,
} from './http-client.ts';
import { defaultUpstreamLimits, type UpstreamLimits } from './limits.ts';

export interface HttpCacheOptions {
  /** Base URL; a path in it is kept. A query in it is refused. */
  url: string;
  limits?: Partial<UpstreamLimits>;
  /**
   * Further origins, such as `http://10.0.0.5:8080`, that may have private addresses. The cache's own may anyway;
   * other origins, which its narinfos and redirects name, are only connected to at public addresses.
   */
  trustedOrigins?: readonly string[];
  /** In place of the system's resolver; for tests. */
  lookup?: LookupFunction;
  /** See there; for tests. */
  ca?: string;
  /** In place of one of its own, so that several caches on one host keep to its limits together; `limits` and the like are then its. */
  client?: HttpClient;
  /** Sent to the cache's own origin, and to no other. */
  authorization?: string;
  /** Told of every request to the cache's own origin. */
  health?: Pick<Health, 'answered' | 'failed'>;
}

export interface OpenNarOptions {
  /** Offset of the first byte wanted. */
  fromByte?: number;
  signal: AbortSignal;
}

export interface OpenNar {
  /** From `fromByte` on, exactly to the end: a body that is short or long throws `upstream-failed`. Must be read or `return`ed. */
  body: Body;
  /** Bytes of the whole file, when the upstream tells. */
  lengthBytes?: number;
  fromByte: number;
  etag?: string;
  /** After redirects. */
  finalUrl: string;
}

export interface GetOptions {
  /** GET by default. */
  method?: Method;
  headers?: Record<string, string>;
  signal: AbortSignal;
}

export interface GetAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  /** As it came, still in its Content-Encoding. Must be read or `return`ed. */
  body: Body;
}

/** Answers that say that there is no such file. Nix takes 403 so too, since object stores hide what is absent. */
const absentStatuses = new Set([403, 404, 410]);

export class HttpCache {
  /** As it was given, without a slash at the end. */
  readonly url: string;
  readonly #base: URL;
  readonly #limits: UpstreamLimits;
  readonly #client: HttpClient;
  readonly #ownsClient: boolean;
  readonly #credentials: Credentials | undefined;
  readonly #health: HttpCacheOptions['health'];

  /** Throws `config-invalid` for anything but an http or https URL. */
  constructor({ url, limits, trustedOrigins = [], lookup, ca, ...rest }: HttpCacheOptions) {
    this.#base = baseUrl(url);
    this.url = url.replace(/\/+$/, '');
    this.#limits = { ...defaultUpstreamLimits, ...limits };
    const { authorization, client, health } = rest;
    this.#client =
      client ??
      new HttpClient({
        limits: this.#limits,
        trustedOrigins: new Set([
          this.#base.origin,
          ...trustedOrigins.map((origin) => new URL(origin).origin),
        ]),
        lookup,
        ca,
      });
    this.#ownsClient = client === undefined;
    this.#credentials =
      authorization === undefined ? undefined : { origin: this.#base.origin, authorization };
    this.#health = health;
  }

  /** The meaning of a narinfo's URL. Throws `upstream-failed` when it cannot be fetched over HTTP. */
  resolveUrl(narUrl: string): URL {
    return checkUrl(narUrl, this.#base);
  }

  /**
   * The narinfo, verbatim. `undefined` when the cache has none. Throws `narinfo-corrupt` when it is none, and
   * `upstream-failed` when it is about another path or could not be had.
   */
  async getNarInfo(storeHash: StoreHash, signal: AbortSignal): Promise<string | undefined> {
    const bytes = await this.#getSmall(`${storeHash}.narinfo`, narInfoMaxBytes, signal);
    if (bytes === undefined) return undefined;
    const narInfo = parseNarInfo(bytes);
    if (storeHashOf(narInfo.storePath) !== storeHash) {
      throw failed(this.resolveUrl(`${storeHash}.narinfo`), `a narinfo of ${narInfo.storePath}`);
    }
    return narInfo.text;
  }

  /** `undefined` when the cache has none. Throws `cache-info-corrupt` and `upstream-failed`. */
  async getCacheInfo(signal: AbortSignal): Promise<CacheInfo | undefined> {
    const bytes = await this.#getSmall('nix-cache-info', cacheInfoMaxBytes, signal);
    return bytes && parseCacheInfo(bytes.toString());
  }

  /**
   * Opens the NAR file behind a narinfo's URL, which may be relative to the cache, carry a query, or be absolute.
   * `undefined` when it is absent.
   */
  async openNar(narUrl: string, { fromByte = 0, signal }: OpenNarOptions): Promise<OpenNar | undefined> {
    const headers: Record<string, string> = fromByte === 0 ? {} : { range: `bytes=${fromByte}-` };
    const answer = await this.#send('GET', this.resolveUrl(narUrl), headers, signal);
    if (absentStatuses.has(answer.status)) {
      discard(answer.body);
      return undefined;
    }
    try {
      const { lengthBytes, ...part } = partOf(answer, fromByte);
      const { etag } = answer.headers;
      return {
        body: new Body(answer.body, { url: answer.url, signal, ...part }),
        fromByte,
        finalUrl: answer.url.href,
        ...(lengthBytes === undefined ? {} : { lengthBytes }),
        ...(etag === undefined ? {} : { etag }),
      };
    } catch (error) {
      discard(answer.body);
      throw error;
    }
  }

  /** What the cache answers for a path below its URL, or for an absolute URL, whatever it is: `.ls`, logs, realisations. */
  async get(path: string, { method = 'GET', headers = {}, signal }: GetOptions): Promise<GetAnswer> {
    const answer = await this.#send(method, this.resolveUrl(path.replace(/^\/+/, '')), headers, signal);
    const bodiless = method === 'HEAD' || answer.status === 204 || answer.status === 304;
    const expectedBytes = bodiless ? 0 : contentLength(answer);
    return {
      status: answer.status,
      headers: answer.headers,
      body: new Body(answer.body, { url: answer.url, signal, expectedBytes }),
    };
  }

  /** Lets what is under way finish for a moment, then breaks it off. May be called twice. */
  async close(): Promise<void> {
    if (this.#ownsClient) await this.#client.close();
  }

  async #send(
    method: Method,
    url: URL,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<Answer> {
    const health = url.origin === this.#base.origin ? this.#health : undefined;
    const startedMs = performance.now();
    let answered = false;
    const onAnswer = (): void => {
      // Whoever it redirects to is another matter.
      if (!answered) health?.answered();
      answered = true;
    };
    try {
      return await this.#client.send(method, url, headers, signal, {
        credentials: this.#credentials,
        onAnswer,
      });
    } catch (error) {
      if (!answered && (!signal.aborted || waitedTooLong(signal.reason)))
        health?.failed(performance.now() - startedMs);
      throw error;
    }
  }

  async #getSmall(path: string, maxBytes: number, signal: AbortSignal): Promise<Buffer | undefined> {
    const url = this.resolveUrl(path);
    const deadline = new Deadline(
      this.#limits.narInfoDeadlineMs,
      signal,
      (ms) => `nothing whole in ${ms} ms`,
    );
    try {
      const answer = await this.#send('GET', url, {}, deadline.signal);
      if (answer.status !== 200) discard(answer.body);
      if (absentStatuses.has(answer.status)) return undefined;
      if (answer.status !== 200) throw failed(answer.url, `status ${answer.status}`);
      const body = new Body(answer.body, { url: answer.url, signal: deadline.signal });
      return await decode(await readWhole(body, maxBytes), answer, maxBytes);
    } catch (error) {
      if (deadline.passed) throw failed(url, 'no whole answer in time', error);
      throw upstreamError(error, url, signal);
    } finally {
      deadline.close();
    }
  }
}

/** False when nobody wants the answer any more, which says nothing about who should give it. */
function waitedTooLong(reason: unknown): boolean {
  if (isNarswarmError(reason)) return reason.code === 'upstream-failed';
  return reason instanceof Error && reason.name === 'TimeoutError';
}

function baseUrl(text: string): URL {
  let url: URL;
  try {
    url = checkUrl(text.endsWith('/') ? text : `${text}/`, new URL('http://upstream.invalid'));
    if (!/^https?:/i.test(text) || url.search !== '') throw new Error('not the base URL of a cache');
  } catch (cause) {
    throw new NarswarmError('config-invalid', `not the URL of an HTTP cache: ${JSON.stringify(text)}`, {
      cause,
    });
  }
  return url;
}

/** What of the answer is the part that was asked for. Throws when it has no such part. */
function partOf(
  answer: Answer,
  fromByte: number,
): { skipBytes?: number; expectedBytes?: number | undefined; lengthBytes?: number | undefined } {
  const { status, url, headers } = answer;
  const encoding = headers['content-encoding'] ?? 'identity';
  if (encoding.toLowerCase() !== 'identity') throw failed(url, `a NAR file in Content-Encoding ${encoding}`);
  const announced = contentLength(answer);
  if (status === 200) {
    if (announced !== undefined && fromByte > 0 && fromByte >= announced) {
      throw failed(url, `byte ${fromByte} of a file of ${announced} bytes`);
    }
    const expectedBytes = announced === undefined ? undefined : announced - fromByte;
    return { skipBytes: fromByte, expectedBytes, lengthBytes: announced };
  }
  if (status === 416) throw failed(url, `it has no byte ${fromByte}`);
  if (status !== 206 || fromByte === 0) throw failed(url, `status ${status}`);
  const match = /^bytes ([0-9]+)-([0-9]+)\/([0-9]+|\*)$/i.exec(headers['content-range'] ?? '');
  if (match === null) throw failed(url, 'status 206 without a Content-Range');
  const [first, last] = [Number(match[1]), Number(match[2])];
  const lengthBytes = match[3] === '*' ? undefined : Number(match[3]);
  const expectedBytes = last - first + 1;
  const whole = lengthBytes === undefined || last === lengthBytes - 1;
  if (first !== fromByte || expectedBytes <= 0 || !whole || (announced ?? expectedBytes) !== expectedBytes) {
    throw failed(url, `Content-Range ${match[0]} for byte ${fromByte} to the end`);
  }
  return { expectedBytes, lengthBytes };
}

function contentLength({ headers }: Answer): number | undefined {
  const text = headers['content-length'];
  return text !== undefined && /^[0-9]{1,15}$/.test(text) ? Number(text) : undefined;
}

const decoders = new Map([
  ['gzip', promisify<Buffer, { maxOutputLength: number }, Buffer>(gunzip)],
  ['br', promisify<Buffer, { maxOutputLength: number }, Buffer>(brotliDecompress)],
  ['zstd', promisify<Buffer, { maxOutputLength: number }, Buffer>(zstdDecompress)],
]);

/** Object stores send a narinfo in the encoding it was uploaded in, whatever was asked for; Nix can upload them so. */
async function decode(bytes: Buffer, { headers, url }: Answer, maxBytes: number): Promise<Buffer> {
  const encoding = (headers['content-encoding'] ?? 'identity').toLowerCase();
  if (encoding === 'identity') return bytes;
  const decoder = decoders.get(encoding);
  if (decoder === undefined) throw failed(url, `Content-Encoding ${encoding}`);
  try {
    return await decoder(bytes, { maxOutputLength: maxBytes });
  } catch (cause) {
    throw failed(url, `not ${encoding}, or more than ${maxBytes} bytes`, cause);
  }
}
