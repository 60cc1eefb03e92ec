/** `POST /resolve`: many FileHashes in, for each one that the catalog knows a line of JSON out. */

import { z } from 'zod';
import type { Catalog } from '../catalog/catalog.ts';
import { printTorrentInfo } from '../catalog/torrentinfo.ts';
import { type InfoHash, parseSha256, type Sha256 } from '../nar/hash.ts';
import { type PeerAddress, printPeer } from '../swarm/peer-address.ts';
import { infoDictionary } from '../swarm/torrent.ts';
import { fileTorrentOf } from './catalog-torrents.ts';

/** One closure of a large system is about 5,000 paths; more is asked in another request. */
export const resolveMaxFileHashes = 5_000;
/** Lines between which others get their turn: 5 ms of work. */
export const resolveTurnLines = 64;
/** 5,000 hashes with `sha256:` in JSON are 320 KB. */
export const resolveMaxBodyBytes = 512 * 1024;
export const resolveRequest = z.object({
  fileHashes: z
    .array(
      z.string().transform((text, context): Sha256 => {
        try {
          return parseSha256(text);
        } catch {
          context.addIssue({ code: 'custom', message: 'not a SHA-256 hash' });
          return z.NEVER;
        }
      }),
    )
    .max(resolveMaxFileHashes),
});

/** The answer line for one FileHash, with its newline; `undefined` when the catalog does not know it. */
export function resolveLine(
  catalog: Catalog,
  fileHash: Sha256,
  peersOf: (infoHash: InfoHash) => PeerAddress[],
): string | undefined {
  const found = catalog.fileByFileHash(fileHash);
  if (found === undefined) return undefined;
  const { entry } = found;
  const line = {
    fileHash: entry.fileHash,
    torrentinfo: printTorrentInfo(entry),
    info: infoDictionary(fileTorrentOf(found)).toString('base64'),
    peers: peersOf(entry.infoHash).map(printPeer),
  };
  return `${JSON.stringify(line)}\n`;
}
