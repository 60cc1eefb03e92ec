/**
 * A range of a pack on its way here: cut into blocks, filled in any order, read from its start. Whoever reads it compares its bytes with
 * what they should be: here nothing is known about them.
 */

import { packPieceLength } from '../torrent/pack-torrent.ts';
import { blockBytes } from '../wire/limits.ts';
import type { BlockRequest } from '../wire/wire-encode.ts';

const unasked = 0;
const asked = 1;
const here = 2;

export class PackRange {
  /** In the pack. */
  readonly from: number;
  readonly lengthBytes: number;
  /** Who gave some of it, `host:port`. */
  readonly givers = new Set<string>();
  /** Who will not give it. */
  readonly refusedBy = new Set<string>();
  readonly #bytes: Buffer;
  /** In the pack, of the first byte of each block, and of the first after the last. */
  readonly #starts: number[];
  readonly #state: Uint8Array;
  /** All blocks before it are asked for or here. */
  #cursor = 0;
  /** All blocks before it are here. */
  #whole = 0;
  #wake: (() => void) | undefined;
  #error: unknown;

  constructor(from: number, lengthBytes: number) {
    this.from = from;
    this.lengthBytes = lengthBytes;
    this.#bytes = Buffer.allocUnsafeSlow(lengthBytes);
    this.#starts = cut(from, from + lengthBytes);
    this.#state = new Uint8Array(this.#starts.length - 1);
  }

  /** Bytes from its start that are here. */
  get readyBytes(): number {
    return (this.#starts[this.#whole] ?? this.from) - this.from;
  }

  get complete(): boolean {
    return this.#whole === this.#state.length;
  }

  get error(): unknown {
    return this.#error;
  }

  /** Whether there are blocks that nobody was asked for. */
  get wants(): boolean {
    return this.#error === undefined && this.#cursor < this.#state.length;
  }

  /** Bytes that are not here yet. */
  get missingBytes(): number {
    return this.lengthBytes - this.readyBytes;
  }

  /** At most so many blocks that nobody was asked for, the first ones. From now on they count as asked for. */
  take(count: number): BlockRequest[] {
    const blocks: BlockRequest[] = [];
    for (; blocks.length < count && this.#cursor < this.#state.length; this.#cursor++) {
      if (this.#state[this.#cursor] !== unasked) continue;
      this.#state[this.#cursor] = asked;
      blocks.push(this.#block(this.#cursor));
    }
    return blocks;
  }

  /** It was asked for and will not come: somebody else is to be asked. */
  giveBack(block: BlockRequest): void {
    const index = this.#indexOf(block);
    if (this.#state[index] !== asked) return;
    this.#state[index] = unasked;
    this.#cursor = Math.min(this.#cursor, index);
  }

  /** A part of a block, `offset` bytes after its start. Copies it. */
  write(block: BlockRequest, bytes: Buffer, offset: number): void {
    bytes.copy(this.#bytes, positionOf(block) - this.from + offset);
  }

  /** All of the block is here. */
  filled(block: BlockRequest, giver: string): void {
    this.#state[this.#indexOf(block)] = here;
    this.givers.add(giver);
    const before = this.#whole;
    while (this.#state[this.#whole] === here) this.#whole++;
    if (this.#whole > before) this.#wake?.();
  }

  /** Whoever reads it gets this error, once what is here was read. */
  fail(error: unknown): void {
    this.#error ??= error;
    this.#wake?.();
  }

  /** Its bytes from the start, in parts of a multiple of `stepBytes`, the last one shorter. To be called once. */
  async *read(stepBytes: number): AsyncGenerator<Buffer> {
    for (let given = 0; given < this.lengthBytes; ) {
      const ready = this.complete ? this.lengthBytes : Math.floor(this.readyBytes / stepBytes) * stepBytes;
      if (ready > given) {
        yield this.#bytes.subarray(given, ready);
        given = ready;
        continue;
      }
      if (this.#error !== undefined) throw this.#error;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }

  #block(index: number): BlockRequest {
    const start = this.#starts[index] ?? 0;
    const end = this.#starts[index + 1] ?? start;
    return {
      index: Math.floor(start / packPieceLength),
      begin: start % packPieceLength,
      lengthBytes: end - start,
    };
  }

  #indexOf(block: BlockRequest): number {
    const position = positionOf(block);
    let [low, high] = [0, this.#state.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#starts[middle] ?? 0) <= position) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** Of the first byte of a block in its pack. */
export function positionOf({ index, begin }: Pick<BlockRequest, 'index' | 'begin'>): number {
  return index * packPieceLength + begin;
}

/** Blocks of the usual size from the first byte on; none reaches from one piece into the next. */
function cut(from: number, to: number): number[] {
  const starts = [from];
  for (let at = from; at < to; ) {
    const pieceEnd = at - (at % packPieceLength) + packPieceLength;
    at = Math.min(at + blockBytes, pieceEnd, to);
    starts.push(at);
  }
  return starts;
}
