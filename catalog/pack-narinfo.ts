/**
 * A narinfo as a pack holds it: verbatim, but with the name that its NAR file has in the pack. URLs of caches are opaque (a query, another
 * host, names that lie about the bytes) and no signature covers them.
 */

import { type Compression, narFileName } from '../nar/compression.ts';
import { NarswarmError } from '../nar/errors.ts';
import { printSha256, type Sha256 } from '../nar/hash.ts';
import { parseNarInfo } from '../nar/narinfo.ts';

/** The mean is 2 KB; one of this size refers to thousands of paths. */
export const packNarInfoMaxBytes = 1024 * 1024;

/**
 * The value of every line `URL`, `FileHash` and `FileSize` becomes that of the NAR file; FileHash and FileSize come at the end where there
 * is no such line. All else stays byte for byte. Throws narinfo-corrupt for what is no narinfo or becomes longer than `packNarInfoMaxBytes`.
 */
export function packNarInfo(
  text: string,
  narFile: { fileHash: Sha256; fileSize: number; compression: Compression },
): string {
  parseNarInfo(text);
  const { fileHash, fileSize, compression } = narFile;
  const values = new Map([
    ['URL', `nar/${narFileName(fileHash, compression)}`],
    ['FileHash', printSha256(fileHash)],
    ['FileSize', String(fileSize)],
  ]);
  const missing = new Set(values.keys());
  const lines = text.split('\n').map((line) => {
    const name = line.slice(0, Math.max(line.indexOf(':'), 0));
    const value = values.get(name);
    if (value === undefined) return line;
    missing.delete(name);
    return `${name}: ${value}`;
  });
  // The last one is what follows the last newline: nothing.
  lines.splice(-1, 0, ...[...missing].map((name) => `${name}: ${values.get(name)}`));
  const packed = lines.join('\n');
  if (Buffer.byteLength(packed) > packNarInfoMaxBytes)
    throw new NarswarmError('narinfo-corrupt', `narinfo: too long for a pack`, {
      offset: packNarInfoMaxBytes,
    });
  return packed;
}
