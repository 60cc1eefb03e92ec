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
import { type InfoHash, parseInfoHash, parseSha256, type Sha256 } from '../nar/hash.ts';
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

/** A line as it came: nothing of it was compared with a signature yet. */
export interface ReadLine {
  readonly fileHash: Sha256;
  /** Of the torrentinfo. */
  readonly text: string;
  /** The info dictionary in base64. */
  readonly info: string;
  readonly peers: PeerAddress[];
  readonly pack?: PackOffset;
}

/** One line of an answer to `/resolve`, torrentinfo and infohash verified. Throws a coded error that says what is wrong. */
export function parseResolveLine(line: string, keys: readonly PublicKey[]): ResolvedLine {
  const read = readResolveLine(line);
  return { ...read, ...checkLine(read, keys) };
}

/** The same, the signature verified beside this thread: an answer has a thousand lines. */
export async function parseResolveLineAside(line: string, keys: readonly PublicKey[]): Promise<ResolvedLine> {
  const read = readResolveLine(line);
  return { ...read, ...(await checkLineAside(read, keys)) };
}

/** As `checkLine`, the signature verified beside this thread. */
export async function checkLineAside(read: ReadLine, keys: readonly PublicKey[]): Promise<Resolved> {
  const resolved = resolvedOf(read);
  checkSigner(resolved.torrentInfo, await verifyTorrentInfoAside(resolved.torrentInfo, keys));
  return resolved;
}

/** What a line says, verified. Throws as `parseResolved` does, and torrentinfo-corrupt when it is about another file than it says. */
export function checkLine(read: ReadLine, keys: readonly PublicKey[]): Resolved {
  return verified(resolvedOf(read), keys);
}

function resolvedOf({ fileHash, text, info }: ReadLine): Resolved {
  const resolved = readResolved(text, Buffer.from(info, 'base64'));
  if (resolved.torrentInfo.fileHash !== fileHash)
    throw new NarswarmError('torrentinfo-corrupt', `a line about ${fileHash} has another torrentinfo`);
  return resolved;
}

/** Takes a line apart. Throws torrentinfo-corrupt when it lacks something. */
export function readResolveLine(line: string): ReadLine {
  const parsed = answerLine.safeParse(parseJson(line));
  if (!parsed.success) {
    throw new NarswarmError('torrentinfo-corrupt', 'a line of the answer lacks something', {
      cause: parsed.error,
    });
  }
  const { fileHash, torrentinfo: text, info, peers } = parsed.data;
  const pack = parsed.data.pack && packOffset(parsed.data.pack);
  return {
    fileHash: lineHash(fileHash),
    text,
    info,
    peers: peers.slice(0, resolvedMaxPeers).flatMap((peer) => parsePeer(peer) ?? []),
    ...(pack && { pack }),
  };
}

function lineHash(text: string): Sha256 {
  try {
    return parseSha256(text);
  } catch (cause) {
    throw new NarswarmError('torrentinfo-corrupt', 'a line of the answer is about no file', { cause });
  }
}

function packOffset({ infoHash, offset }: { infoHash: string; offset: number }): PackOffset | undefined {
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
  return verified(readResolved(text, info), keys);
}

function verified(resolved: Resolved, keys: readonly PublicKey[]): Resolved {
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
