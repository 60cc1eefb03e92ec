/** The heads of the catalog as torrents: the present one, and a few before it for those who heard of one a moment ago. */

import type { InfoHash } from '../nar/hash.ts';
import { headTorrent } from '../parts/head-torrent.ts';
import type { SeedHandle, SeedSource } from '../swarm/seed-server.ts';
import type { Torrent } from '../swarm/torrent.ts';

/** With the usual minute from one to the next, half an hour: as long as others name us for one. A head has some 20 KB. */
const headsKept = 30;

export class HeadSource implements SeedSource {
  /** The newest last. */
  readonly #heads = new Map<InfoHash, { torrent: Torrent; bytes: Buffer }>();

  /** Gives the torrent of the newest head. */
  show(text: string): Torrent {
    const bytes = Buffer.from(text, 'latin1');
    const torrent = headTorrent(bytes);
    this.#heads.delete(torrent.infoHash);
    this.#heads.set(torrent.infoHash, { torrent, bytes });
    const [oldest] = this.#heads.keys();
    if (oldest !== undefined && this.#heads.size > headsKept) this.#heads.delete(oldest);
    return torrent;
  }

  mayHold(infoHash: InfoHash): boolean {
    return this.#heads.has(infoHash);
  }

  torrent(infoHash: InfoHash): Torrent | undefined {
    return this.#heads.get(infoHash)?.torrent;
  }

  async open(infoHash: InfoHash): Promise<SeedHandle | undefined> {
    const head = this.#heads.get(infoHash);
    if (head === undefined) return undefined;
    const { torrent, bytes } = head;
    return {
      torrent,
      read: async (position, lengthBytes) => bytes.subarray(position, position + lengthBytes),
      close: async () => {},
    };
  }
}
