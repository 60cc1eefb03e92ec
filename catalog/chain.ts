/**
 * The chain over a catalog's records: one hash that commits to all of them, in their order. The rules are in
 * docs/format.md.
 */

import { hash } from 'node:crypto';
import { type Sha256, sha256FromDigest } from '../nar/hash.ts';

/** Bytes of a digest. */
const digestBytes = 32;
/** Most records fit in this; a longer one gets memory of its own. */
const usualBytes = 16 * 1024;

/** The chain before the first record. It names the store directory, so that records of another one never fit on it. */
export function firstChain(nixStoreDir: string): Sha256 {
  return sha256FromDigest(hash('sha256', `narswarm-chain-1\n${nixStoreDir}\n`, 'buffer'));
}

/** Goes along a chain, record after record. */
export class Chain {
  /** The digest before the next record, and that record after it: what is hashed for each step. */
  readonly #step: Buffer;

  /** `digest`: of the chain where it begins. */
  constructor(digest: Uint8Array) {
    this.#step = Buffer.alloc(usualBytes);
    this.#step.set(digest.subarray(0, digestBytes));
  }

  /** `framed`: the record with the line before it. */
  add(framed: Uint8Array): void {
    const bytes = digestBytes + framed.length;
    // One hash over one piece of memory: half the time of one that is fed twice.
    let step = this.#step;
    if (step.length < bytes) {
      step = Buffer.alloc(bytes);
      this.#step.copy(step, 0, 0, digestBytes);
    }
    step.set(framed, digestBytes);
    hash('sha256', step.subarray(0, bytes), 'buffer').copy(this.#step);
  }

  /** 32 bytes, of its own. */
  digest(): Buffer {
    return Buffer.from(this.#step.subarray(0, digestBytes));
  }

  isAt(digest: Uint8Array): boolean {
    return this.#step.subarray(0, digestBytes).equals(digest);
  }
}
