/**
 * Which IP addresses (a /64 of IPv6) were seen lately, in 4 MiB that do not grow: two Bloom filters of two bits for each address, of which the
 * older one is emptied when time turns. An address is remembered for one turn at least and for two at most, each time it is added.
 *
 * Who was seen is always found. One who was not is found when others happen to share both bits: of 5,000 addresses, one in three million; of a
 * million, one in a hundred. The keys are new with each turn, so that nobody is taken for another for long.
 */

import { randomInt } from 'node:crypto';
import { mix } from './address-counts.ts';
import type { IpAddress } from './ip-address.ts';

/** 16,777,216 bits. */
const slotBits = 24;

export class AddressSet {
  #now = new Filter();
  #before = new Filter();

  has(address: IpAddress): boolean {
    return this.#now.has(address) || this.#before.has(address);
  }

  add(address: IpAddress): void {
    this.#now.add(address);
  }

  turn(): void {
    const oldest = this.#before;
    oldest.clear();
    this.#before = this.#now;
    this.#now = oldest;
  }
}

class Filter {
  readonly #bits = new Uint8Array(2 ** (slotBits - 3));
  #firstKey = randomInt(2 ** 32);
  #secondKey = randomInt(2 ** 32);

  has(address: IpAddress): boolean {
    return this.#get(slotOf(address, this.#firstKey)) && this.#get(slotOf(address, this.#secondKey));
  }

  add(address: IpAddress): void {
    this.#set(slotOf(address, this.#firstKey));
    this.#set(slotOf(address, this.#secondKey));
  }

  clear(): void {
    this.#bits.fill(0);
    this.#firstKey = randomInt(2 ** 32);
    this.#secondKey = randomInt(2 ** 32);
  }

  #get(slot: number): boolean {
    return (((this.#bits[slot >>> 3] ?? 0) >>> (slot & 7)) & 1) === 1;
  }

  #set(slot: number): void {
    this.#bits[slot >>> 3] = (this.#bits[slot >>> 3] ?? 0) | (1 << (slot & 7));
  }
}

function slotOf({ view, groupOffset }: IpAddress, key: number): number {
  return mix(mix(key, view.getInt32(groupOffset)), view.getInt32(groupOffset + 4)) >>> (32 - slotBits);
}
