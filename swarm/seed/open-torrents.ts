/**
 * The torrents that are open at the moment, shared by the connections that use them.
 *
 * Opened on the first handshake, kept for a while after the last connection, the least recently used closed first. A torrent that
 * nobody asks for does not appear here at all.
 */
import type { InfoHash } from '../../nar/hash.ts';
import { infoDictionary, type Torrent } from '../torrent/torrent.ts';
import type { SeedLimits } from '../wire/limits.ts';

/** Who knows which torrents are held: looked up when a peer asks, never listed. */
export interface SeedSource {
  /**
   * Whether the torrent may be held, told at once. What is not held so costs no more than this one question: nothing is closed to make room for
   * it, and nobody waits.
   */
  mayHold(infoHash: InfoHash): boolean;
  /** `undefined` for a torrent that is not held. Throws when that could not be told. */
  open(infoHash: InfoHash): Promise<SeedHandle | undefined>;
}

/** Which pieces of a torrent are there while it is still being fetched. Pieces come, and never go. */
export interface HeldPieces {
  readonly count: number;
  has(index: number): boolean;
  /** One bit for each piece, as on the wire. */
  bits(): Buffer;
  /** Calls back with each piece that comes, until the function that it gives is called. */
  watch(listener: (index: number) => void): () => void;
}

/** A torrent whose bytes can be read. Several reads may be under way at once. */
export interface SeedHandle {
  readonly torrent: Torrent;
  /** Without it all of them are there. Only what is there is read. */
  readonly pieces?: HeldPieces;
  /**
   * Exactly `lengthBytes` bytes from `position`, all inside the torrent: in `memory`, which has room for them, or in memory of their own.
   * Throws when they are no longer there.
   */
  read(position: number, lengthBytes: number, memory?: Buffer): Promise<Buffer>;
  close(): Promise<void>;
}

export interface OpenTorrent {
  readonly torrent: Torrent;
  /** As in SeedHandle. */
  readonly pieces: HeldPieces | undefined;
  readonly metadataBytes: number;
  /** The bytes of the info dictionary: made when first wanted, or read each time where they are too many to be kept. */
  metadata(): Buffer;
  /** As SeedHandle.read; may still be under way when the torrent is released. */
  read(position: number, lengthBytes: number, memory?: Buffer): Promise<Buffer>;
  /** Whoever acquired it calls this once. */
  release(): void;
}

interface Entry {
  readonly handle: SeedHandle;
  readonly infoHash: InfoHash;
  metadata: Buffer | undefined;
  /** Connections, and reads that outlive them. */
  users: number;
  idleSinceMs: number;
}

export class OpenTorrents {
  readonly #source: SeedSource;
  readonly #limits: SeedLimits;
  readonly #clock: () => number;
  readonly #entries = new Map<InfoHash, Entry>();
  /** Those without users, the one that has been so for longest first. */
  readonly #idle = new Map<InfoHash, Entry>();
  readonly #opening = new Map<InfoHash, Promise<Entry | undefined>>();
  /** Handles that are not closed yet, those being closed included. */
  #handles = 0;
  #closed = false;
  #whenEmpty: (() => void) | undefined;

  constructor(source: SeedSource, limits: SeedLimits, clock: () => number) {
    this.#source = source;
    this.#limits = limits;
    this.#clock = clock;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** False only for a torrent that is not held. Throws what the source throws. */
  mayHold(infoHash: InfoHash): boolean {
    return this.#entries.has(infoHash) || this.#source.mayHold(infoHash);
  }

  /** Throws what the source throws. `full`: as many torrents as allowed are open, and all of them are in use. */
  async acquire(infoHash: InfoHash): Promise<OpenTorrent | 'unknown' | 'full'> {
    const entry = this.#entries.get(infoHash) ?? (await this.#open(infoHash));
    if (entry === undefined) return 'unknown';
    if (entry === 'full') return 'full';
    return this.#use(entry);
  }

  /** The next who asks for it opens it anew, if it is still held. Those who use it keep it until they release it. */
  forget(infoHash: InfoHash): void {
    const idle = this.#idle.get(infoHash);
    if (idle !== undefined) this.#drop(idle);
    this.#entries.delete(infoHash);
  }

  /** Closes what has been idle for too long. */
  sweep(): void {
    const before = this.#clock() - this.#limits.openTorrentIdleMs;
    for (const entry of this.#idle.values()) {
      if (entry.idleSinceMs > before) return;
      this.#drop(entry);
    }
  }

  /** Closes every handle, those in use once they are released. Resolves when none is left. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const entry of this.#idle.values()) this.#drop(entry);
    if (this.#handles === 0 && this.#opening.size === 0) return;
    await new Promise<void>((resolve) => {
      const before = this.#whenEmpty;
      this.#whenEmpty = () => {
        before?.();
        resolve();
      };
    });
  }

  async #open(infoHash: InfoHash): Promise<Entry | undefined | 'full'> {
    const opening = this.#opening.get(infoHash);
    if (opening !== undefined) return opening;
    if (this.#closed || !this.#makeRoom()) return 'full';
    const promise = this.#openHandle(infoHash);
    this.#opening.set(infoHash, promise);
    try {
      return await promise;
    } finally {
      this.#opening.delete(infoHash);
      this.#settle();
    }
  }

  async #openHandle(infoHash: InfoHash): Promise<Entry | undefined> {
    const handle = await this.#source.open(infoHash);
    if (handle === undefined) return undefined;
    this.#handles++;
    const entry: Entry = { handle, infoHash, metadata: undefined, users: 0, idleSinceMs: this.#clock() };
    // Not idle yet: whoever waits for it is about to use it, and it must not be closed in between.
    this.#entries.set(infoHash, entry);
    return entry;
  }

  #makeRoom(): boolean {
    if (this.#entries.size + this.#opening.size < this.#limits.openTorrentsMax) return true;
    const [oldest] = this.#idle.values();
    if (oldest === undefined) return false;
    this.#drop(oldest);
    return true;
  }

  #use(entry: Entry): OpenTorrent {
    this.#retain(entry);
    const { torrent, pieces } = entry.handle;
    const metadata = (): Buffer => {
      if (torrent.info !== undefined) return torrent.info.read();
      entry.metadata ??= alone(infoDictionary(torrent));
      return entry.metadata;
    };
    return {
      torrent,
      pieces,
      get metadataBytes() {
        return torrent.info?.lengthBytes ?? metadata().length;
      },
      metadata,
      read: async (position, lengthBytes, memory) => {
        this.#retain(entry);
        try {
          return await entry.handle.read(position, lengthBytes, memory);
        } catch (error) {
          // Whoever asks next opens it anew, and learns whether it is still held.
          if (this.#entries.get(entry.infoHash) === entry) this.#entries.delete(entry.infoHash);
          throw error;
        } finally {
          this.#release(entry);
        }
      },
      release: () => this.#release(entry),
    };
  }

  #retain(entry: Entry): void {
    entry.users++;
    if (this.#idle.get(entry.infoHash) === entry) this.#idle.delete(entry.infoHash);
  }

  #release(entry: Entry): void {
    entry.users--;
    if (entry.users > 0) return;
    if (this.#closed || this.#entries.get(entry.infoHash) !== entry) {
      this.#drop(entry);
      return;
    }
    entry.idleSinceMs = this.#clock();
    this.#idle.set(entry.infoHash, entry);
  }

  #drop(entry: Entry): void {
    if (this.#idle.get(entry.infoHash) === entry) this.#idle.delete(entry.infoHash);
    if (this.#entries.get(entry.infoHash) === entry) this.#entries.delete(entry.infoHash);
    // A handle that fails to close has nothing more to give; there is nobody who could do something about it.
    const settled = (): void => {
      this.#handles--;
      this.#settle();
    };
    entry.handle.close().then(settled, settled);
  }

  #settle(): void {
    if (this.#handles === 0 && this.#opening.size === 0) this.#whenEmpty?.();
  }
}

/** A copy outside of Node's pool: what is kept for minutes would keep the 64 KiB around it, too, a thousand times. */
function alone(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}
