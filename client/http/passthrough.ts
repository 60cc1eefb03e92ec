/** Answers with what an upstream answers, byte for byte and unverified: for what is no NAR file, or has no FileHash. */

import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import type { HttpCache } from '../../upstream/http-cache.ts';
import type { Logger } from '../../web/log.ts';
import { StallGuard } from '../waiting.ts';

/** What an upstream is told of the request. */
const requestHeaders = ['range', 'if-range', 'if-none-match', 'if-modified-since', 'accept'] as const;

/** What the asker is told of the answer. No Content-Encoding but the one that the bytes came with. */
const responseHeaders = [
  'accept-ranges',
  'cache-control',
  'content-encoding',
  'content-length',
  'content-range',
  'content-type',
  'etag',
  'last-modified',
] as const;

/** Answers that are passed on. Anything else is as good as none: the next upstream is asked. */
const passedStatuses = new Set([200, 206, 304, 416]);

export interface PassThroughOptions {
  /** With the URL to ask each of them for. */
  sources: { cache: HttpCache; url: string }[];
  /** Without a byte for this long the next source is asked, or the answer broken off. */
  stallMs: number;
  logger: Logger;
}

/** False when no source has it, and then nothing was sent. Rejects when the answer was broken off. */
export async function passThrough(
  request: IncomingMessage,
  response: ServerResponse,
  { sources, stallMs, logger }: PassThroughOptions,
): Promise<boolean> {
  const gone = new AbortController();
  const onClose = (): void => gone.abort();
  response.once('close', onClose);
  try {
    for (const { cache, url } of sources) {
      if (gone.signal.aborted) return true;
      const guard = new StallGuard(stallMs, gone.signal, cache.url);
      try {
        if (await passFrom(cache, url, request, response, guard)) return true;
      } catch (error) {
        if (gone.signal.aborted) return true;
        logger.warn('pass-through-failed', { source: cache.url, error });
        if (response.headersSent) {
          response.destroy();
          throw error;
        }
      } finally {
        guard.close();
      }
    }
    return false;
  } finally {
    response.off('close', onClose);
  }
}

async function passFrom(
  cache: HttpCache,
  url: string,
  request: IncomingMessage,
  response: ServerResponse,
  guard: StallGuard,
): Promise<boolean> {
  const method = request.method === 'HEAD' ? 'HEAD' : 'GET';
  const headers: Record<string, string> = {};
  for (const name of requestHeaders) {
    const value = request.headers[name];
    if (typeof value === 'string') headers[name] = value;
  }
  const answer = await cache.get(url, { method, headers, signal: guard.signal });
  if (!passedStatuses.has(answer.status)) {
    await answer.body.return();
    return false;
  }
  const passed: Record<string, string> = {};
  for (const name of responseHeaders) {
    const value = answer.headers[name];
    if (typeof value === 'string') passed[name] = value;
  }
  // No encoding at all, but Nix resumes no answer that says so.
  if (passed['content-encoding']?.toLowerCase() === 'identity') delete passed['content-encoding'];
  response.writeHead(answer.status, passed);
  if (method === 'HEAD') {
    await answer.body.return();
    response.end();
    return true;
  }
  await pipeline(touching(answer.body, guard), response);
  return true;
}

async function* touching(body: AsyncIterable<Buffer>, guard: StallGuard): AsyncGenerator<Buffer> {
  for await (const chunk of body) {
    guard.touch();
    yield chunk;
    // The time that the asker took is not the upstream's.
    guard.touch();
  }
}
