/** One GET or HEAD after another over undici, with redirects followed by hand and every failure in our own words. */

import type { LookupFunction } from 'node:net';
import { Agent, type Dispatcher, errors } from 'undici';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { type AnswerBody, exchange, type RawAnswer } from './exchange.ts';
import type { UpstreamLimits } from './limits.ts';
import { AddressRefused, publicConnector } from './public-address.ts';

export type Method = 'GET' | 'HEAD';

export interface Answer extends RawAnswer {
  /** After redirects. */
  url: URL;
}

export interface HttpClientOptions {
  limits: UpstreamLimits;
  /** Origins that the operator named: these may be anywhere. All others must have public addresses. */
  trustedOrigins: ReadonlySet<string>;
  lookup?: LookupFunction | undefined;
  /** PEM certificates of authorities that are believed besides the system's; for tests. */
  ca?: string | undefined;
}

/** What an origin is told so that it answers. Whoever is redirected elsewhere takes it along to no other origin. */
export interface Credentials {
  readonly origin: string;
  readonly authorization: string;
}

export interface SendOptions {
  credentials?: Credentials | undefined;
  /** There is an answer, be it a redirect; again after each redirect. */
  onAnswer?: () => void;
}

const redirectStatuses = new Set([301, 302, 303, 307, 308]);
/** Bytes of an unwanted body that are read to keep its connection; a longer one costs the connection. */
const discardMaxBytes = 16 * 1024;

export class HttpClient {
  readonly #limits: UpstreamLimits;
  readonly #trustedOrigins: ReadonlySet<string>;
  readonly #trusted: Agent;
  readonly #foreign: Agent;
  /** Requests whose answer's body has not ended. */
  #running = 0;
  #onIdle: (() => void) | undefined;
  #closed: Promise<void> | undefined;

  constructor({ limits, trustedOrigins, lookup, ca }: HttpClientOptions) {
    this.#limits = limits;
    this.#trustedOrigins = trustedOrigins;
    const connect = { timeout: limits.connectTimeoutMs, allowH2: false, ...(ca && { ca }) };
    const pool = {
      connections: limits.connectionsPerOrigin,
      pipelining: 1,
      // A GOAWAY in the middle of a body has been read as its clean end by others.
      allowH2: false,
      keepAliveTimeout: limits.keepAliveMs,
      maxHeaderSize: limits.headMaxBytes,
      headersTimeout: limits.headersTimeoutMs,
      bodyTimeout: limits.bodyStallMs,
    };
    this.#trusted = new Agent({ ...pool, connect: { ...connect, ...(lookup ? { lookup } : {}) } });
    this.#foreign = new Agent({
      ...pool,
      maxOrigins: limits.foreignOrigins,
      connect: publicConnector(connect, lookup),
    });
  }

  /**
   * The answer after redirects, whatever its status. Throws `upstream-failed` when there is none, and `aborted`, or the
   * signal's reason if that is an error of ours, when `signal` aborts, also while the body is read.
   */
  async send(
    method: Method,
    url: URL,
    headers: Record<string, string>,
    signal: AbortSignal,
    { credentials, onAnswer }: SendOptions = {},
  ): Promise<Answer> {
    let at = url;
    for (let redirects = 0; ; redirects += 1) {
      const sent =
        at.origin === credentials?.origin
          ? { ...headers, authorization: credentials.authorization }
          : headers;
      const { status, headers: answered, body } = await this.#sendOnce(method, at, sent, signal);
      onAnswer?.();
      if (!redirectStatuses.has(status)) return { status, headers: answered, body, url: at };
      discard(body);
      const location = answered.location;
      if (redirects === this.#limits.redirects) throw failed(url, `more than ${redirects} redirects`);
      if (typeof location !== 'string') throw failed(url, 'a redirect to nowhere');
      at = checkUrl(location, at);
    }
  }

  /** Lets requests under way finish for `drainMs`, then breaks them off. May be called twice. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #sendOnce(
    method: Method,
    url: URL,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<RawAnswer> {
    const request: Dispatcher.DispatchOptions = {
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      method,
      // Nothing is ever decoded here: what is asked for is bytes whose hash is known.
      headers: { 'user-agent': 'narswarm', ...headers, 'accept-encoding': 'identity' },
    };
    const dispatcher = this.#trustedOrigins.has(url.origin) ? this.#trusted : this.#foreign;
    const ask = (): Promise<RawAnswer> => {
      if (this.#closed !== undefined) throw failed(url, 'not asked, as the program is stopping');
      this.#running += 1;
      return exchange(dispatcher, request, { signal, onEnd: this.#onEnd });
    };
    try {
      return await ask();
    } catch (error) {
      // The upstream closed an idle connection as it was used again. Asked once more, on another.
      if (!isLostConnection(error) || signal.aborted || this.#closed !== undefined)
        throw upstreamError(error, url, signal);
    }
    try {
      return await ask();
    } catch (error) {
      throw upstreamError(error, url, signal);
    }
  }

  readonly #onEnd = (): void => {
    this.#running -= 1;
    if (this.#running === 0) this.#onIdle?.();
  };

  /** Not by `Agent.close`, after which undici's `Agent.destroy` no longer finds the requests that it should end. */
  async #close(): Promise<void> {
    if (this.#running > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, this.#limits.drainMs);
        this.#onIdle = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    await Promise.all([this.#trusted.destroy(), this.#foreign.destroy()]);
  }
}

/** Throws `upstream-failed` unless it is an http or https URL without a password. */
export function checkUrl(text: string, base: URL): URL {
  let url: URL;
  try {
    url = new URL(text, base);
  } catch (cause) {
    throw new NarswarmError('upstream-failed', `${base.host} names a URL that is none`, { cause });
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new NarswarmError('upstream-failed', `${base.host} names a URL that is not http: ${url.protocol}`);
  }
  if (url.username !== '' || url.password !== '') {
    throw new NarswarmError('upstream-failed', `${base.host} names a URL with a password`);
  }
  url.hash = '';
  return url;
}

/** Reads the rest of a short body, so that its connection can be used again; gives up a longer one. */
export function discard(body: AnswerBody): void {
  body.dump(discardMaxBytes);
}

/** An error without the query of the URL, which may hold a token. */
export function failed(url: URL, what: string, cause?: unknown): NarswarmError {
  const message = `${url.origin}${url.pathname}: ${what}`;
  return new NarswarmError('upstream-failed', message, cause === undefined ? {} : { cause });
}

/** Whatever went wrong with a request or its body, as an error of ours. */
export function upstreamError(error: unknown, url: URL, signal: AbortSignal): NarswarmError {
  if (signal.aborted) {
    const reason: unknown = signal.reason;
    if (isNarswarmError(reason)) return reason;
    return new NarswarmError('aborted', `${url.origin}${url.pathname}: given up`, { cause: reason });
  }
  if (isNarswarmError(error)) return error;
  return failed(url, plainWords(error), error);
}

function isLostConnection(error: unknown): boolean {
  if (error instanceof errors.SocketError) return true;
  return error instanceof Error && 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
}

function plainWords(error: unknown): string {
  if (error instanceof AddressRefused) return error.message;
  if (error instanceof errors.ConnectTimeoutError) return 'no connection in time';
  if (error instanceof errors.HeadersTimeoutError) return 'no answer in time';
  if (error instanceof errors.BodyTimeoutError) return 'the body stopped coming';
  if (error instanceof errors.ResponseContentLengthMismatchError)
    return 'the body has another length than announced';
  if (error instanceof errors.SocketError) return 'the connection was lost';
  if (error instanceof errors.HeadersOverflowError) return 'the head of the answer is too long';
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ECONNREFUSED') return 'the connection was refused';
  if (code === 'ECONNRESET') return 'the connection was lost';
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return 'the name cannot be looked up';
  return error instanceof Error ? error.message || error.name : String(error);
}
