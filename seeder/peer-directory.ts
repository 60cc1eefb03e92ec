/** Who has a torrent of the catalog: this seeder, mirrors that said so, and whoever announced it. */

import type { IncomingMessage } from 'node:http';
import type { Catalog } from '../catalog/catalog.ts';
import type { InfoHash } from '../nar/hash.ts';
import type { CoveringPeers } from '../parts/covering-peers.ts';
import type { PublicAddress } from '../parts/public-address.ts';
import type { PeerAddress } from '../swarm/address/peer-address.ts';
import type { Tracker } from '../swarm/tracker/tracker.ts';
import { announceOverHttp, scrapeOverHttp, type TrackerHttpRequest } from '../swarm/tracker/tracker-http.ts';
import { knownTorrent } from './catalog-torrents.ts';

/** Peers named for one NAR file: enough to fill a client's connections. */
const peersMax = 30;
/** Addresses of this machine that others reach: a few, unless it loses and gets new ones. */
const permanentListsMax = 64;

export class PeerDirectory {
  readonly tracker: Tracker;
  readonly #catalog: Catalog;
  readonly #address: PublicAddress;
  readonly #port: number;
  readonly #covering: Pick<CoveringPeers, 'after'>;
  /** The same array for the same address, which the tracker then need not encode again. */
  readonly #permanent = new Map<string, readonly PeerAddress[]>();

  /** `port`: of the seeder's BitTorrent listener. */
  constructor(
    catalog: Catalog,
    tracker: Tracker,
    address: PublicAddress,
    port: number,
    covering: Pick<CoveringPeers, 'after'>,
  ) {
    this.#covering = covering;
    this.#catalog = catalog;
    this.tracker = tracker;
    this.#address = address;
    this.#port = port;
  }

  /** Ourselves first. */
  peersOf(infoHash: InfoHash, request: IncomingMessage): PeerAddress[] {
    // The seeder serves NAR files and packs; the torrents of the NARs inside are kept alive by those who have the store paths.
    const seeded = knownTorrent(this.#catalog, infoHash) === 'seeded';
    const own = this.#at(this.#address.addresses(request.socket.localAddress));
    const permanent = seeded ? this.#covering.after(own, infoHash) : [];
    return [...permanent, ...this.tracker.peersOf(infoHash, peersMax - permanent.length)];
  }

  announce(request: IncomingMessage): Buffer {
    return announceOverHttp(this.tracker, this.#trackerRequest(request));
  }

  scrape(request: IncomingMessage): Buffer {
    return scrapeOverHttp(this.tracker, this.#trackerRequest(request));
  }

  /** Who has a NAR file of the catalog without announcing it: this seeder and mirrors. For the UDP tracker on `boundHost`. */
  permanentPeers(infoHash: InfoHash, remoteAddress: string, boundHost: string): readonly PeerAddress[] {
    return this.#covering.after(this.#at(this.#address.addressesTowards(remoteAddress, boundHost)), infoHash);
  }

  #at(addresses: string[]): readonly PeerAddress[] {
    const key = addresses.join(' ');
    const kept = this.#permanent.get(key);
    if (kept !== undefined) return kept;
    if (this.#permanent.size >= permanentListsMax) this.#permanent.clear();
    const peers = addresses.map((host) => ({ host, port: this.#port }));
    this.#permanent.set(key, peers);
    return peers;
  }

  #trackerRequest(request: IncomingMessage): TrackerHttpRequest {
    const url = request.url ?? '';
    const mark = url.indexOf('?');
    const { localAddress, remoteAddress = '' } = request.socket;
    return {
      query: mark < 0 ? '' : url.slice(mark + 1),
      remoteAddress,
      permanentPeers: (infoHash) =>
        this.#covering.after(this.#at(this.#address.addresses(localAddress)), infoHash),
    };
  }
}
