/** What the seeder answers to `POST /resolve`. */

import type { Catalog } from '../catalog/catalog.ts';
import { printTorrentInfo } from '../catalog/torrentinfo.ts';
import type { InfoHash, Sha256 } from '../nar/hash.ts';
import { type PeerAddress, printPeer } from '../swarm/address/peer-address.ts';
import { infoDictionary } from '../swarm/torrent/torrent.ts';
import { fileTorrentOf } from './catalog-torrents.ts';

/** The answer line for one FileHash, with its newline; `undefined` when the catalog does not know it. */
export function resolveLine(
  catalog: Catalog,
  fileHash: Sha256,
  peersOf: (infoHash: InfoHash) => PeerAddress[],
): string | undefined {
  const found = catalog.fileByFileHash(fileHash);
  if (found === undefined) return undefined;
  const { entry } = found;
  const pack = catalog.packs.packOf(fileHash);
  const line = {
    fileHash: entry.fileHash,
    torrentinfo: printTorrentInfo(entry),
    // The same bytes can be had as a part of a pack.
    ...(pack && { pack }),
    info: infoDictionary(fileTorrentOf(found)).toString('base64'),
    peers: peersOf(entry.infoHash).map(printPeer),
  };
  return `${JSON.stringify(line)}\n`;
}
