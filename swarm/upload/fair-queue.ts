/**
 * Whose turn it is: of all addresses that wait, the one that was given the fewest bytes. So a hundred connections get no more than
 * one, and large requests no more than small ones.
 */

import { foreignBlockMaxBytes } from '../wire/limits.ts';

/** Somebody who waits. */
export interface Waiting {
  /** See `addressKey`. */
  readonly address: string;
}

/**
 * Bytes that an address may have been given less than those that never stopped waiting: what passes while it sends what it was given, and
 * two of the largest blocks of other programs. Who comes back after longer has no more coming than this.
 */
const lagBytes = 2 * foreignBlockMaxBytes;

/** Addresses remembered that do not wait at the moment. */
const restingMax = 4096;

export class FairQueue<Member extends Waiting> {
  readonly #waiting = new Map<string, Set<Member>>();
  /** Bytes given to each address, counted from where the queue was when it came. */
  readonly #given = new Map<string, number>();
  /** What the address served last had been given before; who is new begins there. */
  #now = 0;
  #members = 0;

  /** Addresses that wait. */
  get addresses(): number {
    return this.#waiting.size;
  }

  get members(): number {
    return this.#members;
  }

  join(member: Member): void {
    const { address } = member;
    const members = this.#waiting.get(address);
    if (members?.has(member)) return;
    this.#members++;
    if (members !== undefined) {
      members.add(member);
      return;
    }
    this.#waiting.set(address, new Set([member]));
    this.#given.set(address, Math.max(this.#given.get(address) ?? this.#now, this.#now - lagBytes));
  }

  leave(member: Member): void {
    const { address } = member;
    const members = this.#waiting.get(address);
    if (members?.delete(member) !== true) return;
    this.#members--;
    if (members.size > 0) return;
    this.#waiting.delete(address);
    if (this.#given.size > this.#waiting.size + restingMax) this.#forget();
  }

  /** Whose turn it is, and how many bytes less its address was given than the next one. It stays in the queue. */
  first(): { member: Member; behindBytes: number } | undefined {
    let found: Set<Member> | undefined;
    let least = Number.POSITIVE_INFINITY;
    let second = Number.POSITIVE_INFINITY;
    for (const [address, members] of this.#waiting) {
      const given = this.#given.get(address) ?? 0;
      if (given >= least) {
        second = Math.min(second, given);
        continue;
      }
      second = least;
      least = given;
      found = members;
    }
    const [member] = found ?? [];
    if (member === undefined) return undefined;
    return { member, behindBytes: Number.isFinite(second) ? second - least : 0 };
  }

  /** Members of an address that wait. */
  membersOf(address: string): number {
    return this.#waiting.get(address)?.size ?? 0;
  }

  /** The address was given bytes. */
  charge(address: string, bytes: number): void {
    const before = this.#given.get(address) ?? this.#now;
    this.#now = Math.max(this.#now, before);
    this.#given.set(address, before + bytes);
  }

  /** Those who would begin anew anyway. */
  #forget(): void {
    for (const [address, given] of this.#given) {
      if (given <= this.#now - lagBytes && !this.#waiting.has(address)) this.#given.delete(address);
    }
  }
}
