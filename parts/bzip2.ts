/**
 * Decompresses bzip2: the compression of NAR files that Nix assumes where a narinfo names none, and that old caches use.
 *
 * Own code, because a block of 50 bytes may hold 46 MB: the packages for it gather a whole block, one of them as an array of
 * numbers, or the whole file. This one gives chunks of 64 KiB and holds 8 MiB. Format: Julian Seward's bzip2 1.0; the
 * randomised blocks of versions before 0.9.5 are not read.
 */

import { NarswarmError } from '../nar/errors.ts';

/** Bytes of the chunks that come out. */
const chunkBytes = 64 * 1024;
/** A block is read only when it is all there. 900,000 symbols of at most 20 bits, and its tables, are under 2.4 MB. */
const blockMaxBytes = 3 << 20;
/** What is held of the input: a block, and as much again so that it is not moved to the front for each. */
const windowBytes = 2 * blockMaxBytes;
const blockUnitBytes = 100_000;
const codeMaxBits = 20;
/** Codes of up to this length are decoded by one look into a table; longer ones are rare. */
const fastBits = 10;
const groupSymbols = 50;
const symbolsMax = 258;
const selectorsMax = 18_002;

const blockMagic = [0x314159, 0x265359] as const;
const endMagic = [0x177245, 0x385090] as const;

/** The streams in `input`, one after the other. A chunk of `input` is no longer needed when the next one is asked for. */
export async function* decompressBzip2(input: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  const source = input[Symbol.asyncIterator]();
  const bits = new BitWindow();
  let block: BlockDecoder | undefined;
  let streamCrc = 0;
  for (;;) {
    while (!bits.ended && bits.bytesLeft < blockMaxBytes) {
      const next = await source.next();
      if (next.done) bits.ended = true;
      else bits.push(next.value);
    }
    if (block === undefined) {
      // Streams begin on a byte; whatever follows the last one must be another.
      block = new BlockDecoder(readLevel(bits) * blockUnitBytes);
      streamCrc = 0;
    }
    const magic = [bits.read(24), bits.read(24)];
    if (magic[0] === blockMagic[0] && magic[1] === blockMagic[1]) {
      const crc = yield* block.decode(bits);
      streamCrc = ((streamCrc << 1) | (streamCrc >>> 31)) ^ crc;
    } else if (magic[0] === endMagic[0] && magic[1] === endMagic[1]) {
      if (bits.read32() !== streamCrc >>> 0) throw failed('the checksum of a stream is wrong');
      bits.align();
      block = undefined;
      if (bits.ended && bits.bytesLeft === 0) return;
      if (!bits.ended && bits.bytesLeft === 0) {
        const next = await source.next();
        if (next.done) return;
        bits.push(next.value);
      }
    } else throw failed('neither a block nor the end of the stream');
  }
}

function readLevel(bits: BitWindow): number {
  if (bits.read(24) !== 0x425a68) throw failed('not a bzip2 stream');
  const level = bits.read(8) - 0x30;
  if (level < 1 || level > 9) throw failed('a block size that does not exist');
  return level;
}

/** A window on the compressed bytes, read bit by bit from the highest. */
class BitWindow {
  ended = false;
  /** A few bytes more than are ever filled, so that looking ahead needs no test. */
  readonly #bytes = new Uint8Array(windowBytes + blockMaxBytes + 8);
  #filled = 0;
  #bit = 0;

  get bytesLeft(): number {
    return this.#filled - (this.#bit >>> 3);
  }

  /** Takes as much as fits: the caller asks for more only while less than a block is left. */
  push(chunk: Uint8Array): void {
    if (this.#filled + chunk.length > windowBytes + blockMaxBytes) {
      const start = this.#bit >>> 3;
      this.#bytes.copyWithin(0, start, this.#filled);
      this.#filled -= start;
      this.#bit &= 7;
    }
    if (this.#filled + chunk.length > windowBytes + blockMaxBytes) {
      throw new RangeError('a chunk larger than the window');
    }
    this.#bytes.set(chunk, this.#filled);
    this.#filled += chunk.length;
  }

  /** Up to 24 bits. */
  read(count: number): number {
    const value = this.peek(count);
    this.skip(count);
    return value;
  }

  read32(): number {
    return this.read(16) * 0x10000 + this.read(16);
  }

  /** The next bits without going on; bits after the end are arbitrary, and `skip` finds out. */
  peek(count: number): number {
    const at = this.#bit >>> 3;
    const bytes = this.#bytes;
    const word =
      ((bytes[at] ?? 0) << 24) |
      ((bytes[at + 1] ?? 0) << 16) |
      ((bytes[at + 2] ?? 0) << 8) |
      (bytes[at + 3] ?? 0);
    return (word << (this.#bit & 7)) >>> (32 - count);
  }

  skip(count: number): void {
    this.#bit += count;
    if (this.#bit > this.#filled * 8) throw failed('it is cut short');
  }

  align(): void {
    this.#bit = (this.#bit + 7) & ~7;
  }
}

/** One Huffman code. */
interface Code {
  /** By the next `fastBits` bits: symbol × 32 + length, or 0 for a longer code. */
  readonly fast: Uint16Array;
  /** By length: the first code of the next length, in `codeMaxBits` bits. */
  readonly limit: Int32Array;
  /** By length: what to subtract from a code to get its place in `symbols`. */
  readonly base: Int32Array;
  readonly symbols: Uint16Array;
}

class BlockDecoder {
  readonly #size: number;
  /** The block before the Burrows-Wheeler transform is undone: bytes below, links above. */
  readonly #links: Uint32Array;
  readonly #selectors = new Uint8Array(selectorsMax);
  readonly #recent = new Uint8Array(256);
  readonly #counts = new Int32Array(256);

  constructor(size: number) {
    this.#size = size;
    this.#links = new Uint32Array(size);
  }

  /** Decodes the block behind its magic; returns its checksum. */
  *decode(bits: BitWindow): Generator<Buffer, number> {
    const crc = bits.read32();
    if (bits.read(1) !== 0) throw failed('a randomised block of an old version');
    const start = bits.read(24);
    const alphabet = readAlphabet(bits);
    const codes = this.#readCodes(bits, alphabet.length + 2);
    const length = this.#readSymbols(bits, alphabet, codes);
    if (start >= length) throw failed('a block that starts outside itself');
    this.#link(length);
    yield* this.#unwind(start, length, crc);
    return crc;
  }

  #readCodes(bits: BitWindow, symbolCount: number): Code[] {
    const groups = bits.read(3);
    if (groups < 2 || groups > 6) throw failed('an impossible number of codes');
    const selectors = bits.read(15);
    if (selectors === 0) throw failed('a block without codes');
    const order = [0, 1, 2, 3, 4, 5].slice(0, groups);
    for (let i = 0; i < selectors; i++) {
      let place = 0;
      while (bits.read(1) === 1) {
        if (++place >= groups) throw failed('a code that is not there');
      }
      const [group = 0] = order.splice(place, 1);
      order.unshift(group);
      // Some programs write more selectors than a block can use; bzip2 ignores them as well.
      if (i < selectorsMax) this.#selectors[i] = group;
    }
    this.#selectors.fill(255, Math.min(selectors, selectorsMax));
    return Array.from({ length: groups }, () => readCode(bits, symbolCount));
  }

  /** Huffman codes, run lengths and move-to-front: fills the block and counts its bytes. Returns its length. */
  #readSymbols(bits: BitWindow, alphabet: Uint8Array, codes: Code[]): number {
    const links = this.#links;
    const recent = this.#recent;
    const counts = this.#counts.fill(0);
    recent.set(alphabet);
    const endSymbol = alphabet.length + 1;
    let length = 0;
    let run = 0;
    let runBit = 1;
    for (let group = 0; ; group++) {
      const code = codes[this.#selectors[group] ?? 255];
      if (code === undefined) throw failed('more symbols than codes');
      for (let i = 0; i < groupSymbols; i++) {
        const symbol = readSymbol(bits, code);
        if (symbol <= 1) {
          // Digits 1 and 2 of a number in base 2, the lowest first.
          run += runBit << symbol;
          runBit <<= 1;
          if (run > this.#size) throw failed('a run that is longer than its block');
          continue;
        }
        if (run > 0) {
          if (run > this.#size - length) throw failed('more bytes than the block has');
          const byte = recent[0] ?? 0;
          links.fill(byte, length, length + run);
          counts[byte] = (counts[byte] ?? 0) + run;
          length += run;
          run = 0;
          runBit = 1;
        }
        if (symbol === endSymbol) return length;
        if (length >= this.#size) throw failed('more bytes than the block has');
        const place = symbol - 1;
        const byte = recent[place] ?? 0;
        recent.copyWithin(1, 0, place);
        recent[0] = byte;
        counts[byte] = (counts[byte] ?? 0) + 1;
        links[length++] = byte;
      }
    }
  }

  /** Puts above each byte where the byte after it is found. */
  #link(length: number): void {
    const links = this.#links;
    const counts = this.#counts;
    let sum = 0;
    for (let byte = 0; byte < 256; byte++) {
      const count = counts[byte] ?? 0;
      counts[byte] = sum;
      sum += count;
    }
    for (let i = 0; i < length; i++) {
      const byte = (links[i] ?? 0) & 0xff;
      const place = counts[byte] ?? 0;
      counts[byte] = place + 1;
      links[place] = ((links[place] ?? 0) | (i << 8)) >>> 0;
    }
  }

  /** Follows the links, and writes four equal bytes and a count as that many more. Checks the checksum at the end. */
  *#unwind(start: number, length: number, expectedCrc: number): Generator<Buffer> {
    const links = this.#links;
    let link = links[start] ?? 0;
    let crc = -1;
    let equal = 0;
    let previous = -1;
    let chunk = Buffer.allocUnsafeSlow(chunkBytes);
    let filled = 0;
    for (let i = 0; i < length; i++) {
      link = links[link >>> 8] ?? 0;
      const byte = link & 0xff;
      let copies = 1;
      let out = byte;
      if (equal === 4) {
        copies = byte;
        out = previous;
        equal = 0;
        previous = -1;
      } else {
        equal = byte === previous ? equal + 1 : 1;
        previous = byte;
      }
      for (; copies > 0; copies--) {
        crc = (crc << 8) ^ (crcTable[(crc >>> 24) ^ out] ?? 0);
        chunk[filled++] = out;
        if (filled === chunkBytes) {
          yield chunk;
          chunk = Buffer.allocUnsafeSlow(chunkBytes);
          filled = 0;
        }
      }
    }
    if (~crc >>> 0 !== expectedCrc) throw failed('the checksum of a block is wrong');
    if (filled > 0) yield chunk.subarray(0, filled);
  }
}

/** The bytes that occur in the block. */
function readAlphabet(bits: BitWindow): Uint8Array {
  const bytes: number[] = [];
  const rows = bits.read(16);
  for (let row = 0; row < 16; row++) {
    if ((rows & (0x8000 >> row)) === 0) continue;
    const columns = bits.read(16);
    for (let column = 0; column < 16; column++) {
      if ((columns & (0x8000 >> column)) !== 0) bytes.push(row * 16 + column);
    }
  }
  if (bytes.length === 0) throw failed('a block without bytes');
  return Uint8Array.from(bytes);
}

function readCode(bits: BitWindow, symbolCount: number): Code {
  const lengths = new Uint8Array(symbolsMax);
  let length = bits.read(5);
  for (let symbol = 0; symbol < symbolCount; symbol++) {
    // No sane length is more than 20 steps from the one before; without a bound the steps could go on for ever.
    for (let steps = 0; ; steps++) {
      if (length < 1 || length > codeMaxBits || steps > codeMaxBits) throw failed('an impossible code');
      if (bits.read(1) === 0) break;
      length += bits.read(1) === 0 ? 1 : -1;
    }
    lengths[symbol] = length;
  }
  return makeCode(lengths.subarray(0, symbolCount));
}

function makeCode(lengths: Uint8Array): Code {
  const perLength = new Int32Array(codeMaxBits + 2);
  for (const length of lengths) perLength[length] = (perLength[length] ?? 0) + 1;
  const limit = new Int32Array(codeMaxBits + 2);
  const base = new Int32Array(codeMaxBits + 2);
  const symbols = new Uint16Array(lengths.length);
  const fast = new Uint16Array(1 << fastBits);
  let code = 0;
  let place = 0;
  for (let length = 1; length <= codeMaxBits; length++) {
    base[length] = code - place;
    for (let symbol = 0; symbol < lengths.length; symbol++) {
      if (lengths[symbol] !== length) continue;
      if (length <= fastBits) {
        const from = code << (fastBits - length);
        fast.fill(symbol * 32 + length, from, from + (1 << (fastBits - length)));
      }
      symbols[place++] = symbol;
      code++;
    }
    if (code > 1 << length) throw failed('a code with more words than there are');
    limit[length] = code << (codeMaxBits - length);
    code <<= 1;
  }
  return { fast, limit, base, symbols };
}

function readSymbol(bits: BitWindow, code: Code): number {
  const next = bits.peek(codeMaxBits);
  const found = code.fast[next >>> (codeMaxBits - fastBits)] ?? 0;
  if (found !== 0) {
    bits.skip(found & 31);
    return found >>> 5;
  }
  for (let length = fastBits + 1; length <= codeMaxBits; length++) {
    if (next >= (code.limit[length] ?? 0)) continue;
    bits.skip(length);
    const symbol = code.symbols[(next >>> (codeMaxBits - length)) - (code.base[length] ?? 0)];
    if (symbol === undefined) break;
    return symbol;
  }
  throw failed('bits that are no code');
}

/** CRC-32 with the highest bit first. */
const crcTable = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24;
  for (let bit = 0; bit < 8; bit++) crc = crc < 0 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  return crc;
});

function failed(why: string): NarswarmError {
  return new NarswarmError('decompression-failed', `bzip2: ${why}`);
}
