/** The dealers of the torrents that are being served: one for each torrent that a peer which shares is connected for. */
import type { InfoHash } from '../../nar/hash.ts';
import { pieceCount, type Torrent } from '../torrent/torrent.ts';
import { type DealtPeer, PieceDealer } from './piece-dealer.ts';

/** Torrents with fewer pieces are over before there is anything to exchange. */
const piecesMin = 8;
/** Beyond, a dealer would take more memory than it is worth: NAR files of 32 GiB, packs of twice the usual size. */
const piecesMax = 8192;

export class PieceDealers {
  readonly #dealers = new Map<InfoHash, PieceDealer>();
  readonly #clock: () => number;

  constructor(clock: () => number) {
    this.#clock = clock;
  }

  /** The dealer that a peer has joined; `undefined` for torrents that are not dealt. */
  join(torrent: Torrent, peer: DealtPeer): PieceDealer | undefined {
    const pieces = pieceCount(torrent);
    if (pieces < piecesMin || pieces > piecesMax) return undefined;
    let dealer = this.#dealers.get(torrent.infoHash);
    if (dealer === undefined) {
      dealer = new PieceDealer(pieces, torrent.pieceLength, this.#clock);
      this.#dealers.set(torrent.infoHash, dealer);
    }
    dealer.join(peer);
    return dealer;
  }

  leave(infoHash: InfoHash, peer: DealtPeer, complete: boolean): void {
    const dealer = this.#dealers.get(infoHash);
    dealer?.leave(peer, complete);
    if (dealer?.members === 0) this.#dealers.delete(infoHash);
  }

  /** Whether several peers share a torrent and lack pieces that none of them has. */
  piecesMissing(infoHash: InfoHash): boolean {
    return this.#dealers.get(infoHash)?.piecesMissing ?? false;
  }

  sweep(): void {
    for (const dealer of this.#dealers.values()) dealer.fill();
  }
}
