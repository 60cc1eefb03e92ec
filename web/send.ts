/** Sends a file, or the part of it that was asked for, at the reader's pace. */

import type { IncomingMessage, ServerResponse } from 'node:http';
import { NarswarmError } from '../nar/errors.ts';
import { parseRange } from './range.ts';

/**
 * Bytes asked of the source at once. Two such reads are in memory for each answer: one on its way to the reader, one
 * being read.
 */
export const sendReadBytes = 512 * 1024;

/** Made once: an abort without a reason makes an exception with a stack each time. */
const sent = new NarswarmError('aborted', 'the answer is over');

export interface SendSource {
  sizeBytes: number;
  /**
   * At least one byte and at most `lengthBytes` from `position`. It may wait for bytes that are still to come, and
   * give fewer than asked. `signal` aborts when nobody wants them any more.
   */
  read(position: number, lengthBytes: number, signal: AbortSignal): Promise<Uint8Array>;
  /** What `read` gave is with the system: nobody reads it any more. Not told when the reader has gone away. */
  release?(bytes: Uint8Array): void;
  /** Names these bytes and no others for ever; the quotes are added here. Without one there is no If-Range. */
  etag?: string;
  /** `application/octet-stream` by default. */
  contentType?: string;
  /**
   * `no-transform` by default: a proxy that compresses a NAR on the way takes away its length and with it the ability
   * to go on after a break.
   */
  cacheControl?: string;
}

export interface SendResult {
  status: 200 | 206 | 304 | 416;
  /** Bytes of the body given to the connection. */
  sentBytes: number;
  /** False when the reader went away first. */
  complete: boolean;
}

/**
 * Answers a GET or HEAD. Never sets a Content-Encoding: Nix does not resume an answer that has one.
 *
 * Rejects with what `read` throws. Before the first byte nothing has been sent then, and an error answer can be; later
 * the connection is already destroyed, so that a truncated body is never a clean end. A reader that goes away is no
 * error. The source is not closed here.
 */
export async function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  source: SendSource,
): Promise<SendResult> {
  const { sizeBytes } = source;
  const etag = source.etag === undefined ? undefined : quoteEtag(source.etag);
  const headers: Record<string, string | number> = {
    'Accept-Ranges': 'bytes',
    'Cache-Control': source.cacheControl ?? 'no-transform',
    ...(etag === undefined ? {} : { ETag: etag }),
  };
  if (etag !== undefined && namesEtag(request.headers['if-none-match'], etag)) {
    return sendHead(response, 304, headers);
  }
  const range = request.method === 'HEAD' ? undefined : parseRange(wantedRange(request, etag), sizeBytes);
  if (range === 'unsatisfiable') {
    return sendHead(response, 416, {
      ...headers,
      'Content-Range': `bytes */${sizeBytes}`,
      'Content-Length': 0,
    });
  }
  const { start, lengthBytes } = range ?? { start: 0, lengthBytes: sizeBytes };
  const status = range === undefined ? 200 : 206;
  headers['Content-Type'] = source.contentType ?? 'application/octet-stream';
  headers['Content-Length'] = lengthBytes;
  if (range !== undefined) {
    headers['Content-Range'] = `bytes ${start}-${start + lengthBytes - 1}/${sizeBytes}`;
  }
  if (request.method === 'HEAD' || lengthBytes === 0) return sendHead(response, status, headers);
  return {
    status,
    ...(await sendBody(response, source, start, lengthBytes, () => response.writeHead(status, headers))),
  };
}

/** A source of bytes that are in memory. */
export function sourceOf(
  bytes: Uint8Array,
  options: Omit<SendSource, 'sizeBytes' | 'read'> = {},
): SendSource {
  return {
    ...options,
    sizeBytes: bytes.length,
    async read(position, lengthBytes) {
      return bytes.subarray(position, position + lengthBytes);
    },
  };
}

/** Answers with a short text. */
export async function sendText(
  request: IncomingMessage,
  response: ServerResponse,
  text: string,
  contentType: string,
): Promise<void> {
  await sendFile(request, response, sourceOf(Buffer.from(text), { contentType }));
}

async function sendBody(
  response: ServerResponse,
  source: SendSource,
  start: number,
  lengthBytes: number,
  writeHead: () => void,
): Promise<{ sentBytes: number; complete: boolean }> {
  const end = start + lengthBytes;
  const gone = new AbortController();
  const onClose = (): void => gone.abort(sent);
  response.once('close', onClose);
  if (response.destroyed || response.closed) gone.abort(sent);
  const readAt = (position: number): Promise<Uint8Array> =>
    source.read(position, Math.min(sendReadBytes, end - position), gone.signal);
  let position = start;
  let next: Promise<Uint8Array> | undefined;
  try {
    next = gone.signal.aborted ? undefined : readAt(position);
    while (next !== undefined) {
      const chunk = checkChunk(await next, end - position);
      if (gone.signal.aborted) break;
      if (position === start) writeHead();
      position += chunk.length;
      if (position === end) {
        next = undefined;
        await endWith(response, chunk, gone.signal);
        if (response.writableFinished) source.release?.(chunk);
        break;
      }
      next = readAt(position);
      // Awaited only after the write; it must not count as unhandled meanwhile.
      next.catch(() => undefined);
      const taken = (error: Error | null | undefined): void => {
        if (!error) source.release?.(chunk);
      };
      if (!response.write(chunk, taken)) await drained(response, gone.signal);
    }
  } catch (error) {
    if (!gone.signal.aborted) {
      if (response.headersSent) response.destroy();
      throw error;
    }
  } finally {
    response.off('close', onClose);
    // The source may be closed as soon as this returns, so no read may be left in it.
    gone.abort(sent);
    await next?.catch(() => undefined);
  }
  return { sentBytes: position - start, complete: position === end && response.writableFinished };
}

function checkChunk(chunk: Uint8Array, wantedBytes: number): Uint8Array {
  if (chunk.length > 0 && chunk.length <= Math.min(sendReadBytes, wantedBytes)) return chunk;
  throw new NarswarmError('not-held', `${chunk.length} bytes read where ${wantedBytes} are left`);
}

function sendHead(
  response: ServerResponse,
  status: SendResult['status'],
  headers: Record<string, string | number>,
): SendResult {
  response.writeHead(status, headers);
  response.end();
  return { status, sentBytes: 0, complete: true };
}

/** Resolves when the connection takes more, or is gone. */
function drained(response: ServerResponse, gone: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (gone.aborted || !response.writableNeedDrain) {
      resolve();
      return;
    }
    const done = (): void => {
      response.off('drain', done);
      gone.removeEventListener('abort', done);
      resolve();
    };
    response.on('drain', done);
    gone.addEventListener('abort', done);
  });
}

/** Resolves when the last byte is with the system, or the reader is gone. */
function endWith(response: ServerResponse, chunk: Uint8Array, gone: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      gone.removeEventListener('abort', done);
      resolve();
    };
    gone.addEventListener('abort', done);
    response.end(chunk, done);
  });
}

/** The Range header, unless If-Range says that the reader's part is of something else. */
function wantedRange(request: IncomingMessage, etag: string | undefined): string | undefined {
  const condition = request.headers['if-range'];
  // Strong comparison: a weak tag never matches, and neither does a date, as we send none.
  if (condition !== undefined && condition !== etag) return undefined;
  return request.headers.range;
}

function namesEtag(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  return header.trim() === '*' || header.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag);
}

/** A tag that already has its quotes stays as it is. */
function quoteEtag(etag: string): string {
  if (!/^"?[\x21\x23-\x7e]+"?$/.test(etag)) throw new Error('not an entity tag');
  return etag.startsWith('"') ? etag : `"${etag}"`;
}
