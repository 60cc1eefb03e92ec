/** The files of the catalogs as torrents: whoever follows a catalog can have them from peers. */

import { segmentName } from '../catalog/segment.ts';
import type { InfoHash } from '../nar/hash.ts';
import type { SeedHandle, SeedSource } from '../swarm/seed/seed-server.ts';
import { type Torrent, TorrentHasher } from '../swarm/torrent/torrent.ts';
import type { MirrorCatalog } from './catalogs.ts';

/** Files are read for their piece hashes when they are asked for; so many torrents are remembered, 20 KiB each at most. */
const torrentsMax = 256;
const readBytes = 256 * 1024;

type CatalogFile = NonNullable<ReturnType<MirrorCatalog['followed']['head']>>['segments'][number];

export class SegmentSource implements SeedSource {
  readonly #catalogs: readonly MirrorCatalog[];
  readonly #torrents = new Map<InfoHash, Torrent>();

  constructor(catalogs: readonly MirrorCatalog[]) {
    this.#catalogs = catalogs;
  }

  /** All of them, those of the heads that were accepted last. */
  *list(): Generator<readonly [InfoHash, MirrorCatalog]> {
    for (const catalog of this.#catalogs) {
      const head = catalog.followed.head();
      for (const { infoHash } of head?.segments ?? []) yield [infoHash, catalog];
    }
  }

  mayHold(infoHash: InfoHash): boolean {
    return this.#find(infoHash) !== undefined;
  }

  async open(infoHash: InfoHash): Promise<SeedHandle | undefined> {
    const found = this.#find(infoHash);
    const file = found && (await found.catalog.files.open(found.file.sha256));
    if (found === undefined || file === undefined) return undefined;
    try {
      let torrent = this.#torrents.get(infoHash);
      if (torrent === undefined) {
        const hasher = new TorrentHasher(file.sizeBytes);
        for (let at = 0; at < file.sizeBytes; at += readBytes) {
          hasher.write(await file.read(at, Math.min(readBytes, file.sizeBytes - at)));
        }
        torrent = hasher.finish(segmentName(found.file.sha256));
        if (this.#torrents.size >= torrentsMax) this.#torrents.clear();
        this.#torrents.set(infoHash, torrent);
      }
      if (torrent.infoHash === infoHash) {
        return {
          torrent,
          read: (position, lengthBytes, memory) => file.read(position, lengthBytes, memory),
          close: () => file.close(),
        };
      }
    } catch (error) {
      await file.close();
      throw error;
    }
    await file.close();
    return undefined;
  }

  #find(infoHash: InfoHash): { catalog: MirrorCatalog; file: Pick<CatalogFile, 'sha256'> } | undefined {
    for (const catalog of this.#catalogs) {
      const head = catalog.followed.head();
      const file = [...(head?.segments ?? []), ...(head?.views ?? [])].find(
        (each) => each.infoHash === infoHash,
      );
      if (file !== undefined) return { catalog, file };
    }
    return undefined;
  }
}
