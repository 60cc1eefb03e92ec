/** The catalog's own files as torrents: segments and views are seeded beside the NAR files that they tell of. */

import type { CatalogFiles } from '../catalog/files.ts';
import type { CatalogLog } from '../catalog/log.ts';
import { segmentName } from '../catalog/segment.ts';
import type { InfoHash } from '../nar/hash.ts';
import type { SeedHandle, SeedSource } from '../swarm/seed/seed-server.ts';
import { pieceLengthFor, type Torrent } from '../swarm/torrent/torrent.ts';

/** The torrent of a segment or view that is on the disk. */
export function logTorrentOf(log: CatalogLog, infoHash: InfoHash): Torrent | undefined {
  const file = log.fileByInfoHash(infoHash);
  if (file === undefined) return undefined;
  const { sha256, sizeBytes, pieces } = file;
  return {
    infoHash,
    name: segmentName(sha256),
    length: sizeBytes,
    pieceLength: pieceLengthFor(sizeBytes),
    pieces,
  };
}

export class LogSeedSource implements SeedSource {
  readonly #log: CatalogLog;
  readonly #files: CatalogFiles;

  constructor(log: CatalogLog, files: CatalogFiles) {
    this.#log = log;
    this.#files = files;
  }

  mayHold(infoHash: InfoHash): boolean {
    return this.#log.hasFileOfInfoHash(infoHash);
  }

  async open(infoHash: InfoHash): Promise<SeedHandle | undefined> {
    const file = this.#log.fileByInfoHash(infoHash);
    const torrent = logTorrentOf(this.#log, infoHash);
    const opened = file && (await this.#files.open(file.sha256));
    if (torrent === undefined || opened === undefined) return undefined;
    return {
      torrent,
      read: (position, lengthBytes, memory) => opened.read(position, lengthBytes, memory),
      close: () => opened.close(),
    };
  }
}
