/**
 * Memory for pieces, used again and again: to get and to free a mebibyte costs as much as to hash it. What is `shared` can be read
 * by another thread in place.
 *
 * Nobody has to give anything back; what is forgotten is collected as all memory is.
 */

/** Bytes that are kept for later: what one fast fetch has under way. */
const freeMaxBytes = 16 * 1024 * 1024;

export class PieceMemory {
  readonly #free: Buffer[] = [];
  #freeBytes = 0;
  /** What came from here and is out. */
  readonly #out = new WeakSet<ArrayBufferLike>();
  readonly #shared: boolean;

  constructor({ shared }: { shared: boolean }) {
    this.#shared = shared;
  }

  take(lengthBytes: number): Buffer {
    const at = this.#free.findLastIndex(({ length }) => length === lengthBytes);
    const [known] = at < 0 ? [] : this.#free.splice(at, 1);
    if (known !== undefined) this.#freeBytes -= lengthBytes;
    const bytes =
      known ??
      (this.#shared ? Buffer.from(new SharedArrayBuffer(lengthBytes)) : Buffer.allocUnsafeSlow(lengthBytes));
    this.#out.add(bytes.buffer);
    return bytes;
  }

  /** Whoever calls this was the last to hold them. Bytes that are not from here, or not all that was taken, are ignored. */
  giveBack(bytes: Buffer): void {
    if (bytes.length !== bytes.buffer.byteLength || !this.#out.delete(bytes.buffer)) return;
    while (this.#freeBytes + bytes.length > freeMaxBytes) {
      const oldest = this.#free.shift();
      if (oldest === undefined) return;
      this.#freeBytes -= oldest.length;
    }
    this.#free.push(bytes);
    this.#freeBytes += bytes.length;
  }
}
