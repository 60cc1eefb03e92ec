/** Lists of store paths, one a line, plain or in xz: `store-paths.xz` of a channel, for instance. */

import { type FileHandle, open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import {
  parseStorePath,
  type StorePath,
  storeDirMaxCharacters,
  storeNameMaxCharacters,
} from '../nar/store-path.ts';
import { Body } from './body.ts';
import { checkUrl, discard, failed, HttpClient } from './http-client.ts';
import { defaultUpstreamLimits, type UpstreamLimits } from './limits.ts';
import { unxz } from './xz.ts';

/** Bytes of one line: the longest store path, with its hash, a carriage return and some space around it. */
export const storePathLineMaxBytes = storeDirMaxCharacters + 32 + storeNameMaxCharacters + 64;

const fileReadBytes = 64 * 1024;
const xzMagic = Buffer.from('fd377a585a00', 'hex');

export interface StorePathsOptions {
  signal: AbortSignal;
  limits?: Partial<UpstreamLimits>;
}

/**
 * The store paths of a file, a `file://` URL or an `http(s)://` URL, in their order; blank lines are skipped.
 *
 * Whether it is in xz is told from its first bytes. Throws `store-path-invalid` with the number of a line that is no
 * store path, `upstream-failed` when the list cannot be had over HTTP, `config-invalid` when there is no such file, and
 * `decompression-failed`.
 */
export async function* readStorePaths(
  fileOrUrl: string,
  options: StorePathsOptions,
): AsyncGenerator<StorePath> {
  const source = /^https?:/i.test(fileOrUrl)
    ? overHttp(fileOrUrl, options)
    : fromFile(fileOrUrl, options.signal);
  let line = 0;
  for await (const text of lines(unpacked(source))) {
    line += 1;
    const path = text.trim();
    if (path === '') continue;
    try {
      yield parseStorePath(path);
    } catch (cause) {
      throw new NarswarmError('store-path-invalid', `${fileOrUrl}, line ${line}: not a store path`, {
        cause,
      });
    }
  }
}

async function* fromFile(fileOrUrl: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  let file: FileHandle | undefined;
  try {
    file = await open(fileOrUrl.startsWith('file:') ? fileURLToPath(fileOrUrl) : fileOrUrl);
    for (;;) {
      if (signal.aborted) throw new NarswarmError('aborted', `reading ${fileOrUrl} was given up`);
      const { bytesRead, buffer } = await file.read({ buffer: Buffer.allocUnsafe(fileReadBytes) });
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } catch (cause) {
    if (isNarswarmError(cause)) throw cause;
    throw new NarswarmError('config-invalid', `the store paths in ${fileOrUrl} cannot be read`, { cause });
  } finally {
    await file?.close();
  }
}

async function* overHttp(text: string, { signal, limits }: StorePathsOptions): AsyncGenerator<Buffer> {
  const url = checkUrl(text, new URL(text));
  const client = new HttpClient({
    limits: { ...defaultUpstreamLimits, ...limits },
    trustedOrigins: new Set([url.origin]),
  });
  try {
    const answer = await client.send('GET', url, {}, signal);
    if (answer.status !== 200) {
      discard(answer.body);
      throw failed(url, `status ${answer.status}`);
    }
    yield* new Body(answer.body, { url: answer.url, signal });
  } finally {
    await client.close();
  }
}

async function* unpacked(source: AsyncGenerator<Buffer>): AsyncGenerator<Buffer> {
  const head: Buffer[] = [];
  let headBytes = 0;
  while (headBytes < xzMagic.length) {
    const { done, value } = await source.next();
    if (done === true) break;
    head.push(value);
    headBytes += value.length;
  }
  const start = Buffer.concat(head);
  const whole = prepended(start, source);
  if (start.subarray(0, xzMagic.length).equals(xzMagic)) yield* unxz(whole);
  else yield* whole;
}

async function* prepended(start: Buffer, rest: AsyncGenerator<Buffer>): AsyncGenerator<Buffer> {
  // An unstarted delegate would not be closed when the reader stops at the first chunk.
  try {
    yield start;
    yield* rest;
  } finally {
    await rest.return(undefined);
  }
}

/** Lines without their ends; one that is too long is an error before it is all in memory. */
async function* lines(source: AsyncGenerator<Buffer>): AsyncGenerator<string> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of source) {
    let text = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    for (let end = text.indexOf(10); end >= 0; end = text.indexOf(10)) {
      yield checkedLine(text.subarray(0, end));
      text = text.subarray(end + 1);
    }
    rest = text;
    checkedLine(rest);
  }
  yield checkedLine(rest);
}

function checkedLine(line: Buffer): string {
  if (line.length <= storePathLineMaxBytes) return line.toString();
  throw new NarswarmError('store-path-invalid', `a line of more than ${storePathLineMaxBytes} bytes`);
}
