/**
 * Decompresses gzip, zstd and brotli by Node's zlib, several members one after the other where the format has them.
 *
 * Node's decoders end at the end of a member and drop what is left of the chunk in which it lies (zstd always, gzip when the
 * next byte is 0): here the rest goes to a decoder of its own, so that nothing is lost and rubbish at the end is noticed.
 */

import type { Transform } from 'node:stream';
import { createBrotliDecompress, createGunzip, createZstdDecompress } from 'node:zlib';
import { NarswarmError } from '../nar/errors.ts';

/** Bytes of the chunks that come out. */
const chunkBytes = 128 * 1024;
/** Each member costs a decoder: a file of tiny ones would keep a worker busy for hours. pzstd makes one for each 4 MiB or so. */
const membersMax = 65_536;

interface Decoder extends Transform {
  /** Bytes of input used. */
  readonly bytesWritten: number;
}

const decoders = {
  gzip: (): Decoder => createGunzip({ chunkSize: chunkBytes }),
  zstd: (): Decoder => createZstdDecompress({ chunkSize: chunkBytes }),
  br: (): Decoder => createBrotliDecompress({ chunkSize: chunkBytes }),
};

/** A chunk of `input` is no longer needed when the next one is asked for. */
export async function* decompressZlib(
  format: keyof typeof decoders,
  input: AsyncIterable<Buffer>,
): AsyncGenerator<Buffer> {
  const source = input[Symbol.asyncIterator]();
  const pull = async (): Promise<Buffer | undefined> => {
    const next = await source.next();
    return next.done ? undefined : next.value;
  };
  let rest = await pull();
  if (rest === undefined) throw failed(format, 'it is empty');
  // A brotli stream has no mark at its beginning, so that rubbish would be taken for another one.
  const max = format === 'br' ? 1 : membersMax;
  for (let member = 0; rest !== undefined; member++) {
    if (member === max) throw failed(format, max === 1 ? 'bytes after its end' : 'too many members');
    rest = yield* decodeMember(format, rest, pull);
  }
}

/** Decodes from `first` and what `pull` gives; returns what was not used. */
async function* decodeMember(
  format: keyof typeof decoders,
  first: Buffer,
  pull: () => Promise<Buffer | undefined>,
): AsyncGenerator<Buffer, Buffer | undefined> {
  const decoder = decoders[format]();
  const closed = new Promise<void>((resolve) => decoder.once('close', resolve));
  let fedBytes = 0;
  let last = first;
  let ended = false;
  let inputError: unknown;
  const feed = async (): Promise<void> => {
    for (let next: Buffer | undefined = first; next !== undefined; next = await pull()) {
      last = next;
      fedBytes += next.length;
      const written = new Promise<void>((resolve) => decoder.write(next, () => resolve()));
      // At the end of a member the decoder may or may not answer for the chunk that it has not used up.
      await Promise.race([written, closed]);
      if (ended || decoder.destroyed || decoder.bytesWritten < fedBytes) return;
    }
    decoder.end();
  };
  const feeding = feed().catch((error: unknown) => {
    inputError = error;
    decoder.destroy();
  });
  try {
    for await (const bytes of decoder) yield bytes;
  } catch (error) {
    throw inputError ?? failed(format, error instanceof Error ? error.message : String(error));
  } finally {
    ended = true;
    decoder.destroy();
    await feeding;
  }
  if (inputError !== undefined) throw inputError;
  const unusedBytes = fedBytes - decoder.bytesWritten;
  return unusedBytes > 0 ? last.subarray(last.length - unusedBytes) : undefined;
}

function failed(format: string, why: string): NarswarmError {
  return new NarswarmError('decompression-failed', `${format}: ${why}`);
}
