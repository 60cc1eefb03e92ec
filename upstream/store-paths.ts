/** Lists of store paths, one a line, plain or in xz: `store-paths.xz` of a channel, for instance. */

import { createReadStream } from 'node:fs';
import { fileURLToPath } from 'node:url';
import lzma from 'lzma-native';
import { NarswarmError } from '../nar/errors.ts';
import {
  parseStorePath,
  type StorePath,
  storeDirMaxCharacters,
  storeNameMaxCharacters,
} from '../nar/store-path.ts';
import { Body } from './body.ts';
import { checkUrl, discard, failed, HttpClient } from './http-client.ts';
import { defaultUpstreamLimits, type UpstreamLimits } from './limits.ts';

/** Bytes of one line: the longest store path, with its hash, a carriage return and some space around it. */
export const storePathLineMaxBytes = storeDirMaxCharacters + 32 + storeNameMaxCharacters + 64;

/** Bytes that decompression may use. `xz -9` needs 65 MiB. */
const xzMemoryMaxBytes = 128 * 1024 * 1024;
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
  try {
    const path = fileOrUrl.startsWith('file:') ? fileURLToPath(fileOrUrl) : fileOrUrl;
    for await (const chunk of createReadStream(path, { signal })) {
      if (Buffer.isBuffer(chunk)) yield chunk;
    }
  } catch (cause) {
    if (signal.aborted) throw new NarswarmError('aborted', `reading ${fileOrUrl} was given up`, { cause });
    throw new NarswarmError('config-invalid', `the store paths in ${fileOrUrl} cannot be read`, { cause });
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

async function* unxz(source: AsyncGenerator<Buffer>): AsyncGenerator<Buffer> {
  const decoder = lzma.createStream('streamDecoder', { memlimit: xzMemoryMaxBytes });
  let sourceFailure: unknown;
  const feeding = (async () => {
    for await (const chunk of source) {
      if (decoder.destroyed) return;
      if (!decoder.write(chunk)) await writableAgain(decoder);
    }
    decoder.end();
  })().catch((error: unknown) => {
    sourceFailure = error;
    decoder.destroy();
  });
  try {
    for await (const chunk of decoder) {
      if (Buffer.isBuffer(chunk)) yield chunk;
    }
  } catch (cause) {
    if (sourceFailure !== undefined) throw sourceFailure;
    throw new NarswarmError('decompression-failed', 'the list of store paths is not whole xz', { cause });
  } finally {
    decoder.destroy();
    await feeding;
  }
}

async function writableAgain(stream: NodeJS.WritableStream): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      stream.off('drain', done);
      stream.off('close', done);
      resolve();
    };
    stream.on('drain', done);
    stream.on('close', done);
  });
}

/** Lines without their ends; one that is too long is an error before it is all in memory. */
async function* lines(source: AsyncGenerator<Buffer>): AsyncGenerator<string> {
  let rest = Buffer.alloc(0);
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
