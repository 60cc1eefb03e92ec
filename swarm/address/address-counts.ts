/**
 * A count for each IP address (a /64 of IPv6) in memory that does not grow: two rows of counters, and an address owns
 * one in each, found by a keyed hash; its count is the smaller one. A count is never too small. It is too large only when
 * others happen to share both counters, and whom it hits nobody can choose, because the key is this process's own.
 *
 * A table of addresses would have to forget some when it is full, and a sender with many addresses could make it
 * forget the very ones that are over a limit.
 */

import { randomInt } from 'node:crypto';
import type { IpAddress } from './ip-address.ts';

/** Counters in a row: at a million addresses that count one each, the sum of what shares a counter is about eight. */
export const addressCountersPerRow = 131_072;

export class AddressCounts {
  readonly #first = new Uint32Array(addressCountersPerRow);
  readonly #second = new Uint32Array(addressCountersPerRow);
  readonly #firstKey = randomInt(2 ** 32);
  readonly #secondKey = randomInt(2 ** 32);

  of(address: IpAddress): number {
    const first = this.#first[slotOf(address, this.#firstKey)] ?? 0;
    const second = this.#second[slotOf(address, this.#secondKey)] ?? 0;
    return Math.min(first, second);
  }

  /** `change`: what was added may be taken away again, and nothing else. */
  add(address: IpAddress, change: number): void {
    const first = slotOf(address, this.#firstKey);
    const second = slotOf(address, this.#secondKey);
    this.#first[first] = (this.#first[first] ?? 0) + change;
    this.#second[second] = (this.#second[second] ?? 0) + change;
  }

  clear(): void {
    this.#first.fill(0);
    this.#second.fill(0);
  }
}

function slotOf({ view, groupOffset }: IpAddress, key: number): number {
  return mix(mix(key, view.getInt32(groupOffset)), view.getInt32(groupOffset + 4)) >>> 15;
}

/** MurmurHash3's step and finish: every bit of the input changes half of the output. */
export function mix(hash: number, word: number): number {
  let mixed = hash ^ Math.imul(word, 0xcc9e2d51);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}
