/** A node of the DHT beside a seed server: it announces that server. */

import { isIPv4 } from 'node:net';
import type { PeerAddress } from '../swarm/address/peer-address.ts';
import { type Dht, openDht } from '../swarm/dht/dht.ts';
import type { SeedServer } from '../swarm/seed/seed-server.ts';
import type { Logger } from '../web/log.ts';

export interface PeersDhtConfig {
  host: string;
  port: number;
  /** Nodes by which the others are found. */
  bootstrap: PeerAddress[];
}

export interface PeersDhtOptions {
  config: PeersDhtConfig;
  seedServer: Pick<SeedServer, 'host' | 'port'>;
  publicHost: string | undefined;
  logger: Logger;
}

/** Throws `dht-failed`. */
export function openPeersDht({ config, seedServer, publicHost, logger }: PeersDhtOptions): Promise<Dht> {
  const peersHost = [publicHost, seedServer.host].find((host) => isIPv4(host ?? '') && host !== '0.0.0.0');
  return openDht({
    ...config,
    peersPort: seedServer.port,
    ...(peersHost === undefined ? {} : { peersHost }),
    onEnded: (ended) => logger.warn('dht-ended', { ...ended }),
  });
}
