/** Decompresses a NAR file as it streams by, in bounded memory, and stops it at a limit. */

import { setImmediate } from 'node:timers/promises';
import type { Compression } from '../nar/compression.ts';
import { NarswarmError } from '../nar/errors.ts';
import { decompressBzip2 } from './bzip2.ts';
import { decompressXz, type XzWays } from './xz.ts';
import { decompressZlib } from './zlib-members.ts';

/** After so many bytes the event loop gets a turn, in which an abort is noticed: about 50 ms of the slowest decoder. */
const turnBytes = 2 * 1024 * 1024;

export interface DecompressOptions {
  /** What should come out: for choosing the way to do it. */
  expectedBytes: number;
  /** More than this is a decompression bomb. */
  maxBytes: number;
  /** For a faster way with xz. */
  xz?: XzWays;
  signal?: AbortSignal;
}

/**
 * The decompressed bytes of `input`, in chunks of at most a few hundred kilobytes. A chunk of `input` is no longer needed when
 * the next one is asked for.
 *
 * Throws `decompression-failed` when the input is corrupt, cut short or followed by anything else, `decompression-bomb`
 * at the first byte past `maxBytes`, and what `input` throws.
 */
export async function* decompress(
  compression: Compression,
  input: AsyncIterable<Buffer>,
  { expectedBytes, maxBytes, xz, signal }: DecompressOptions,
): AsyncGenerator<Buffer> {
  let sizeBytes = 0;
  let nextTurn = turnBytes;
  for await (const bytes of decoded(compression, input, expectedBytes, xz)) {
    sizeBytes += bytes.length;
    if (sizeBytes > maxBytes) {
      throw new NarswarmError('decompression-bomb', `${compression}: more than ${maxBytes} bytes come out`, {
        offset: maxBytes,
      });
    }
    if (sizeBytes >= nextTurn) {
      await setImmediate();
      nextTurn = sizeBytes + turnBytes;
    }
    if (signal?.aborted) throw new NarswarmError('aborted', 'decompression was given up');
    yield bytes;
  }
}

function decoded(
  compression: Compression,
  input: AsyncIterable<Buffer>,
  expectedBytes: number,
  xz: XzWays | undefined,
): AsyncIterable<Buffer> {
  switch (compression) {
    case 'none':
      return input;
    case 'xz':
      return decompressXz(input, expectedBytes, xz);
    case 'bzip2':
      return decompressBzip2(input);
    default:
      return decompressZlib(compression, input);
  }
}
