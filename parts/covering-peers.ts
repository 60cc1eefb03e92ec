/** Who is named for a torrent besides those who announced it: this program, and the mirrors that hold the NAR file. */

import type { InfoHash } from '../nar/hash.ts';
import { type PeerAddress, printPeer } from '../swarm/address/peer-address.ts';
import type { CoverageBook } from './coverage-book.ts';

/** Combinations of peers that are remembered. */
const listsMax = 1_024;

export class CoveringPeers {
  readonly #book: Pick<CoverageBook, 'isEmpty' | 'peersOf' | 'seedsOf' | 'version'>;
  readonly #ordinalOf: (infoHash: InfoHash) => number | undefined;
  /** The same array for the same peers, which the tracker then need not encode again. */
  readonly #lists = new Map<string, readonly PeerAddress[]>();
  #version = 0;

  /** `ordinalOf`: of the NAR file with this torrent. */
  constructor(
    book: Pick<CoverageBook, 'isEmpty' | 'peersOf' | 'seedsOf' | 'version'>,
    ordinalOf: (infoHash: InfoHash) => number | undefined,
  ) {
    this.#book = book;
    this.#ordinalOf = ordinalOf;
  }

  /** `permanent`, and the mirrors of this torrent behind them. */
  after(permanent: readonly PeerAddress[], infoHash: InfoHash): readonly PeerAddress[] {
    if (this.#book.isEmpty) return permanent;
    const ordinal = this.#ordinalOf(infoHash);
    const mirrors = ordinal === undefined ? [] : this.#book.peersOf(ordinal);
    if (mirrors.length === 0) return permanent;
    const { version } = this.#book;
    if (version !== this.#version || this.#lists.size >= listsMax) this.#lists.clear();
    this.#version = version;
    const peers = [...permanent, ...mirrors];
    const key = peers.map(printPeer).join(' ');
    const list = this.#lists.get(key) ?? peers;
    this.#lists.set(key, list);
    return list;
  }

  /** Mirrors that hold it. */
  seedsOf(infoHash: InfoHash): number {
    if (this.#book.isEmpty) return 0;
    const ordinal = this.#ordinalOf(infoHash);
    return ordinal === undefined ? 0 : this.#book.seedsOf(ordinal);
  }
}
