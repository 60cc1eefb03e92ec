/**
 * Memory for pieces, used again and again: to get and to free a mebibyte costs as much as to hash it. What is `shared` can be read
 * by another thread in place.
 *
 * Nobody has to give anything back; what is forgotten is collected as all memory is.
 */

import { aroundOf, takeMemory } from '../wire/memory.ts';

/** Bytes behind a piece, into which may be read what follows it on the wire. */
const behindBytes = 64;

/** Bytes that are kept for later: what one fast fetch has under way. */
const freeMaxBytes = 16 * 1024 * 1024;

export class PieceMemory {
  readonly #free: Buffer[] = [];
  #freeBytes = 0;
  /** What came from here and is out, by all of its memory. */
  readonly #out = new WeakMap<ArrayBufferLike, Buffer>();
  readonly #shared: boolean;

  constructor({ shared }: { shared: boolean }) {
    this.#shared = shared;
  }

  take(lengthBytes: number): Buffer {
    const at = this.#free.findLastIndex(({ length }) => length === lengthBytes);
    const [known] = at < 0 ? [] : this.#free.splice(at, 1);
    if (known !== undefined) this.#freeBytes -= lengthBytes;
    const bytes = known ?? takeMemory(lengthBytes, { shared: this.#shared, behindBytes });
    this.#out.set(bytes.buffer, bytes);
    return bytes;
  }

  /** Whoever calls this was the last to hold them. Bytes that are not from here, or not all that was taken, are ignored. */
  giveBack(bytes: Buffer): void {
    const taken = this.#out.get(bytes.buffer);
    if (taken?.byteOffset !== bytes.byteOffset || taken.length !== bytes.length) return;
    this.#out.delete(bytes.buffer);
    while (this.#freeBytes + bytes.length > freeMaxBytes) {
      const oldest = this.#free.shift();
      if (oldest === undefined) return;
      this.#freeBytes -= oldest.length;
    }
    this.#free.push(bytes);
    this.#freeBytes += bytes.length;
  }
}

/** Memory that was taken, from `from` to `to`, which may lie `behindBytes` behind its end. */
export function placeIn(bytes: Buffer, from: number, to: number): Buffer {
  if (to > bytes.length + behindBytes) throw new Error('a place outside of its memory');
  return aroundOf(bytes, from, to);
}
