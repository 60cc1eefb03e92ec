/** Decompresses xz with liblzma, in small steps and bounded memory. For lists; NAR files have their own, faster ways. */

import lzma from 'lzma-native';
import { NarswarmError } from '../nar/errors.ts';

/** Bytes that decompression may use. `xz -9` needs 65 MiB. */
export const xzMemoryMaxBytes = 128 * 1024 * 1024;
/** Compressed bytes per call: all that one call gives is in memory at once, and xz expands up to 7,000-fold. */
const sliceBytes = 2048;

/**
 * The synchronous stream beneath the package's Node stream, which its types leave out. The Node stream ends cleanly
 * before it says that its input was cut short.
 */
interface NativeStream {
  bufferHandler: (bytes: Buffer | null | undefined, chunks: number | undefined, error: Error | null) => void;
  streamDecoder(options: { memlimit: number; flags: number }): void;
  /** `null` ends the input. */
  code(bytes: Buffer | null, asynchronous: boolean): void;
  resetUnderlying(): void;
}
const native = lzma as unknown as { Stream: new () => NativeStream; CONCATENATED: number };

/** Throws `decompression-failed` when the input is corrupt, cut short or followed by anything else. */
export async function* unxz(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const stream = new native.Stream();
  let chunks: Buffer[] = [];
  let end: 'whole' | Error | undefined;
  stream.bufferHandler = (bytes, _chunks, error) => {
    if (bytes) chunks.push(bytes);
    else if (bytes === null) end = error ?? 'whole';
  };
  stream.streamDecoder({ memlimit: xzMemoryMaxBytes, flags: native.CONCATENATED });
  const step = (bytes: Buffer | null): Buffer[] => {
    chunks = [];
    stream.code(bytes, false);
    return chunks;
  };
  try {
    for await (const bytes of source) {
      for (let at = 0; at < bytes.length && end === undefined; at += sliceBytes) {
        yield* step(bytes.subarray(at, at + sliceBytes));
      }
      if (end !== undefined) break;
    }
    if (end === undefined) yield* step(null);
    if (end !== 'whole') {
      const why = end === undefined ? 'it is cut short' : end.message;
      throw new NarswarmError('decompression-failed', `not whole xz: ${why}`, { cause: end });
    }
  } finally {
    stream.resetUnderlying();
  }
}
