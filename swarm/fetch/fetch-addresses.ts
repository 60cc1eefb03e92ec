/** The addresses that one fetch knows of and can still try, the best first. */

import { type PeerAddress, parsePeer, printPeer } from '../address/peer-address.ts';
import { localFirst, type PeerBook } from './peer-book.ts';

/** How often a peer whose connection broke off after less than so many bytes is tried again: to connect costs more than they are worth. */
const shortMaxBytes = 64 * 1024;
const shortMax = 8;

export class FetchAddresses {
  readonly #max: number;
  readonly #book: PeerBook | undefined;
  readonly #seen = new Set<string>();
  /** Connections of each peer that broke off so soon. */
  readonly #short = new Map<string, number>();
  #waiting: PeerAddress[] = [];

  /** `max`: addresses that it ever takes note of. */
  constructor(max: number, book: PeerBook | undefined) {
    this.#max = max;
    this.#book = book;
  }

  /** Addresses that are not tried yet. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Those that were named before, or are banned, are ignored. */
  add(addresses: Iterable<PeerAddress>): void {
    const before = this.#seen.size;
    for (const address of addresses) {
      const key = printPeer(address);
      if (this.#seen.has(key) || this.#seen.size >= this.#max) continue;
      this.#seen.add(key);
      this.#waiting.push(address);
    }
    if (this.#seen.size > before)
      this.#waiting = this.#book?.rank(this.#waiting) ?? localFirst(this.#waiting);
  }

  /** One whose connection broke off after so many bytes, and that is to be tried once more, when there is nobody else. */
  again(address: PeerAddress, receivedBytes: number): void {
    const key = printPeer(address);
    const short = (this.#short.get(key) ?? 0) + (receivedBytes < shortMaxBytes ? 1 : 0);
    this.#short.set(key, short);
    if (short <= shortMax) this.#waiting.push(address);
  }

  /** The best one, which is waiting no more. */
  take(): PeerAddress | undefined {
    return this.#waiting.shift();
  }

  /** Whether one that waits is to be preferred to one that is connected and has given nothing. */
  hasBetterThan(key: string): boolean {
    const [first] = this.#waiting;
    const address = parsePeer(key);
    if (first === undefined || address === undefined) return false;
    const ranked = this.#book?.rank([address, first]) ?? localFirst([address, first]);
    return ranked[0] === first;
  }
}
