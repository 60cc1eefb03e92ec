/** Who has a torrent of the catalog: this seeder, and whoever announced it. */

import type { IncomingMessage } from 'node:http';
import type { Catalog } from '../catalog/catalog.ts';
import type { InfoHash } from '../nar/hash.ts';
import type { PeerAddress } from '../swarm/peer-address.ts';
import type { Tracker } from '../swarm/tracker.ts';
import type { PublicAddress } from './public-address.ts';

/** Peers named for one NAR file: enough to fill a client's connections. */
const peersMax = 30;

export class PeerDirectory {
  readonly #catalog: Catalog;
  readonly #tracker: Tracker;
  readonly #address: PublicAddress;
  readonly #port: number;

  /** `port`: of the seeder's BitTorrent listener. */
  constructor(catalog: Catalog, tracker: Tracker, address: PublicAddress, port: number) {
    this.#catalog = catalog;
    this.#tracker = tracker;
    this.#address = address;
    this.#port = port;
  }

  /** Ourselves first. */
  peersOf(infoHash: InfoHash, request: IncomingMessage): PeerAddress[] {
    const permanent = this.#permanent(infoHash, request);
    return [...permanent, ...this.#tracker.peersOf(infoHash, peersMax - permanent.length)];
  }

  announce(request: IncomingMessage): Buffer {
    return this.#tracker.announce({
      query: queryOf(request),
      remoteAddress: request.socket.remoteAddress ?? '',
      permanentPeers: (infoHash) => this.#permanent(infoHash, request),
    });
  }

  scrape(request: IncomingMessage): Buffer {
    const permanentPeers = (infoHash: InfoHash): PeerAddress[] => this.#permanent(infoHash, request);
    return this.#tracker.scrape({ query: queryOf(request), permanentPeers });
  }

  /** The seeder serves NAR files; the torrents of the NARs inside are kept alive by those who have the store paths. */
  #permanent(infoHash: InfoHash, request: IncomingMessage): PeerAddress[] {
    if (this.#catalog.byInfoHash(infoHash)?.kind !== 'file') return [];
    return this.#address.addresses(request).map((host) => ({ host, port: this.#port }));
  }
}

function queryOf(request: IncomingMessage): string {
  const url = request.url ?? '';
  const mark = url.indexOf('?');
  return mark < 0 ? '' : url.slice(mark + 1);
}
