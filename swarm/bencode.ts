/**
 * Bencode (BEP 3), in its one canonical form and nothing else.
 *
 * Byte strings are parsed to Buffers that share the input's memory. Dictionaries are Maps, so that a key such as
 * `__proto__` is only a key; each key is a string with one character per byte (latin1), whose order is the byte order
 * that BEP 3 asks for.
 */

import { NarswarmError } from '../nar/errors.ts';

export type BencodeValue = number | Buffer | BencodeValue[] | BencodeDictionary;
export type BencodeDictionary = Map<string, BencodeValue>;

/** What can be encoded: strings are written as UTF-8, records like Maps; keys have one character per byte. */
export type BencodeInput =
  | number
  | string
  | Uint8Array
  | readonly BencodeInput[]
  | ReadonlyMap<string, BencodeInput>
  | { readonly [key: string]: BencodeInput };

/** Nothing in BitTorrent that narswarm reads nests deeper than 5 (a DHT answer); recursion must end somewhere. */
export const bencodeDepthMax = 16;

/**
 * Values in one message. An empty list takes 2 bytes of input and some 60 of memory, so the size of the input alone
 * does not bound the memory. A tracker's answer with 200 peers in dictionaries has 1,400.
 */
export const bencodeValuesMax = 16_384;

/** Nobody sends a key longer than a 20-byte infohash (scrape answers); 255 leaves room and bounds a comparison. */
export const bencodeKeyMaxBytes = 255;

export interface BencodeLimits {
  depthMax?: number;
  valuesMax?: number;
  /** Take keys in any order, as some trackers and peers send them. A key twice is refused all the same. */
  anyKeyOrder?: boolean;
}

/**
 * The canonical bytes of `value`. Throws bencode-invalid for what has none: a fraction, a key with a character above
 * 255.
 */
export function bencode(value: BencodeInput): Buffer {
  const parts: Uint8Array[] = [];
  encode(value, parts);
  return Buffer.concat(parts);
}

/** The value of which `bytes` are the canonical encoding, whole. Throws bencode-invalid with the offset. */
export function parseBencode(bytes: Uint8Array, limits: BencodeLimits = {}): BencodeValue {
  const { value, lengthBytes } = parseBencodePrefix(bytes, limits);
  if (lengthBytes !== bytes.length) throw invalid('bytes after the value', lengthBytes);
  return value;
}

/** The value at the start of `bytes` and how long it is: ut_metadata (BEP 9) puts a piece right behind one. */
export function parseBencodePrefix(
  bytes: Uint8Array,
  limits: BencodeLimits = {},
): { value: BencodeValue; lengthBytes: number } {
  const parser = new Parser(bytes, limits);
  const value = parser.value(0);
  return { value, lengthBytes: parser.position };
}

const end = Buffer.from('e');
const listStart = Buffer.from('l');
const dictionaryStart = Buffer.from('d');

function encode(value: BencodeInput, parts: Uint8Array[]): void {
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value))
      throw new NarswarmError('bencode-invalid', `${value} is no safe integer`);
    // `+ 0` turns -0, which has no encoding, into 0.
    parts.push(Buffer.from(`i${value + 0}e`, 'latin1'));
  } else if (typeof value === 'string') {
    encodeBytes(Buffer.from(value, 'utf8'), parts);
  } else if (value instanceof Uint8Array) {
    encodeBytes(value, parts);
  } else if (isList(value)) {
    parts.push(listStart);
    for (const item of value) encode(item, parts);
    parts.push(end);
  } else {
    const entries: Iterable<[string, BencodeInput]> = value instanceof Map ? value : Object.entries(value);
    parts.push(dictionaryStart);
    for (const [key, item] of [...entries].sort(byKey)) {
      if (!isLatin1(key)) throw new NarswarmError('bencode-invalid', 'a key has a character above 255');
      encodeBytes(Buffer.from(key, 'latin1'), parts);
      encode(item, parts);
    }
    parts.push(end);
  }
}

function encodeBytes(bytes: Uint8Array, parts: Uint8Array[]): void {
  parts.push(Buffer.from(`${bytes.length}:`, 'latin1'), bytes);
}

/** `Array.isArray` does not narrow readonly arrays. */
function isList(value: BencodeInput): value is readonly BencodeInput[] {
  return Array.isArray(value);
}

function isLatin1(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 255) return false;
  return true;
}

function byKey([a]: [string, unknown], [b]: [string, unknown]): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

const colon = 0x3a;
const minus = 0x2d;
const digit0 = 0x30;
const digit9 = 0x39;
const letterD = 0x64;
const letterE = 0x65;
const letterI = 0x69;
const letterL = 0x6c;

/** Digits of 2^53; a longer number is refused before it is read. */
const digitsMax = 16;

class Parser {
  position = 0;
  readonly #bytes: Buffer;
  readonly #depthMax: number;
  readonly #anyKeyOrder: boolean;
  #valuesLeft: number;

  constructor(bytes: Uint8Array, limits: BencodeLimits) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#depthMax = limits.depthMax ?? bencodeDepthMax;
    this.#valuesLeft = limits.valuesMax ?? bencodeValuesMax;
    this.#anyKeyOrder = limits.anyKeyOrder ?? false;
  }

  value(depth: number): BencodeValue {
    if (depth > this.#depthMax) throw invalid('nested too deeply', this.position);
    if (this.#valuesLeft-- <= 0) throw invalid('too many values', this.position);
    const byte = this.#peek();
    if (byte === letterI) {
      this.position++;
      return this.#integer(letterE, true);
    }
    if (byte === letterL) return this.#list(depth);
    if (byte === letterD) return this.#dictionary(depth);
    return this.#byteString();
  }

  #list(depth: number): BencodeValue[] {
    this.position++;
    const list: BencodeValue[] = [];
    while (this.#peek() !== letterE) list.push(this.value(depth + 1));
    this.position++;
    return list;
  }

  #dictionary(depth: number): BencodeDictionary {
    this.position++;
    const dictionary: BencodeDictionary = new Map();
    let previous: string | undefined;
    while (this.#peek() !== letterE) {
      const at = this.position;
      const bytes = this.#byteString();
      if (bytes.length > bencodeKeyMaxBytes) throw invalid('a key is too long', at);
      const key = bytes.toString('latin1');
      if (dictionary.has(key)) throw invalid('a key comes twice', at);
      if (!this.#anyKeyOrder && previous !== undefined && key < previous) {
        throw invalid('keys are not sorted', at);
      }
      previous = key;
      dictionary.set(key, this.value(depth + 1));
    }
    this.position++;
    return dictionary;
  }

  #byteString(): Buffer {
    const at = this.position;
    const length = this.#integer(colon, false);
    const start = this.position;
    if (length > this.#bytes.length - start) throw invalid('a byte string ends after the input', at);
    this.position = start + length;
    return this.#bytes.subarray(start, this.position);
  }

  /** Digits up to `terminator`: no leading zero, no `-0`, no sign other than a minus where `signed`. */
  #integer(terminator: number, signed: boolean): number {
    const at = this.position;
    const negative = signed && this.#peek() === minus;
    if (negative) this.position++;
    const first = this.position;
    let value = 0;
    for (;;) {
      const byte = this.#peek();
      if (byte === terminator) break;
      if (byte < digit0 || byte > digit9) throw invalid('expected a digit', this.position);
      if (this.position - first >= digitsMax) throw invalid('a number has too many digits', at);
      value = value * 10 + (byte - digit0);
      this.position++;
    }
    const digits = this.position - first;
    if (digits === 0) throw invalid('expected a digit', this.position);
    if (digits > 1 && this.#bytes[first] === digit0) throw invalid('a number has a leading zero', at);
    if (negative && value === 0) throw invalid('minus zero', at);
    if (!Number.isSafeInteger(value)) throw invalid('a number is too large', at);
    this.position++;
    return negative ? -value : value;
  }

  #peek(): number {
    const byte = this.#bytes[this.position];
    if (byte === undefined) throw invalid('the input ends too early', this.position);
    return byte;
  }
}

function invalid(what: string, offset: number): NarswarmError {
  return new NarswarmError('bencode-invalid', `not canonical bencode: ${what} at byte ${offset}`, { offset });
}
