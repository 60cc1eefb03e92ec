/**
 * Connection ids of the UDP tracker (BEP 15): proof that the sender receives what is sent to its address, without a memory of who asked.
 *
 * An id is 8 bits that say in which span of 8 s it was given, and 56 bits of a keyed hash of address and span. With the span in the id, one
 * hash decides. The key is this process's own: ids end with it.
 */

import { hash, randomBytes } from 'node:crypto';
import type { IpAddress } from '../address/ip-address.ts';

export const connectionIdBytes = 8;
/** Ids given in one span are alike for an address. */
const spanMs = 8_000;
/** BEP 15: an id is good for two minutes. With what is left of the span that it was given in, for up to 8 s more. */
const spansMax = 15;

const keyBytes = 32;

export class ConnectionIds {
  /** Key, address, span: 52 bytes, which is one block of SHA-256. The length is fixed, so that the plain hash is a keyed one. */
  readonly #input = Buffer.alloc(keyBytes + 16 + 4);
  readonly #clock: () => number;

  /** `clock`: milliseconds. */
  constructor(clock: () => number) {
    this.#clock = clock;
    randomBytes(keyBytes).copy(this.#input);
  }

  /** Writes the id of an address into the first bytes from `at`. */
  give(address: IpAddress, into: Buffer, at: number): void {
    const span = this.#span();
    this.#digest(address, span).copy(into, at, 0, connectionIdBytes);
    into[at] = span & 0xff;
  }

  /** Whether the id at `at` was given to the address lately. */
  isGood(address: IpAddress, bytes: Buffer, at: number): boolean {
    const now = this.#span();
    const age = (now - (bytes[at] ?? 0)) & 0xff;
    if (age > spansMax) return false;
    const digest = this.#digest(address, now - age);
    return digest.compare(bytes, at + 1, at + connectionIdBytes, 1, connectionIdBytes) === 0;
  }

  #span(): number {
    return Math.floor(this.#clock() / spanMs);
  }

  #digest(address: IpAddress, span: number): Buffer {
    this.#input.set(address.bytes, keyBytes);
    this.#input.writeUInt32BE(span >>> 0, keyBytes + 16);
    return hash('sha256', this.#input, 'buffer');
  }
}
