/** Which compression a NAR file has: by its name, checked against its first bytes. */

import { open } from 'node:fs/promises';
import { type Compression, compressions, narFileExtension } from '../nar/compression.ts';
import { NarswarmError } from '../nar/errors.ts';
import { narMagic } from '../nar/nar-writer.ts';

/** First bytes that tell. Brotli has none. */
const magics: readonly (readonly [Compression, Buffer])[] = [
  ['none', narMagic],
  ['xz', Buffer.from('fd377a585a00', 'hex')],
  ['zstd', Buffer.from('28b52ffd', 'hex')],
  ['bzip2', Buffer.from('BZh')],
  ['gzip', Buffer.from('1f8b', 'hex')],
];

/** Throws nar-corrupt when name and bytes contradict each other, or neither tells. */
export async function compressionOfFile(file: string): Promise<Compression> {
  const named = compressionOfName(file);
  const found = compressionOfBytes(await firstBytes(file));
  if (named !== undefined && found !== undefined && named !== found) {
    throw new NarswarmError('nar-corrupt', `${file} is named as ${named}, but its bytes are ${found}`, {
      offset: 0,
    });
  }
  const compression = found ?? (named === 'br' ? named : undefined);
  if (compression === undefined) {
    const what = named === undefined ? 'a NAR, compressed or not' : `a NAR with compression ${named}`;
    throw new NarswarmError('nar-corrupt', `${file} does not begin like ${what}`, { offset: 0 });
  }
  return compression;
}

/** By the extension, as in `x.nar.xz`; `undefined` for names that do not tell. */
export function compressionOfName(name: string): Compression | undefined {
  for (const compression of compressions) {
    if (name.endsWith(`.nar${narFileExtension(compression)}`)) return compression;
  }
  return undefined;
}

export function compressionOfBytes(bytes: Buffer): Compression | undefined {
  return magics.find(([, magic]) => bytes.subarray(0, magic.length).equals(magic))?.[0];
}

async function firstBytes(file: string): Promise<Buffer> {
  await using handle = await open(file, 'r');
  const { bytesRead, buffer } = await handle.read(Buffer.alloc(narMagic.length), 0, narMagic.length, 0);
  return buffer.subarray(0, bytesRead);
}
