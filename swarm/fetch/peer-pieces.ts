/** Which pieces a peer says it has. */

import { fullBitfield } from '../wire/wire-encode.ts';

export class PeerPieces {
  readonly #count: number;
  #bits: 'all' | Buffer;

  constructor(count: number) {
    this.#count = count;
    this.#bits = Buffer.alloc(Math.ceil(count / 8));
  }

  has(index: number): boolean {
    return this.#bits === 'all' || ((this.#bits[index >> 3] ?? 0) & bitOf(index)) !== 0;
  }

  /** All at once; the wire has checked their number. */
  set(bits: 'all' | Buffer): void {
    this.#bits = bits === 'all' ? bits : Buffer.from(bits);
  }

  add(index: number): void {
    if (this.#bits !== 'all') this.#bits[index >> 3] = (this.#bits[index >> 3] ?? 0) | bitOf(index);
  }

  delete(index: number): void {
    if (this.#bits === 'all') this.#bits = fullBitfield(this.#count);
    this.#bits[index >> 3] = (this.#bits[index >> 3] ?? 0) & ~bitOf(index);
  }
}

function bitOf(index: number): number {
  return 0x80 >> (index & 7);
}
