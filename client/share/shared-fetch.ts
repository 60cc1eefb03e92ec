/**
 * A NAR file that is shared while it is being fetched: verified pieces only, each as soon as it is there, from the fetch while that
 * runs and from the kept file after it.
 */

import { NarswarmError } from '../../nar/errors.ts';
import { type PeerAddress, printPeer } from '../../swarm/address/peer-address.ts';
import type { HeldPieces, SeedHandle } from '../../swarm/seed/seed-server.ts';
import { pieceCount, pieceSize, type Torrent } from '../../swarm/torrent/torrent.ts';
import { Bell } from '../waiting.ts';

/** Peers that are remembered for attempts yet to come. */
const peersMax = 200;

/** The fetch that it belongs to. */
export interface FetchedBytes {
  /** Bytes from the start that `read` can give and that are those of the torrent. */
  readonly checkedBytes: number;
  /** At least one byte from `position`. */
  read(position: number, lengthBytes: number): Promise<Buffer>;
}

/** What takes note of peers: a fetch from the swarm. */
interface PeerTaker {
  addPeers(peers: Iterable<PeerAddress>): void;
}

export interface SharedFetchOptions {
  torrent: Torrent;
  listenPort: number;
  peerId: Buffer;
  bytes: FetchedBytes;
  openHeld: () => Promise<Omit<SeedHandle, 'torrent'> | undefined>;
  /** With whom it is shared, by IP address. */
  admits: (host: string) => boolean;
  /** Whether those who give pieces are told at once what there is here: with few pieces, it is over before they could ask for one. */
  tellsPeers: boolean;
}

/** What a fetch from the swarm has to do with sharing. */
export interface SharedSwarm {
  readonly fetch: SharedFetch;
  /** Resolves when those were asked for peers with whom it is shared. */
  asked(): Promise<void>;
  /** Resolves when one of them is found, or none is. Rejects when the signal fires. */
  found(signal: AbortSignal): Promise<void>;
}

export class SharedFetch implements HeldPieces {
  readonly torrent: Torrent;
  readonly listenPort: number;
  readonly peerId: Buffer;
  readonly tellsPeers: boolean;
  readonly #bytes: FetchedBytes;
  readonly #openHeld: () => Promise<Omit<SeedHandle, 'torrent'> | undefined>;
  readonly #admits: (host: string) => boolean;
  readonly #bits: Buffer;
  /** Whole pieces that the fetch cannot give yet. */
  readonly #early = new Map<number, Buffer>();
  readonly #watchers = new Set<(index: number) => void>();
  readonly #peers = new Map<string, PeerAddress>();
  readonly #takers = new Set<PeerTaker>();
  readonly #bell = new Bell();
  #count = 0;
  /** The first piece that the fetch cannot give yet. */
  #released = 0;
  #ended = false;

  constructor(options: SharedFetchOptions) {
    this.torrent = options.torrent;
    this.listenPort = options.listenPort;
    this.peerId = options.peerId;
    this.tellsPeers = options.tellsPeers;
    this.#bytes = options.bytes;
    this.#openHeld = options.openHeld;
    this.#admits = options.admits;
    this.#bits = Buffer.alloc(Math.ceil(pieceCount(options.torrent) / 8));
  }

  get count(): number {
    return this.#count;
  }

  /** Peers that were found in other ways than by the fetch itself. */
  get peers(): readonly PeerAddress[] {
    return [...this.#peers.values()];
  }

  with({ host }: PeerAddress): boolean {
    return this.#admits(host);
  }

  /** Bytes that are not here yet. */
  get leftBytes(): number {
    const { length, pieceLength } = this.torrent;
    return Math.max(0, length - this.#count * pieceLength);
  }

  has(index: number): boolean {
    return ((this.#bits[index >> 3] ?? 0) & (0x80 >> (index & 7))) !== 0;
  }

  bits(): Buffer {
    return Buffer.from(this.#bits);
  }

  watch(listener: (index: number) => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  /** A piece that the swarm gave, out of turn perhaps. */
  onVerified(index: number, bytes: Buffer): void {
    if (this.has(index)) return;
    this.#early.set(index, bytes);
    this.#add(index);
  }

  /** The fetch can give more than before. */
  onReleased(): void {
    const { pieceLength } = this.torrent;
    const pieces = pieceCount(this.torrent);
    for (; this.#released < pieces; this.#released++) {
      const index = this.#released;
      if (index * pieceLength + pieceSize(this.torrent, index) > this.#bytes.checkedBytes) return;
      this.#early.delete(index);
      if (!this.has(index)) this.#add(index);
    }
  }

  /** The fetch is over: what is asked for from now on comes from the kept file. */
  end(): void {
    this.#ended = true;
    this.#early.clear();
  }

  /** Peers found in other ways than by the fetch itself. */
  addPeers(peers: Iterable<PeerAddress>): void {
    const found = [...peers];
    for (const peer of found) {
      const key = printPeer(peer);
      if (this.#peers.size < peersMax || this.#peers.has(key)) this.#peers.set(key, peer);
    }
    for (const taker of this.#takers) taker.addPeers(found);
    if (found.length > 0) this.#bell.ring();
  }

  /** Resolves when there is a peer; rejects when the signal fires first. */
  async found(signal: AbortSignal): Promise<void> {
    while (this.#peers.size === 0) await this.#bell.next(signal);
  }

  /** Names all peers that are found to `taker`, until the function that it gives is called. */
  namePeersTo(taker: PeerTaker): () => void {
    taker.addPeers(this.#peers.values());
    this.#takers.add(taker);
    return () => this.#takers.delete(taker);
  }

  /** For the seed server. */
  open(): SeedHandle {
    let held: Promise<Omit<SeedHandle, 'torrent'> | undefined> | undefined;
    const openHeld = () => {
      held ??= this.#openHeld();
      return held;
    };
    return {
      torrent: this.torrent,
      pieces: this,
      read: async (position, lengthBytes, memory) => {
        if (!this.#ended) return this.#read(position, lengthBytes);
        const file = await openHeld();
        if (file === undefined) throw new NarswarmError('not-held', 'the NAR file was not kept');
        return file.read(position, lengthBytes, memory);
      },
      close: async () => (await held)?.close(),
    };
  }

  async #read(position: number, lengthBytes: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    const end = position + lengthBytes;
    for (let at = position; at < end; ) {
      const part = this.#earlyBytes(at, end) ?? (await this.#fetchedBytes(at, end));
      parts.push(part);
      at += part.length;
    }
    return parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts);
  }

  #earlyBytes(at: number, end: number): Buffer | undefined {
    const { pieceLength } = this.torrent;
    const index = Math.floor(at / pieceLength);
    const start = index * pieceLength;
    return this.#early.get(index)?.subarray(at - start, end - start);
  }

  #fetchedBytes(at: number, end: number): Promise<Buffer> {
    // After it began anew, what was there is gone.
    if (at >= this.#bytes.checkedBytes) throw new NarswarmError('not-held', 'the piece is gone again');
    return this.#bytes.read(at, end - at);
  }

  #add(index: number): void {
    this.#bits[index >> 3] = (this.#bits[index >> 3] ?? 0) | (0x80 >> (index & 7));
    this.#count++;
    for (const watcher of this.#watchers) watcher(index);
  }
}
