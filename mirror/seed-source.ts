/** What a mirror seeds: every NAR file that it holds, opened when a peer asks for it. */

import type { InfoHash } from '../nar/hash.ts';
import type { SeedHandle, SeedSource } from '../swarm/seed/seed-server.ts';
import { pieceLengthFor, type Torrent } from '../swarm/torrent/torrent.ts';
import type { Holdings } from './holdings.ts';
import type { HeldFile, MirrorState } from './state.ts';

export class MirrorSeedSource implements SeedSource {
  readonly #holdings: Holdings;
  readonly #state: MirrorState;

  constructor(holdings: Holdings, state: MirrorState) {
    this.#holdings = holdings;
    this.#state = state;
  }

  mayHold(infoHash: InfoHash): boolean {
    return this.#holdings.mayHold(infoHash);
  }

  async open(infoHash: InfoHash): Promise<SeedHandle | undefined> {
    const file = this.#state.byInfoHash(infoHash);
    const handle = file && (await this.#holdings.open(file));
    if (file === undefined || handle === undefined) return undefined;
    return {
      torrent: torrentOf(file),
      read: (position, lengthBytes) => handle.read(position, lengthBytes),
      close: () => handle.close(),
    };
  }
}

export function torrentOf({ infoHash, name, sizeBytes, pieces }: HeldFile): Torrent {
  return { infoHash, name, length: sizeBytes, pieceLength: pieceLengthFor(sizeBytes), pieces };
}
