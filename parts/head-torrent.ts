/** The head of a catalog as a torrent, so that it travels like the files that it names. The rules are in docs/format.md. */

import { hash } from 'node:crypto';
import { headFileName } from '../catalog/head.ts';
import { sha256FromDigest } from '../nar/hash.ts';
import { type Torrent, TorrentHasher } from '../swarm/torrent/torrent.ts';

export function headTorrent(bytes: Buffer): Torrent {
  const hasher = new TorrentHasher(bytes.length);
  hasher.write(bytes);
  return hasher.finish(headFileName(sha256FromDigest(hash('sha256', bytes, 'buffer'))));
}
