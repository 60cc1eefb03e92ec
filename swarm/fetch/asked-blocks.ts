/** The blocks that one peer was asked for and that have not come, each by itself or with those after it. */

import { blockBytes } from '../wire/limits.ts';
import { type BlockRequest, blocksOf } from '../wire/wire-encode.ts';
import type { AskedAt } from './peer-pace.ts';

export interface Asked {
  readonly block: BlockRequest;
  readonly at: AskedAt;
  /** Less was asked of it then than its path holds. */
  readonly limited: boolean;
}

export class AskedBlocks {
  readonly #asked = new Map<number, Asked>();
  #blocks = 0;

  /** How many blocks of the usual size. */
  get blocks(): number {
    return this.#blocks;
  }

  add(block: BlockRequest, at: AskedAt, limited: boolean): void {
    this.delete(block);
    this.#asked.set(blockKey(block), { block, at, limited });
    this.#blocks += blocksOf(block);
  }

  /** What begins there. */
  get({ index, begin }: Pick<BlockRequest, 'index' | 'begin'>): Asked | undefined {
    return this.#asked.get(blockKey({ index, begin }));
  }

  /** Nothing happens when it is not among them. */
  delete(block: Pick<BlockRequest, 'index' | 'begin'>): void {
    const asked = this.get(block);
    if (asked === undefined) return;
    this.#asked.delete(blockKey(block));
    this.#blocks -= blocksOf(asked.block);
  }

  all(): BlockRequest[] {
    return Array.from(this.#asked.values(), ({ block }) => block);
  }

  /** Those of them that lie within `whole`. One that was asked for together with others outside is still needed for those. */
  *within({ index, begin, lengthBytes }: BlockRequest): Generator<BlockRequest> {
    if (this.#blocks === 0) return;
    const end = begin + lengthBytes;
    for (let at = begin; at < end; at += blockBytes) {
      const block = this.get({ index, begin: at })?.block;
      if (block !== undefined && at + block.lengthBytes <= end) yield block;
    }
  }

  /** What is still to be asked for of `blocks`: some may have been given back and still be on their way. */
  *missing(blocks: Iterable<BlockRequest>): Generator<BlockRequest> {
    for (const block of blocks) {
      if (this.get(block) === undefined) {
        yield block;
        continue;
      }
      const { index, begin, lengthBytes } = block;
      for (let at = blockBytes; at < lengthBytes; at += blockBytes) {
        const one = { index, begin: begin + at, lengthBytes: Math.min(blockBytes, lengthBytes - at) };
        if (this.get(one) === undefined) yield one;
      }
    }
  }
}

/** A number for each block: pieces have at most 4 MiB. */
function blockKey({ index, begin }: Pick<BlockRequest, 'index' | 'begin'>): number {
  return index * 0x800000 + begin;
}
