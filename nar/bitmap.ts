/** A set of small whole numbers as bits, bit k for the number k: the lowest bit of the first byte is 0. Pure. */

export class Bitmap {
  readonly bytes: Uint8Array;
  /** Numbers that can be in it are below this. */
  readonly length: number;
  #size = 0;

  /** `bytes`: taken as they are; bits from `length` on must be 0. */
  constructor(length: number, bytes: Uint8Array = new Uint8Array(Math.ceil(length / 8))) {
    if (bytes.length !== Math.ceil(length / 8))
      throw new RangeError('a bitmap of another length than its bytes');
    this.length = length;
    this.bytes = bytes;
    for (const byte of bytes) this.#size += bitsOf(byte);
  }

  /** How many are in it. */
  get size(): number {
    return this.#size;
  }

  has(number: number): boolean {
    return ((this.bytes[number >>> 3] ?? 0) & (1 << (number & 7))) !== 0;
  }

  add(number: number): void {
    if (number < 0 || number >= this.length) throw new RangeError(`${number} in a bitmap of ${this.length}`);
    if (this.has(number)) return;
    this.#size++;
    this.bytes[number >>> 3] = (this.bytes[number >>> 3] ?? 0) | (1 << (number & 7));
  }

  delete(number: number): void {
    if (!this.has(number)) return;
    this.#size--;
    this.bytes[number >>> 3] = (this.bytes[number >>> 3] ?? 0) & ~(1 << (number & 7));
  }

  /** Ascending. */
  *[Symbol.iterator](): Generator<number> {
    for (let at = 0; at < this.bytes.length; at++) {
      const byte = this.bytes[at] ?? 0;
      if (byte === 0) continue;
      for (let bit = 0; bit < 8; bit++) if ((byte & (1 << bit)) !== 0) yield at * 8 + bit;
    }
  }
}

function bitsOf(byte: number): number {
  let bits = byte - ((byte >>> 1) & 0x55);
  bits = (bits & 0x33) + ((bits >>> 2) & 0x33);
  return (bits + (bits >>> 4)) & 0x0f;
}
