/**
 * What a peer may say that brings nothing: well-behaved ones say a little, others try to keep this machine busy or its line full. Decisions only:
 * whoever says more than is allowed is left by what is thrown.
 */

import { NarswarmError } from '../../nar/errors.ts';
import type { WireVisitor } from '../wire/wire.ts';

/** Bytes of a message that count as one more: the longest is 32 KiB, and those that every peer sends are shorter than this. */
const unitBytes = 256;
/** Bytes of blocks that nobody asked for, over one connection: what may be on its way when something was misunderstood. */
const unaskedMaxBytes = 1024 * 1024;
/** Chokes without a block in between: after each leave to ask, requests are made that come to nothing. Peers choke twice a minute at most. */
const chokesMax = 50;

export class PeerChatter {
  readonly #max: number;
  #count = 0;
  #chokes = 0;
  #unaskedBytes = 0;
  /** Bytes of blocks that were asked for, and are not wanted any more. */
  #excusedBytes = 0;

  /** `max`: messages between two blocks. */
  constructor(max: number) {
    this.#max = max;
  }

  /** A message, of so many bytes if it may be long. Throws wire-violation, as the others do. */
  said(bytes = 0): void {
    this.#count += 1 + Math.floor(bytes / unitBytes);
    if (this.#count > this.#max) throw violation('it talks too much');
  }

  choked(): void {
    this.said();
    if (++this.#chokes > chokesMax) throw violation('it chokes and gives nothing');
  }

  /** A block that was asked for may come although it is not wanted: a cancel crosses it. */
  excuse(bytes: number): void {
    this.#excusedBytes += bytes;
  }

  /** A block that is not wanted begins. */
  unasked(bytes: number): void {
    this.said();
    if (this.#excusedBytes >= bytes) {
      this.#excusedBytes -= bytes;
      return;
    }
    this.#unaskedBytes += bytes;
    if (this.#unaskedBytes > unaskedMaxBytes) throw violation('it sends what nobody asked for');
  }

  /** A block that was wanted is here. */
  gave(): void {
    this.#count = 0;
    this.#chokes = 0;
  }
}

/** A peer of whom all is counted that brings nothing. Whoever understands more of it than that it was said counts it, too. */
export class CountedPeer implements WireVisitor {
  protected readonly chatter: PeerChatter;

  /** `max`: messages between two blocks. */
  constructor(max: number) {
    this.chatter = new PeerChatter(max);
  }

  keepAlive(): void {
    this.chatter.said();
  }

  have(_index: number): void {
    this.chatter.said();
  }

  haveAll(): void {
    this.chatter.said();
  }

  haveNone(): void {
    this.chatter.said();
  }

  suggest(_index: number): void {
    this.chatter.said();
  }

  allowedFast(): void {
    this.chatter.said();
  }

  ignored(_id: number, lengthBytes: number): void {
    this.chatter.said(lengthBytes);
  }

  // Nobody is let ask over a connection that this side made: to ask all the same is noise.

  request(): void {
    this.chatter.said();
  }

  cancel(): void {
    this.chatter.said();
  }

  interested(): void {
    this.chatter.said();
  }

  notInterested(): void {
    this.chatter.said();
  }
}

export function violation(why: string): NarswarmError {
  return new NarswarmError('wire-violation', why);
}
