/** The bytes of a NAR file that were taken before its torrent was known: compared with it piece by piece as soon as it is. */

import { hash } from 'node:crypto';
import { pieceHashOf, type Torrent } from '../../swarm/torrent/torrent.ts';
import type { Assembly } from './assembly.ts';

export class UncheckedStart {
  readonly #torrent: Torrent;
  readonly #assembly: Assembly;
  /** Where they end: at the end of a piece. */
  #toByte = 0;
  #rightTo = 0;
  #comparing = false;

  constructor(torrent: Torrent, assembly: Assembly) {
    this.#torrent = torrent;
    this.#assembly = assembly;
    this.reachesTo(assembly.appended);
  }

  /** Up to there they have turned out to be right. */
  get rightTo(): number {
    return this.#rightTo;
  }

  /** Of the piece that comes next in the comparison; after `false` the wrong one. */
  get pieceEnd(): number {
    return Math.min(this.#rightTo + this.#torrent.pieceLength, this.#torrent.length);
  }

  /** Up to there bytes were taken, or are on their way past all checks. */
  reachesTo(toByte: number): void {
    const { length, pieceLength } = this.#torrent;
    this.#toByte = Math.min(Math.ceil(toByte / pieceLength) * pieceLength, length);
  }

  /** As far as they are there. True when all of them are right, false when any is not, `undefined` when some have yet to come. */
  async compare(): Promise<boolean | undefined> {
    if (this.#comparing) return undefined;
    this.#comparing = true;
    try {
      while (this.#rightTo < this.#toByte) {
        const end = this.pieceEnd;
        if (end > this.#assembly.appended) return undefined;
        if (!(await this.#isRight(end))) return false;
        this.#rightTo = end;
      }
      return true;
    } finally {
      this.#comparing = false;
    }
  }

  async #isRight(end: number): Promise<boolean> {
    const piece = await this.#assembly.readAppended(this.#rightTo, end - this.#rightTo);
    const index = this.#rightTo / this.#torrent.pieceLength;
    return hash('sha1', piece, 'buffer').equals(pieceHashOf(this.#torrent, index));
  }
}
