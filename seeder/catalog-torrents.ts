/** Canonical torrents put together again from the rows of the catalog. */

import type { Catalog, NarFileEntry } from '../catalog/catalog.ts';
import type { FileWithPieces } from '../catalog/catalog-reader.ts';
import { narFileName } from '../nar/compression.ts';
import type { InfoHash } from '../nar/hash.ts';
import { parseNarInfo } from '../nar/narinfo.ts';
import type { ReportedNar } from '../parts/availability-report.ts';
import { pieceLengthFor, type Torrent } from '../swarm/torrent/torrent.ts';
import type { KnownTorrent } from '../swarm/tracker/tracker.ts';

/** The torrent of the NAR file (`file`) or of the uncompressed NAR (`nar`); `undefined` when its row went away meanwhile. */
export function torrentOf(
  catalog: Catalog,
  { kind, entry }: { kind: 'file' | 'nar'; entry: NarFileEntry },
): Torrent | undefined {
  const pieces = catalog.pieces(kind === 'file' ? entry.infoHash : entry.narInfoHash);
  if (pieces === undefined) return undefined;
  if (kind === 'file') return fileTorrentOf({ entry, pieces });
  const { narHash, narInfoHash, narSize } = entry;
  return {
    infoHash: narInfoHash,
    name: narFileName(narHash, 'none'),
    length: narSize,
    pieceLength: pieceLengthFor(narSize),
    pieces,
  };
}

export function fileTorrentOf({ entry, pieces }: FileWithPieces): Torrent {
  const { infoHash, fileHash, fileSize, compression } = entry;
  return {
    infoHash,
    name: narFileName(fileHash, compression),
    length: fileSize,
    pieceLength: pieceLengthFor(fileSize),
    pieces,
  };
}

/** For the tracker. The seeder has the NAR files and packs; NARs without compression only those who announce them. */
export function knownTorrent(catalog: Catalog, infoHash: InfoHash): KnownTorrent | undefined {
  const seeded =
    catalog.hasFileOfInfoHash(infoHash) ||
    catalog.packs.has(infoHash) ||
    catalog.log.hasFileOfInfoHash(infoHash);
  if (seeded) return 'seeded';
  return catalog.hasInfoHash(infoHash) ? 'tracked' : undefined;
}

/** What a report says of the NAR file with this ordinal; `undefined` when it is in the catalog no longer. */
export function reportedNar(catalog: Catalog, ordinal: number): ReportedNar | undefined {
  const fileHash = catalog.log.byOrdinal(ordinal);
  const entry = fileHash && catalog.byFileHash(fileHash);
  if (entry === undefined) return undefined;
  const text = catalog.narInfoOf(entry.fileHash);
  return {
    fileHash: entry.fileHash,
    fileSize: entry.fileSize,
    storePath: text === undefined ? undefined : parseNarInfo(text).storePath,
  };
}
