/**
 * Nix's base-32: the digits of a digest, most significant first, in an alphabet without e, o, u and t.
 * Source: Nix, libutil `printHash32` and `parseHash32`.
 */

import { NarswarmError } from './errors.ts';

const alphabet = '0123456789abcdfghijklmnpqrsvwxyz';
/** The value of each character, by its code; -1 where it is no digit. */
const values = new Int8Array(128).fill(-1);
for (let value = 0; value < alphabet.length; value++) values[alphabet.charCodeAt(value)] = value;

/** Characters that `lengthBytes` bytes take: 32 for 20 bytes, 52 for 32. */
export function nix32Length(lengthBytes: number): number {
  return Math.ceil((lengthBytes * 8) / 5);
}

export function nix32Encode(bytes: Uint8Array): string {
  let text = '';
  for (let position = nix32Length(bytes.length) - 1; position >= 0; position--) {
    const bit = position * 5;
    const index = bit >> 3;
    const shift = bit & 7;
    const low = (bytes[index] ?? 0) >> shift;
    const high = (bytes[index + 1] ?? 0) << (8 - shift);
    text += alphabet[(low | high) & 31];
  }
  return text;
}

/** Throws `hash-invalid`, with the offset of the first character that is not a digit or carries bits beyond the end. */
export function nix32Decode(text: string): Buffer {
  const bytes = Buffer.alloc(Math.floor((text.length * 5) / 8));
  nix32DecodeInto(text, bytes);
  return bytes;
}

/** The same into bytes that are there, as many as the digits make: for what is looked up thousands of times. */
export function nix32DecodeInto(text: string, bytes: Uint8Array): void {
  bytes.fill(0);
  for (let offset = 0; offset < text.length; offset++) {
    const digit = values[text.charCodeAt(offset)] ?? -1;
    if (digit < 0) {
      throw new NarswarmError('hash-invalid', `${JSON.stringify(text.charAt(offset))} is no nix32 digit`, {
        offset,
      });
    }
    const bit = (text.length - 1 - offset) * 5;
    const index = bit >> 3;
    const shift = bit & 7;
    const carry = digit >> (8 - shift);
    if (index < bytes.length) bytes[index] = (bytes[index] ?? 0) | ((digit << shift) & 255);
    if (index + 1 < bytes.length) bytes[index + 1] = (bytes[index + 1] ?? 0) | carry;
    else if (carry !== 0 || index >= bytes.length) {
      throw new NarswarmError('hash-invalid', 'nix32 text carries bits beyond its last byte', { offset });
    }
  }
  if (nix32Length(bytes.length) !== text.length) {
    throw new NarswarmError('hash-invalid', `no digest takes ${text.length} nix32 digits`, {
      offset: text.length,
    });
  }
}
