/** Express applications as every program of ours makes them: errors become statuses here and nowhere else. */

import type { ServerResponse } from 'node:http';
import express, { type ErrorRequestHandler, type Express, type RequestHandler, Router } from 'express';
import { type ErrorCode, errorCodes, isNarswarmError } from '../nar/errors.ts';
import type { Logger } from './log.ts';

export type { RequestHandler, Router } from 'express';

/**
 * Longest request target. A NAR's URL may carry a query of a few hundred bytes (presigned object stores write up to
 * 2 KiB), and nothing asked here is longer.
 */
export const requestTargetMaxCharacters = 8_192;

/**
 * What a code means to whoever asked. A code that is missing here is our own fault: 500.
 *
 * Malformed names are 404, not 400, since to Nix "no such thing here" is the answer that lets it go on elsewhere.
 */
const statusOf: Partial<Record<ErrorCode, number>> = {
  'hash-invalid': 404,
  'store-path-invalid': 404,
  'path-escapes': 404,
  'nar-file-missing': 404,
  'not-held': 404,
  'bencode-invalid': 400,
  'torrentinfo-corrupt': 502,
  'torrentinfo-untrusted': 502,
  'narinfo-corrupt': 502,
  'cache-info-corrupt': 502,
  'upstream-failed': 502,
  'tracker-failed': 502,
  'swarm-exhausted': 502,
  'swarm-stalled': 504,
  aborted: 503,
};

export interface AppOptions {
  logger: Logger;
  /** Adds the routes. What none of them answers is 404, or 405 for other methods than GET and HEAD. */
  routes(router: Router): void;
}

export function makeApp({ logger, routes }: AppOptions): Express {
  const app = express();
  app.disable('x-powered-by');
  // NAR files get their own ETags; hashing every narinfo for one would cost more than sending it.
  app.disable('etag');
  app.set('query parser', 'simple');
  app.use(limitTarget);
  const router = Router({ caseSensitive: true, strict: true });
  routes(router);
  app.use(router);
  app.use(notFound);
  app.use(errorHandler(logger));
  return app;
}

/** The HTTP status for an error, and what may be told of it: never its message, which may name files. */
export function errorAnswer(error: unknown): { status: number; text: string } {
  if (isNarswarmError(error)) {
    return { status: statusOf[error.code] ?? 500, text: `${error.code}: ${errorCodes[error.code]}` };
  }
  // express and its body parsers mark what is the caller's fault so.
  if (error instanceof Error && 'status' in error && typeof error.status === 'number') {
    if (error.status >= 400 && error.status < 500) return { status: error.status, text: 'bad request' };
  }
  return { status: 500, text: 'internal error' };
}

const limitTarget: RequestHandler = (request, response, next) => {
  if (request.url.length <= requestTargetMaxCharacters) next();
  else sendPlain(response, 414, 'the request target is too long');
};

const notFound: RequestHandler = (request, response) => {
  if (request.method === 'GET' || request.method === 'HEAD') {
    sendNotFound(response);
    return;
  }
  response.setHeader('Allow', 'GET, HEAD');
  sendPlain(response, 405, 'method not allowed');
};

function errorHandler(logger: Logger): ErrorRequestHandler {
  return (error, request, response, _next) => {
    const { status, text } = errorAnswer(error);
    if (status >= 500 && !isNarswarmError(error, 'aborted')) {
      const fields = { method: request.method, path: request.path, status, error };
      if (isNarswarmError(error)) logger.warn('request-failed', fields);
      else
        logger.error('request-failed', {
          ...fields,
          stack: error instanceof Error ? error.stack : undefined,
        });
    }
    // A body that has begun must not end as if it were whole.
    if (response.headersSent) response.destroy();
    else sendPlain(response, status, text);
  };
}

/** For what is answered without express: the 404 that it would give. */
export function sendNotFound(response: ServerResponse): void {
  sendPlain(response, 404, 'not found');
}

function sendPlain(response: ServerResponse, status: number, text: string): void {
  for (const name of response.getHeaderNames()) if (name !== 'allow') response.removeHeader(name);
  const body = `${text}\n`;
  response.writeHead(status, {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
  });
  response.end(body);
}
