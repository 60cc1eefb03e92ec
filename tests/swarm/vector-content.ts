/** The contents that the golden vectors of docs/format.md are made of. */

import { createHash } from 'node:crypto';

/** 32-bit words, little-endian: word k is k × 2654435761 mod 2³². Cut to `length`. */
export function wordsContent(length: number): Buffer {
  const bytes = Buffer.alloc(Math.ceil(length / 4) * 4);
  for (let k = 0; k * 4 < length; k++) bytes.writeUInt32LE(Math.imul(k, 2654435761) >>> 0, k * 4);
  return bytes.subarray(0, length);
}

/** A piece table without bytes behind it: the digest of piece k is the SHA-1 of k in decimal. */
export function indexPieces(count: number): Buffer {
  const pieces = Buffer.alloc(count * 20);
  for (let k = 0; k < count; k++)
    createHash('sha1')
      .update(`${k}`)
      .digest()
      .copy(pieces, k * 20);
  return pieces;
}
