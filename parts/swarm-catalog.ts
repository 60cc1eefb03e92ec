/**
 * A catalog without any server: its key's item in the DHT says which torrent the newest head is, and head and files come from whoever
 * has them. What catalog/follow.ts calls a transport; it is there that the head's signature and the files' hashes are checked.
 */

import { type CatalogFile, headFormat, headMaxBytes, isHeadFileName } from '../catalog/head.ts';
import { segmentName } from '../catalog/segment.ts';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import type { InfoHash } from '../nar/hash.ts';
import type { PublicKey } from '../nar/signature.ts';
import { type PeerAddress, printPeer } from '../swarm/address/peer-address.ts';
import type { Dht } from '../swarm/dht/dht.ts';
import { type DhtItem, dhtItemName } from '../swarm/dht/dht-item.ts';
import { TorrentFetch } from '../swarm/fetch/fetcher.ts';
import { fetchMetadata, type MetadataLimits } from '../swarm/fetch/metadata-fetch.ts';
import { parseInfoDictionary, type Torrent } from '../swarm/torrent/torrent.ts';

export interface SwarmCatalogLimits extends Partial<MetadataLimits> {
  /** Milliseconds without a byte of a file after which its peers are given up. Nobody waits at a terminal for it. */
  stallMs: number;
  /** Peers that are remembered from one file to the next, the ones that gave something first. */
  peersKept: number;
}

export const swarmCatalogLimits: Readonly<SwarmCatalogLimits> = { stallMs: 20_000, peersKept: 50 };

/** A file of 4 GiB has 20 KiB of piece hashes. */
const infoMaxBytes = 32 * 1024;

export interface SwarmCatalogOptions {
  dht: Pick<Dht, 'getItem' | 'findPeers'>;
  /** Those that may sign the next head: each has an item in the DHT. */
  keys: () => readonly PublicKey[];
  /** Asked before those that the DHT names. */
  peers?: readonly PeerAddress[];
  limits?: Partial<SwarmCatalogLimits>;
}

export class SwarmCatalog {
  readonly #dht: SwarmCatalogOptions['dht'];
  readonly #keys: SwarmCatalogOptions['keys'];
  readonly #limits: SwarmCatalogLimits;
  /** By `host:port`, those that gave something last at the end. */
  readonly #peers = new Map<string, PeerAddress>();
  /** Of the newest item whose head was had: one that nobody gave hides none that somebody gives. */
  #seq = -1;
  #item: DhtItem | undefined;

  constructor({ dht, keys, peers = [], limits }: SwarmCatalogOptions) {
    this.#dht = dht;
    this.#keys = keys;
    this.#limits = { ...swarmCatalogLimits, ...limits };
    this.#keep(peers);
  }

  /** The item whose head was fetched last, for whoever has it kept in the DHT. */
  get item(): DhtItem | undefined {
    return this.#item;
  }

  /**
   * `etag` is the infohash of a head. When nobody has the newest yet, an older one that another key's item names has to do. Throws upstream-failed,
   * catalog-rollback, dht-failed, aborted.
   */
  async fetchHead(
    etag?: string,
    signal?: AbortSignal,
  ): Promise<{ text: string; etag: string } | 'unchanged'> {
    const items = await this.#items(signal);
    const [newest] = items;
    if (newest === undefined)
      throw new NarswarmError('upstream-failed', 'nobody in the DHT knows where the head of the catalog is');
    if (newest.seq < this.#seq)
      throw new NarswarmError(
        'catalog-rollback',
        `the DHT names head ${newest.seq}, after head ${this.#seq}`,
      );
    let why: unknown;
    for (const item of items) {
      if (item.seq < this.#seq) break;
      try {
        const head = item.infoHash === etag ? 'unchanged' : await this.#fetchHead(item.infoHash, signal);
        this.#seq = item.seq;
        this.#item = item;
        return head;
      } catch (error) {
        if (!isNarswarmError(error, 'upstream-failed')) throw error;
        why ??= error;
      }
    }
    throw new NarswarmError(
      'upstream-failed',
      `the DHT names head ${newest.seq} of the catalog, which nobody gives yet: whoever signed it says so within minutes`,
      { cause: why },
    );
  }

  /** Exactly the file's length, or an error: segment-missing when nobody gives it, segment-mismatch, dht-failed, aborted. */
  async *fetchFile(file: CatalogFile, signal?: AbortSignal): AsyncGenerator<Buffer> {
    const check = ({ name, length }: Torrent): void => {
      if (name === segmentName(file.sha256) && length === file.sizeBytes) return;
      throw new NarswarmError('segment-mismatch', `the torrent ${file.infoHash} is not ${file.sha256}`);
    };
    try {
      yield* this.#fetch(file.infoHash, check, signal);
    } catch (error) {
      if (!isNarswarmError(error, 'upstream-failed')) throw error;
      throw new NarswarmError('segment-missing', error.message, { cause: error });
    }
  }

  /** Of all keys, the newest first. Each was checked against its key. */
  async #items(signal: AbortSignal | undefined): Promise<DhtItem[]> {
    const names = this.#keys().map((key) => dhtItemName(key, headFormat));
    const items = await Promise.all(names.map((name) => this.#dht.getItem(name, signal)));
    return items.filter((item) => item !== undefined).toSorted((a, b) => b.seq - a.seq);
  }

  async #fetchHead(
    infoHash: InfoHash,
    signal: AbortSignal | undefined,
  ): Promise<{ text: string; etag: string }> {
    const chunks: Buffer[] = [];
    for await (const chunk of this.#fetch(infoHash, checkHead, signal)) chunks.push(chunk);
    return { text: Buffer.concat(chunks).toString('latin1'), etag: infoHash };
  }

  /** From those who gave something before; then, from where it broke off, from those that the DHT names. Throws upstream-failed. */
  async *#fetch(
    infoHash: InfoHash,
    check: (torrent: Torrent) => void,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer> {
    const sources = [
      async () => [...this.#peers.values()].toReversed(),
      () => this.#dht.findPeers(infoHash, signal),
    ];
    let torrent: Torrent | undefined;
    let received = 0;
    let why: unknown;
    for (const source of sources) {
      const peers = await source();
      if (peers.length === 0) continue;
      try {
        torrent ??= await this.#torrent(infoHash, peers, signal);
        check(torrent);
        for await (const bytes of this.#pieces(torrent, peers, received, signal)) {
          received += bytes.length;
          yield bytes;
        }
        return;
      } catch (error) {
        if (!isNarswarmError(error, 'swarm-exhausted', 'swarm-stalled', 'torrent-invalid')) throw error;
        why = error;
      }
    }
    throw new NarswarmError('upstream-failed', `nobody gives the torrent ${infoHash}`, { cause: why });
  }

  async #torrent(
    infoHash: InfoHash,
    peers: PeerAddress[],
    signal: AbortSignal | undefined,
  ): Promise<Torrent> {
    const options = { infoHash, peers, maxBytes: infoMaxBytes, limits: this.#limits };
    return parseInfoDictionary(await fetchMetadata({ ...options, ...(signal && { signal }) }));
  }

  async *#pieces(
    torrent: Torrent,
    peers: PeerAddress[],
    fromByte: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer> {
    const { stallMs } = this.#limits;
    const fetch = new TorrentFetch({ torrent, fromByte, stallMs, ...(signal && { signal }) });
    fetch.addPeers(peers);
    fetch.noMorePeers();
    for await (const piece of fetch) {
      this.#keep(peers.filter((peer) => piece.peers.includes(printPeer(peer))));
      yield piece.bytes;
    }
  }

  #keep(peers: readonly PeerAddress[]): void {
    for (const peer of peers) {
      const key = printPeer(peer);
      this.#peers.delete(key);
      this.#peers.set(key, peer);
    }
    for (const key of this.#peers.keys()) {
      if (this.#peers.size <= this.#limits.peersKept) return;
      this.#peers.delete(key);
    }
  }
}

/** The infohash, and so this torrent, was named under the catalog's key. */
function checkHead({ name, length }: Torrent): void {
  if (isHeadFileName(name) && length <= headMaxBytes) return;
  throw new NarswarmError('head-corrupt', `the DHT names ${name} with ${length} bytes as the head`);
}
