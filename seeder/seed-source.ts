/** What the seed server may serve: every NAR file of the catalog, opened when a peer asks for it. */

import type { Catalog } from '../catalog/catalog.ts';
import { isNarswarmError } from '../nar/errors.ts';
import type { InfoHash } from '../nar/hash.ts';
import type { SeedHandle, SeedSource } from '../swarm/seed/seed-server.ts';
import { fileTorrentOf } from './catalog-torrents.ts';
import type { NarFiles } from './nar-files.ts';

export class CatalogSeedSource implements SeedSource {
  readonly #catalog: Catalog;
  readonly #narFiles: NarFiles;

  constructor(catalog: Catalog, narFiles: NarFiles) {
    this.#catalog = catalog;
    this.#narFiles = narFiles;
  }

  mayHold(infoHash: InfoHash): boolean {
    return this.#catalog.hasFileOfInfoHash(infoHash);
  }

  /**
   * The NAR torrent (uncompressed) of a compressed NAR file is minted and tracked but not served from here: its bytes
   * exist on machines that hold the store path, while the seeder would have to decompress from the start for any block.
   */
  async open(infoHash: InfoHash): Promise<SeedHandle | undefined> {
    const found = this.#catalog.fileByInfoHash(infoHash);
    if (found === undefined) return undefined;
    const torrent = fileTorrentOf(found);
    try {
      const file = await this.#narFiles.open(found.entry);
      return {
        torrent,
        read: (...range) => file.read(...range),
        close: () => file.close(),
      };
    } catch (error) {
      if (isNarswarmError(error, 'not-held')) return undefined;
      throw error;
    }
  }
}
