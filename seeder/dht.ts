/** What the seeder's node of the DHT is told of demand. */

import type { InfoHash } from '../nar/hash.ts';
import type { SeedSource } from '../swarm/seed/seed-server.ts';

export type NoteDemand = (infoHash: InfoHash) => void;

/** A source that tells which torrents peers ask for: when one is opened for a handshake, and as its bytes are read. */
export function demandedSource(source: SeedSource, note: NoteDemand): SeedSource {
  return {
    mayHold: (infoHash) => source.mayHold(infoHash),
    async open(infoHash) {
      const handle = await source.open(infoHash);
      if (handle === undefined) return undefined;
      note(infoHash);
      return {
        torrent: handle.torrent,
        ...(handle.pieces && { pieces: handle.pieces }),
        read: (...range) => {
          note(infoHash);
          return handle.read(...range);
        },
        close: () => handle.close(),
      };
    },
  };
}
