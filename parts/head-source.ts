/** The heads of the catalog as torrents: the present one, and a few before it for those who heard of one a moment ago. */

import type { InfoHash } from '../nar/hash.ts';
import type { SeedHandle, SeedSource } from '../swarm/seed/seed-server.ts';
import type { Torrent } from '../swarm/torrent/torrent.ts';
import { headTorrent } from './head-torrent.ts';

/** With the usual minute from one to the next, half an hour: as long as others name us for one. */
const headsKept = 30;
/** Of all of them; one has at most 4 MiB, and the present one is kept in any case. */
const headsKeptBytes = 16 * 1024 * 1024;

export class HeadSource implements SeedSource {
  /** The newest last. */
  readonly #heads = new Map<InfoHash, { torrent: Torrent; bytes: Buffer }>();

  /** Gives the torrent of the newest head. */
  show(text: string): Torrent {
    const bytes = Buffer.from(text, 'latin1');
    const torrent = headTorrent(bytes);
    this.#heads.delete(torrent.infoHash);
    this.#heads.set(torrent.infoHash, { torrent, bytes });
    let heldBytes = this.#heads.values().reduce((sum, head) => sum + head.bytes.length, 0);
    for (const [oldest, head] of this.#heads) {
      if (this.#heads.size === 1 || (this.#heads.size <= headsKept && heldBytes <= headsKeptBytes)) break;
      this.#heads.delete(oldest);
      heldBytes -= head.bytes.length;
    }
    return torrent;
  }

  get newest(): InfoHash | undefined {
    return [...this.#heads.keys()].at(-1);
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
