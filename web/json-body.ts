/** JSON bodies of requests. */

import type { IncomingMessage } from 'node:http';
import type { RequestHandler } from 'express';

/** Bytes of all bodies that one route is reading: connections are many, and each may send a little less than it may, and then wait. */
const readingMaxBytes = 32 * 1024 * 1024;

/** What the caller did wrong, or others did at the same time, for the error handler of web/app.ts. */
class BodyError extends Error {
  readonly status: 400 | 413 | 415 | 429;

  constructor(status: 400 | 413 | 415 | 429, options?: { cause: unknown }) {
    super('the body of a request is not taken', options);
    this.status = status;
  }
}

/**
 * Parses the body as JSON whatever its Content-Type says; longer than `maxBytes` is 413, compressed 415, not JSON 400, too much at once of
 * all callers 429. Told at once: express's own parser first reads all that the caller cares to send.
 */
export function jsonBody(maxBytes: number, allMaxBytes = readingMaxBytes): RequestHandler {
  const reading = { bytes: 0 };
  return async (request, response, next) => {
    try {
      request.body = parse(await readBody(request, maxBytes, allMaxBytes, reading));
    } catch (error) {
      // What is left of the body is not waited for.
      response.shouldKeepAlive = false;
      request.resume();
      throw error;
    }
    next();
  };
}

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new BodyError(400, { cause });
  }
}

async function readBody(
  request: IncomingMessage,
  maxBytes: number,
  allMaxBytes: number,
  reading: { bytes: number },
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  try {
    await gather(request, maxBytes, (chunk) => {
      reading.bytes += chunk.length;
      chunks.push(chunk);
      if (reading.bytes > allMaxBytes) throw new BodyError(429);
    });
    return Buffer.concat(chunks);
  } finally {
    for (const { length } of chunks.splice(0)) reading.bytes -= length;
  }
}

/** Resolves at the end of the body; rejects when something is wrong with it, or `take` throws, which then is given no more. */
function gather(request: IncomingMessage, maxBytes: number, take: (chunk: Buffer) => void): Promise<void> {
  const { 'content-encoding': encoding = 'identity', 'content-length': length = '0' } = request.headers;
  return new Promise((resolve, reject) => {
    let bytes = 0;
    const onData = (chunk: Buffer): void => {
      bytes += chunk.length;
      try {
        if (bytes > maxBytes) throw new BodyError(413);
        take(chunk);
      } catch (error) {
        fail(error);
      }
    };
    const fail = (error: unknown): void => {
      request.off('data', onData);
      reject(error);
    };
    request.on('error', (cause) => fail(new BodyError(400, { cause })));
    // Whoever goes away in the middle wants no answer.
    request.on('close', () => fail(new BodyError(400)));
    if (encoding !== 'identity') return fail(new BodyError(415));
    if (Number(length) > maxBytes) return fail(new BodyError(413));
    request.on('data', onData);
    request.on('end', () => resolve());
  });
}
