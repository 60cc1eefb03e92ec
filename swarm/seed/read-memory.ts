/**
 * Memory for what is read from disk and goes out again at once, used over and over: new memory for each read costs the system as much as
 * reading, for its pages are new as well, and the garbage collector more than that.
 */

import { takeMemory } from '../wire/memory.ts';

/** Below half of this, new memory is cheaper than much of it that stays unused. */
const smallestBytes = 64 * 1024;

/** What is kept while nothing needs it, of all sizes together: enough for the few connections that one machine can serve at full speed. */
export const idleMemoryMaxBytes = 8 * 1024 * 1024;

export class ReadMemory {
  /** By size, powers of two. */
  readonly #idle = new Map<number, Buffer[]>();
  #idleBytes = 0;
  #isInUse = false;

  get idleBytes(): number {
    return this.#idleBytes;
  }

  /** At least `lengthBytes`, and less than twice as much; `undefined` for a small read, which is better done into memory of its own. */
  take(lengthBytes: number): Buffer | undefined {
    if (lengthBytes <= smallestBytes / 2) return undefined;
    let size = smallestBytes;
    while (size < lengthBytes) size *= 2;
    this.#isInUse = true;
    const memory = this.#idle.get(size)?.pop();
    if (memory === undefined) return takeMemory(size);
    this.#idleBytes -= size;
    return memory;
  }

  /** Of no use to whoever gives it any more. */
  give(memory: Buffer): void {
    const size = memory.length;
    if (this.#idleBytes + size > idleMemoryMaxBytes) return;
    const idle = this.#idle.get(size);
    if (idle === undefined) this.#idle.set(size, [memory]);
    else idle.push(memory);
    this.#idleBytes += size;
  }

  /** To be called now and then: lets go of what is idle when nothing was taken since the last time. */
  sweep(): void {
    if (!this.#isInUse) {
      this.#idle.clear();
      this.#idleBytes = 0;
    }
    this.#isInUse = false;
  }
}
