/** A piece that is worked on: the state of each of its blocks, and who gives them. */

import { hash } from 'node:crypto';
import { blockBytes } from '../wire/limits.ts';
import type { BlockRequest } from '../wire/wire-encode.ts';

/** States of a block; the legal moves are wanted → asked → here, and asked → wanted when a peer lets us down. */
export const wanted = 0;
export const asked = 1;
export const here = 2;

export interface ActivePiece {
  readonly index: number;
  bytes: Buffer;
  /** Whose socket reads straight into `bytes`. */
  reader: string | undefined;
  readonly blocks: Uint8Array;
  /** When each block was expected from the one that was asked for it last. */
  readonly dueMs: Float64Array;
  /** Who was asked for each block last. */
  readonly askedOf: (string | undefined)[];
  /** How often each block was asked of another one although it had been asked for. */
  readonly overtaken: Uint8Array;
  /** Who is sending each block into its place at this moment. */
  readonly writers: (string | undefined)[];
  /** Who gave each block that is here. */
  readonly sources: (string | undefined)[];
  missing: number;
  /** Blocks that are wanted: a window that is full is looked at for each block that comes. */
  unasked: number;
  /** After a spoilt attempt of several peers: all blocks come from one peer, `owner`, so that the next failure names the liar. */
  alone: boolean;
  owner: string | undefined;
  /** The blocks of that spoilt attempt, to be compared with the good ones: whoever's differ has lied. */
  suspects: { peer: string; digest: Buffer }[];
  check: Check;
}

/** Of a piece. The legal moves are open → due, when its last block is here, and from there to verified or back to open. */
type Check = 'open' | 'due' | 'verified';

/** A piece of which nothing is asked yet, in this memory. */
export function openPiece(index: number, bytes: Buffer): ActivePiece {
  const blocks = new Uint8Array(Math.ceil(bytes.length / blockBytes));
  return {
    index,
    bytes,
    reader: undefined,
    blocks,
    dueMs: new Float64Array(blocks.length),
    askedOf: [],
    overtaken: new Uint8Array(blocks.length),
    writers: [],
    sources: [],
    missing: blocks.length,
    unasked: blocks.length,
    alone: false,
    owner: undefined,
    suspects: [],
    check: 'open',
  };
}

/** `copy` into memory that threads share goes word by word, as if another one wrote there as well, and takes three times as long. */
export function copyInto(memory: Buffer, bytes: Buffer, at: number): void {
  memory.fill(bytes, at, at + bytes.length);
}

/** Whether `bytes` are what is `at` in that memory. */
export function isAt(memory: Buffer, at: number, bytes: Buffer): boolean {
  return bytes.buffer === memory.buffer && bytes.byteOffset === memory.byteOffset + at;
}

export function mayAsk({ alone, owner }: ActivePiece, peer: string): boolean {
  return !alone || owner === undefined || owner === peer;
}

/** Whether a block that comes from this peer is of use. */
export function takes({ blocks, alone, owner }: ActivePiece, peer: string, block: number): boolean {
  return blocks[block] !== here && (!alone || owner === peer);
}

export function peersOf({ sources }: ActivePiece): string[] {
  return [...new Set(sources.filter((peer) => peer !== undefined))];
}

export function blockDigest({ bytes }: ActivePiece, block: number): Buffer {
  return hash('sha1', bytes.subarray(block * blockBytes, (block + 1) * blockBytes), 'buffer');
}

/** The number of the first block that a request is for, and of the first one after it. */
export function firstBlock({ begin }: BlockRequest): number {
  return Math.floor(begin / blockBytes);
}

export function endBlock({ begin, lengthBytes }: BlockRequest): number {
  return Math.ceil((begin + lengthBytes) / blockBytes);
}
