/** Compresses NARs for a sample cache. */

import { PassThrough, type Transform } from 'node:stream';
import { constants, createZstdCompress } from 'node:zlib';
import lzma from 'lzma-native';

export const sampleCompressions = ['zstd', 'xz', 'none'] as const;
export type SampleCompression = (typeof sampleCompressions)[number];

/** Node's and zstd's own default: several hundred megabytes a second. */
const zstdLevel = 3;
/** What Nix takes, and what cache.nixos.org was filled with for years. */
const xzPreset = 6;

export function createCompressor(compression: SampleCompression): Transform {
  if (compression === 'none') return new PassThrough();
  if (compression === 'xz') return lzma.createCompressor({ preset: xzPreset });
  return createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: zstdLevel } });
}
