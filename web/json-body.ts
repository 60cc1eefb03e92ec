/** JSON bodies of requests. */

import type { IncomingMessage } from 'node:http';
import type { RequestHandler } from 'express';

/** What the caller did wrong, for the error handler of web/app.ts. */
class BodyError extends Error {
  readonly status: 400 | 413 | 415;

  constructor(status: 400 | 413 | 415, options?: { cause: unknown }) {
    super('the body of a request is not taken', options);
    this.status = status;
  }
}

/**
 * Parses the body as JSON whatever its Content-Type says; longer than `maxBytes` is 413, compressed 415, not JSON 400. Told at once:
 * express's own parser first reads all that the caller cares to send.
 */
export function jsonBody(maxBytes: number): RequestHandler {
  return async (request, response, next) => {
    try {
      request.body = parse(await readBody(request, maxBytes));
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

function readBody(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const { 'content-encoding': encoding = 'identity', 'content-length': length = '0' } = request.headers;
  return new Promise((resolve, reject) => {
    if (encoding !== 'identity') reject(new BodyError(415));
    if (Number(length) > maxBytes) reject(new BodyError(413));
    const chunks: Buffer[] = [];
    let bytes = 0;
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= maxBytes) chunks.push(chunk);
      else reject(new BodyError(413));
    });
    request.on('end', () => resolve(Buffer.concat(chunks)));
    request.on('error', (cause) => reject(new BodyError(400, { cause })));
  });
}
