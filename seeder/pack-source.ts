/** Packs for the seed server: put together from NAR files where they lie, when a peer asks for one. */

import type { Catalog } from '../catalog/catalog.ts';
import type { InfoHash } from '../nar/hash.ts';
import { heldPieces, type JoinedFiles, type JoinedPart, joinedHandle } from '../swarm/seed/joined-files.ts';
import type { OpenFiles } from '../swarm/seed/open-files.ts';
import type { HeldPieces } from '../swarm/seed/open-torrents.ts';
import type { SeedHandle, SeedSource } from '../swarm/seed/seed-server.ts';
import { packTorrentOf } from '../swarm/torrent/pack-torrent.ts';
import type { Torrent } from '../swarm/torrent/torrent.ts';
import type { NarFiles } from './nar-files.ts';
import type { PackFiles } from './pack-files.ts';

/** NAR files that are looked up in the catalog at once: 2 ms. */
const pageParts = 128;
/** Packs of which it is remembered that all of it was there: a pack of a million NAR files in all and more. */
const wholeMax = 4096;

export interface PackSourceOptions {
  catalog: Catalog;
  narFiles: NarFiles;
  packFiles: PackFiles;
  /** Shared by all packs. */
  openFiles: OpenFiles;
}

/** The torrent of a pack of the catalog; `undefined` when there is none. */
export function packTorrent({ packs }: Catalog, infoHash: InfoHash): Torrent | undefined {
  const pack = packs.get(infoHash);
  if (pack === undefined) return undefined;
  const read = (): Buffer => packs.info(infoHash) ?? Buffer.alloc(0);
  return packTorrentOf({ infoHash, length: pack.length, info: { lengthBytes: pack.infoBytes, read } });
}

export class PackSource implements SeedSource {
  readonly #options: PackSourceOptions;
  /** Packs of which every file was there when it was last looked. The others are looked through again each time. */
  readonly #whole = new Set<InfoHash>();
  #handles = 0;

  constructor(options: PackSourceOptions) {
    this.#options = options;
  }

  mayHold(infoHash: InfoHash): boolean {
    return this.#options.catalog.packs.has(infoHash);
  }

  /** The first time, and after a read that failed, all files are looked at. */
  async open(infoHash: InfoHash): Promise<SeedHandle | undefined> {
    const torrent = packTorrent(this.#options.catalog, infoHash);
    if (torrent === undefined) return undefined;
    const files: JoinedFiles = { torrent, parts: (from, to) => this.#parts(infoHash, from, to) };
    const pieces = await this.#look(infoHash, files);
    this.#handles++;
    const handle = joinedHandle(files, pieces, this.#options.openFiles, () => this.#close());
    return { ...handle, read: (...range) => this.#read(handle, range) };
  }

  /** Closed here just now: nothing needs to be looked at. */
  noteWhole(infoHash: InfoHash): void {
    if (this.#whole.size >= wholeMax) this.#whole.clear();
    this.#whole.add(infoHash);
  }

  /** Not all of it may be there any more. */
  lookAgain(infoHash: InfoHash): void {
    this.#whole.delete(infoHash);
  }

  async #look(infoHash: InfoHash, files: JoinedFiles): Promise<HeldPieces | undefined> {
    if (this.#whole.has(infoHash)) return undefined;
    const pieces = await heldPieces(files);
    if (pieces === undefined) this.noteWhole(infoHash);
    return pieces;
  }

  async #read(handle: SeedHandle, range: Parameters<SeedHandle['read']>): Promise<Buffer> {
    try {
      return await handle.read(...range);
    } catch (error) {
      this.lookAgain(handle.torrent.infoHash);
      throw error;
    }
  }

  async #close(): Promise<void> {
    if (--this.#handles === 0) await this.#options.openFiles.closeIdle();
  }

  #parts(infoHash: InfoHash, from: number, to: number): JoinedPart[] {
    const { catalog, narFiles, packFiles } = this.#options;
    const metaBytes = catalog.packs.get(infoHash)?.metaBytes ?? 0;
    if (from < metaBytes) {
      const open = () => packFiles.openMeta(infoHash, metaBytes);
      return [{ offset: 0, sizeBytes: metaBytes, key: infoHash, open }];
    }
    return catalog.packs.filesFrom(infoHash, from, to, pageParts).map((place) => {
      const { offset, sizeBytes, fileHash, entry } = place;
      return { offset, sizeBytes, key: fileHash, ...(entry && { open: () => narFiles.open(entry) }) };
    });
  }
}
