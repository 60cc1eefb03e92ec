/** What may be seeded: NAR files, held or being fetched, whose torrent a catalog signed and whose narinfo a trusted cache key signed. */

import { NarswarmError } from '../../nar/errors.ts';
import type { InfoHash, Sha256 } from '../../nar/hash.ts';
import { parseNarInfo } from '../../nar/narinfo.ts';
import { type PublicKey, verifyNarInfo } from '../../nar/signature.ts';
import { isTorrentInfoOf, parseResolved } from '../../parts/resolved.ts';
import type { SeedHandle, SeedSource } from '../../swarm/seed/seed-server.ts';
import type { Torrent } from '../../swarm/torrent/torrent.ts';
import type { HeldFiles } from '../state/cache.ts';
import type { ClientState, HeldFile } from '../state/state.ts';
import type { SharedFetches } from './shared-fetches.ts';

export interface SharedTorrentsOptions {
  state: ClientState;
  held: HeldFiles;
  trustedKeys: readonly PublicKey[];
  catalogKeys(): readonly PublicKey[];
  /** What is shared while it is fetched. */
  fetches: SharedFetches;
  isRevoked(fileHash: Sha256): boolean;
}

export class SharedTorrents implements SeedSource {
  readonly #options: SharedTorrentsOptions;

  constructor(options: SharedTorrentsOptions) {
    this.#options = options;
  }

  /**
   * The torrent of a held file if it may be shared. Content-addressed paths that nobody signed may not: they can be
   * anybody's own.
   *
   * The cache's signature covers NarHash, the catalog's ties FileHash and infohash to NarHash: both are needed.
   */
  torrentOf(file: Pick<HeldFile, 'fileHash' | 'narInfo'>): Torrent | undefined {
    const { state, trustedKeys, catalogKeys, isRevoked } = this.#options;
    if (isRevoked(file.fileHash)) return undefined;
    const stored = state.torrent(file.fileHash);
    if (stored === undefined) return undefined;
    try {
      const narInfo = parseNarInfo(file.narInfo);
      if (verifyNarInfo(narInfo, trustedKeys) === undefined) return undefined;
      const { torrentInfo, torrent } = parseResolved(stored.torrentInfo, stored.info, catalogKeys());
      return isTorrentInfoOf(torrentInfo, narInfo) ? torrent : undefined;
    } catch (error) {
      if (error instanceof NarswarmError) return undefined;
      throw error;
    }
  }

  /** Of those that are held: which may be shared among the newest `max` files. */
  newest(max: number): InfoHash[] {
    const files = this.#options.state.heldFiles('newest', max);
    return files.flatMap((file) => this.torrentOf(file)?.infoHash ?? []);
  }

  mayHold(infoHash: InfoHash): boolean {
    if (this.#options.fetches.has(infoHash)) return true;
    return this.#options.state.torrentByInfoHash(infoHash) !== undefined;
  }

  /** Whether it could be opened at this moment, as far as can be told without the disk. */
  has(infoHash: InfoHash): boolean {
    const { state, fetches } = this.#options;
    if (fetches.has(infoHash)) return true;
    const stored = state.torrentByInfoHash(infoHash);
    const file = stored && state.held(stored.fileHash);
    return file !== undefined && this.torrentOf(file)?.infoHash === infoHash;
  }

  async open(infoHash: InfoHash): Promise<SeedHandle | undefined> {
    const { state, held, fetches } = this.#options;
    const running = fetches.open(infoHash);
    if (running !== undefined) return running;
    const stored = state.torrentByInfoHash(infoHash);
    const file = stored && state.held(stored.fileHash);
    const torrent = file && this.torrentOf(file);
    if (file === undefined || torrent?.infoHash !== infoHash) return undefined;
    const handle = await held.open(file.fileHash);
    if (handle === undefined) return undefined;
    return {
      torrent,
      read: (...range) => handle.read(...range),
      close: () => handle.close(),
    };
  }
}
