/** Canonical torrents put together again from the rows of the catalog. */

import type { Catalog, NarFileEntry } from '../catalog/catalog.ts';
import { narFileName } from '../nar/compression.ts';
import type { InfoHash } from '../nar/hash.ts';
import { pieceLengthFor, type Torrent } from '../swarm/torrent.ts';
import type { KnownTorrent } from '../swarm/tracker.ts';

/** The torrent of the NAR file (`file`) or of the uncompressed NAR (`nar`); `undefined` when its row went away meanwhile. */
export function torrentOf(
  catalog: Catalog,
  { kind, entry }: { kind: 'file' | 'nar'; entry: NarFileEntry },
): Torrent | undefined {
  const ofFile = kind === 'file';
  const infoHash = ofFile ? entry.infoHash : entry.narInfoHash;
  const length = ofFile ? entry.fileSize : entry.narSize;
  const pieces = catalog.pieces(infoHash);
  if (pieces === undefined) return undefined;
  return {
    infoHash,
    name: ofFile ? narFileName(entry.fileHash, entry.compression) : narFileName(entry.narHash, 'none'),
    length,
    pieceLength: pieceLengthFor(length),
    pieces,
  };
}

/** For the tracker. The seeder has the NAR files; NARs without compression only those who announce them. */
export function knownTorrent(catalog: Catalog, infoHash: InfoHash): KnownTorrent | undefined {
  const found = catalog.byInfoHash(infoHash);
  if (found === undefined) return undefined;
  return found.kind === 'file' ? 'seeded' : 'tracked';
}
