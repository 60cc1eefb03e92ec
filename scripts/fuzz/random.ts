/** Chance that can be repeated: the same seed and case give the same numbers on every machine (sfc32, 128 bits of state). */

export class Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number, stream: number, number: number) {
    this.#a = seed | 0;
    this.#b = stream | 0;
    this.#c = number | 0;
    for (let i = 0; i < 12; i++) this.uint32();
  }

  uint32(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number {
    return Math.floor((this.uint32() / 2 ** 32) * limit);
  }

  /** True once in `n` times. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }

  pick<const L extends readonly [unknown, ...unknown[]]>(list: L): L[number] {
    return list[this.below(list.length)];
  }

  bytes(count: number): Buffer {
    const bytes = Buffer.allocUnsafe(count);
    for (let i = 0; i < count; i++) bytes[i] = this.uint32() & 0xff;
    return bytes;
  }

  /** Characters from `alphabet`. */
  text(count: number, alphabet: string): string {
    let text = '';
    for (let i = 0; i < count; i++) text += alphabet[this.below(alphabet.length)] ?? '';
    return text;
  }

  /** Safe integers, not negative: small ones often, and those at which programs go wrong, powers of two and their neighbours. */
  number(): number {
    if (this.oneIn(2)) return this.below(20);
    if (this.oneIn(2)) return Math.min(2 ** this.below(54) + this.below(3) - 1, Number.MAX_SAFE_INTEGER);
    return this.uint32();
  }

  /** Where to cut `length` bytes into chunks: now and then into single bytes. */
  *chunks(bytes: Buffer): Generator<Buffer> {
    const most = this.oneIn(4) ? 1 : 1 + this.below(Math.max(1, bytes.length));
    for (let at = 0; at < bytes.length; ) {
      const end = at + 1 + this.below(most);
      yield bytes.subarray(at, end);
      at = end;
    }
  }
}
