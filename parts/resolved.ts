/** Decides whether one line of a catalog's answer may be used: nothing in it is believed, everything is checked. Pure. */

import { z } from 'zod';
import {
  parseTorrentInfo,
  type TorrentInfo,
  verifyTorrentInfo,
  verifyTorrentInfoAside,
} from '../catalog/torrentinfo.ts';
import { narFileName } from '../nar/compression.ts';
import { NarswarmError } from '../nar/errors.ts';
import { type InfoHash, parseInfoHash } from '../nar/hash.ts';
import type { NarInfo } from '../nar/narinfo.ts';
import type { PublicKey } from '../nar/signature.ts';
import { type PeerAddress, parsePeer } from '../swarm/address/peer-address.ts';
import { packTorrentMaxBytes } from '../swarm/torrent/pack-torrent.ts';
import { parseInfoDictionary, type Torrent } from '../swarm/torrent/torrent.ts';

/** Peers taken from one catalog for one NAR file; more than a fetch connects to at once. */
export const resolvedMaxPeers = 50;

export interface Resolved {
  torrentInfo: TorrentInfo;
  /** Text of the torrentinfo, as it came. */
  text: string;
  torrent: Torrent;
  info: Buffer;
}

/**
 * Where in a pack a NAR file lies. Nobody signed that: whoever fetches from there compares the bytes with the NAR file's own torrent, and a
 * wrong place costs time.
 */
export interface PackOffset {
  readonly infoHash: InfoHash;
  /** In bytes from the start of the pack. */
  readonly offset: number;
}

const answerLine = z.object({
  fileHash: z.string(),
  torrentinfo: z.string(),
  info: z.base64(),
  peers: z.array(z.string()).default([]),
  pack: z
    .object({ infoHash: z.string(), offset: z.number().int().min(0).max(packTorrentMaxBytes) })
    .optional()
    // What cannot be a place in a pack is no reason to do without the rest.
    .catch(undefined),
});

export type ResolvedLine = Resolved & { peers: PeerAddress[]; pack?: PackOffset };

/** One line of an answer to `/resolve`, torrentinfo and infohash verified. Throws a coded error that says what is wrong. */
export function parseResolveLine(line: string, keys: readonly PublicKey[]): ResolvedLine {
  const resolved = readResolveLine(line);
  checkSigner(resolved.torrentInfo, verifyTorrentInfo(resolved.torrentInfo, keys));
  return resolved;
}

/** The same, the signature verified beside this thread: an answer has a thousand lines. */
export async function parseResolveLineAside(line: string, keys: readonly PublicKey[]): Promise<ResolvedLine> {
  const resolved = readResolveLine(line);
  checkSigner(resolved.torrentInfo, await verifyTorrentInfoAside(resolved.torrentInfo, keys));
  return resolved;
}

/** All but whose signature it is. */
function readResolveLine(line: string): ResolvedLine {
  const parsed = answerLine.safeParse(parseJson(line));
  if (!parsed.success) {
    throw new NarswarmError('torrentinfo-corrupt', 'a line of the answer lacks something', {
      cause: parsed.error,
    });
  }
  const { torrentinfo, info, peers } = parsed.data;
  const resolved = readResolved(torrentinfo, Buffer.from(info, 'base64'));
  const pack = parsed.data.pack && packOffset(parsed.data.pack, resolved.torrent);
  return {
    ...resolved,
    peers: peers.slice(0, resolvedMaxPeers).flatMap((peer) => parsePeer(peer) ?? []),
    ...(pack && { pack }),
  };
}

function packOffset(
  { infoHash, offset }: { infoHash: string; offset: number },
  { length }: Torrent,
): PackOffset | undefined {
  if (offset + length > packTorrentMaxBytes) return undefined;
  try {
    return { infoHash: parseInfoHash(infoHash), offset };
  } catch {
    return undefined;
  }
}

/**
 * Throws torrentinfo-untrusted without a valid signature by one of `keys`, torrent-invalid when the info dictionary is
 * not that of the signed infohash or not of a file of that name and size.
 */
export function parseResolved(text: string, info: Buffer, keys: readonly PublicKey[]): Resolved {
  const resolved = readResolved(text, info);
  checkSigner(resolved.torrentInfo, verifyTorrentInfo(resolved.torrentInfo, keys));
  return resolved;
}

function checkSigner({ fileHash }: TorrentInfo, signer: string | undefined): void {
  if (signer === undefined) throw new NarswarmError('torrentinfo-untrusted', `torrentinfo of ${fileHash}`);
}

function readResolved(text: string, info: Buffer): Resolved {
  const torrentInfo = parseTorrentInfo(text);
  const torrent = parseInfoDictionary(info);
  if (torrent.infoHash !== torrentInfo.infoHash) {
    throw new NarswarmError(
      'torrent-invalid',
      'the info dictionary has another infohash than the signed one',
    );
  }
  const name = narFileName(torrentInfo.fileHash, torrentInfo.compression);
  if (torrent.name !== name || torrent.length !== torrentInfo.fileSize) {
    throw new NarswarmError('torrent-invalid', 'the torrent has another name or length than its torrentinfo');
  }
  return { torrentInfo, text, torrent, info };
}

/** True if the torrentinfo is about the very NAR file and NAR that the narinfo is about. */
export function isTorrentInfoOf(torrentInfo: TorrentInfo, narInfo: NarInfo): boolean {
  return (
    torrentInfo.fileHash === narInfo.fileHash &&
    (narInfo.fileSize === undefined || torrentInfo.fileSize === narInfo.fileSize) &&
    torrentInfo.compression === narInfo.compression &&
    torrentInfo.narHash === narInfo.narHash &&
    torrentInfo.narSize === narInfo.narSize
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new NarswarmError('torrentinfo-corrupt', 'a line of the answer is not JSON', { cause });
  }
}
