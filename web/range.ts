/** The `Range` header of RFC 9110 section 14, as far as a server of whole files needs it: one range of bytes. */

/** A part of a file, the last byte included in its length. */
export interface ByteRange {
  start: number;
  lengthBytes: number;
}

/** Longest header looked at: `bytes=` and two numbers are 40 characters. Longer ones are for many ranges. */
const rangeHeaderMaxCharacters = 64;

/**
 * The part asked for; `unsatisfiable` when it has no byte of the file; `undefined` when the whole file is to be sent:
 * without a header, with other units, several ranges, or one that is malformed. RFC 9110 lets a server ignore these.
 */
export function parseRange(
  header: string | undefined,
  sizeBytes: number,
): ByteRange | 'unsatisfiable' | undefined {
  if (header === undefined || header.length > rangeHeaderMaxCharacters) return undefined;
  const match = /^bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*$/i.exec(header);
  if (match === null) return undefined;
  const [, first = '', last = ''] = match;
  if (first === '') {
    if (last === '') return undefined;
    const lengthBytes = Math.min(Number(last), sizeBytes);
    return lengthBytes === 0 ? 'unsatisfiable' : { start: sizeBytes - lengthBytes, lengthBytes };
  }
  const start = Number(first);
  const end = last === '' ? sizeBytes - 1 : Number(last);
  if (last !== '' && end < start) return undefined;
  if (start >= sizeBytes) return 'unsatisfiable';
  return { start, lengthBytes: Math.min(end, sizeBytes - 1) - start + 1 };
}
