/** The seeder's node of the DHT: what it is told of demand, and where it is opened. */

import { isIPv4 } from 'node:net';
import type { InfoHash } from '../nar/hash.ts';
import { type Dht, openDht } from '../swarm/dht.ts';
import type { PeerAddress } from '../swarm/peer-address.ts';
import type { SeedServer, SeedSource } from '../swarm/seed-server.ts';
import type { Logger } from '../web/log.ts';

export interface SeederDhtConfig {
  host: string;
  port: number;
  /** Nodes by which the others are found. */
  bootstrap: PeerAddress[];
}

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

export interface SeederDhtOptions {
  config: SeederDhtConfig;
  seedServer: Pick<SeedServer, 'host' | 'port'>;
  publicHost: string | undefined;
  logger: Logger;
}

/** Throws `dht-failed`. */
export function openSeederDht({ config, seedServer, publicHost, logger }: SeederDhtOptions): Promise<Dht> {
  const peersHost = [publicHost, seedServer.host].find((host) => isIPv4(host ?? '') && host !== '0.0.0.0');
  return openDht({
    ...config,
    peersPort: seedServer.port,
    ...(peersHost === undefined ? {} : { peersHost }),
    onEnded: (ended) => logger.warn('dht-ended', { ...ended }),
  });
}
