/** Compresses NARs for a sample cache. */

import { once } from 'node:events';
import type { Transform } from 'node:stream';
import { constants, createZstdCompress } from 'node:zlib';
import lzma from 'lzma-native';

export const sampleCompressions = ['zstd', 'xz', 'none'] as const;
export type SampleCompression = (typeof sampleCompressions)[number];

/** Node's and zstd's own default: several hundred megabytes a second. */
const zstdLevel = 3;
/** Nix takes 6, which is six times slower; who reads the cache sees no difference. */
const xzPreset = 1;

/** The compressed bytes. Nothing stays open when the caller stops early. */
export async function* compress(
  compression: SampleCompression,
  input: AsyncIterable<Buffer>,
): AsyncGenerator<Buffer> {
  if (compression === 'none') {
    yield* input;
    return;
  }
  const stream = createCompressor(compression);
  const stop = new AbortController();
  const feeding = feed(stream, input, stop.signal);
  // Its error is also the stream's, which the loop throws.
  feeding.catch(() => undefined);
  try {
    yield* stream;
    await feeding;
  } finally {
    // lzma-native's stream does not tell that it was destroyed, so that waiting for it would be for ever.
    stop.abort();
    await feeding.catch(() => undefined);
  }
}

function createCompressor(compression: 'zstd' | 'xz'): Transform {
  if (compression === 'xz') return lzma.createCompressor({ preset: xzPreset });
  return createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: zstdLevel } });
}

async function feed(stream: Transform, input: AsyncIterable<Buffer>, signal: AbortSignal): Promise<void> {
  try {
    for await (const chunk of input) {
      signal.throwIfAborted();
      if (!stream.write(chunk)) await once(stream, 'drain', { signal });
    }
    stream.end();
  } catch (error) {
    stream.destroy(error instanceof Error ? error : new Error(String(error)));
    throw error;
  }
}
