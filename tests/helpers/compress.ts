/** Compressors for tests, synchronous. */

import { execFileSync } from 'node:child_process';
import lzma from 'lzma-native';

/** What the types of lzma-native leave out: its synchronous stream. */
interface NativeStream {
  bufferHandler: (bytes: Buffer | null | undefined, chunks: number | undefined, error: Error | null) => void;
  easyEncoder(options: { preset: number; check: number }): void;
  code(bytes: Buffer | null, asynchronous: boolean): void;
}
const native = lzma as unknown as { Stream: new () => NativeStream; CHECK_CRC64: number };

export function xzSync(bytes: Buffer): Buffer {
  const stream = new native.Stream();
  const chunks: Buffer[] = [];
  stream.bufferHandler = (chunk, _chunks, error) => {
    if (error) throw error;
    if (chunk) chunks.push(chunk);
  };
  stream.easyEncoder({ preset: 1, check: native.CHECK_CRC64 });
  if (bytes.length > 0) stream.code(bytes, false);
  stream.code(null, false);
  return Buffer.concat(chunks);
}

/** By the program `bzip2`; throws where there is none. */
export function bzip2Sync(bytes: Buffer): Buffer {
  return execFileSync('bzip2', ['-c'], {
    input: bytes,
    maxBuffer: 1 << 30,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
}
