/** `POST /resolve`: many FileHashes in, for each one that the catalog knows a line of JSON out. */

import { setImmediate } from 'node:timers/promises';
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
/** Hashes that are parsed between which others get their turn: 5 ms for the first ones, a tenth of that later. */
const parseTurnHashes = 500;
export const resolveRequest = z.object({ fileHashes: z.array(z.string()).max(resolveMaxFileHashes) });

/** The hashes that were asked for, or where the first one is that is none. */
export async function parseInTurns(texts: readonly string[]): Promise<Sha256[] | { badIndex: number }> {
  const hashes: Sha256[] = [];
  for (const [index, text] of texts.entries()) {
    try {
      hashes.push(parseSha256(text));
    } catch {
      return { badIndex: index };
    }
    if (index % parseTurnHashes === parseTurnHashes - 1) await setImmediate();
  }
  return hashes;
}

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
