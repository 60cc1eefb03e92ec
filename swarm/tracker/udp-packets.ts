/**
 * Packets of the UDP tracker protocol, BEP 15. What BEP 41 appends to an announce, the path and query of the tracker's URL, says
 * nothing that this tracker wants to know and is not read.
 */

import type { InfoHash } from '../../nar/hash.ts';
import { connectionIdBytes } from './connection-ids.ts';
import type { TorrentCounts, TrackerAnswer } from './tracker.ts';
import { type AnnounceQuery, numWantDefault, numWantMax } from './tracker-query.ts';

/** An announce has 98 bytes and what its URL takes, a scrape of 74 torrents 1,496; nothing honest is longer. */
export const udpPacketMaxBytes = 2_048;
/** Torrents in one scrape, by BEP 15: as many as fit into a packet. */
export const udpScrapeMaxInfoHashes = 74;

const connectAction = 0;
const announceAction = 1;
const scrapeAction = 2;
const errorAction = 3;
/** What a connect has in the place of the connection id. */
const protocolIdHigh = 0x417;
const protocolIdLow = 0x27101980;

const headBytes = 16;
const announceBytes = 98;
const digestBytes = 20;
const events = [undefined, 'completed', 'started', 'stopped'] as const;

/** The kind of a packet, as far as its first 16 bytes and its length tell; `undefined` for what is none. */
export function packetKind(packet: Buffer): 'connect' | 'announce' | 'scrape' | undefined {
  if (packet.length < headBytes || packet.length > udpPacketMaxBytes) return undefined;
  switch (packet.readUInt32BE(8)) {
    case connectAction:
      return packet.readUInt32BE(0) === protocolIdHigh && packet.readUInt32BE(4) === protocolIdLow
        ? 'connect'
        : undefined;
    case announceAction:
      return packet.length >= announceBytes ? 'announce' : undefined;
    case scrapeAction: {
      const rest = packet.length - headBytes;
      return rest > 0 && rest % digestBytes === 0 ? 'scrape' : undefined;
    }
    default:
      return undefined;
  }
}

/** Of a packet whose kind is `announce`. What follows its 98 bytes is ignored, and so is an address of its own choice. */
export function parseAnnounce(packet: Buffer): AnnounceQuery {
  const numWant = packet.readInt32BE(92);
  return {
    infoHash: infoHashAt(packet, 16),
    peerId: packet.subarray(36, 56),
    port: packet.readUInt16BE(96),
    // Beyond 2^53 it is inexact, but not zero.
    left: packet.readUInt32BE(64) * 2 ** 32 + packet.readUInt32BE(68),
    event: events[packet.readUInt32BE(80)],
    // BEP 15 has -1 for the usual number; some send 0 for it, and those who want nobody say that they stop.
    numWant: numWant <= 0 ? numWantDefault : Math.min(numWant, numWantMax),
  };
}

/** Of a packet whose kind is `scrape`. */
export function parseScrape(packet: Buffer): InfoHash[] {
  const infoHashes: InfoHash[] = [];
  for (let at = headBytes; at < packet.length; at += digestBytes) infoHashes.push(infoHashAt(packet, at));
  return infoHashes;
}

/** The packet up to the connection id, which starts at byte 8. */
export function connectAnswer(request: Buffer): Buffer {
  return answerTo(request, connectAction, connectionIdBytes);
}

/** `peers`: compact, of the family of the socket. */
export function announceAnswer(
  request: Buffer,
  answer: Pick<TrackerAnswer, 'seeds' | 'others'>,
  peers: Buffer,
  intervalSeconds: number,
): Buffer {
  const packet = answerTo(request, announceAction, 12 + peers.length);
  packet.writeUInt32BE(intervalSeconds, 8);
  packet.writeUInt32BE(answer.others, 12);
  packet.writeUInt32BE(answer.seeds, 16);
  packet.set(peers, 20);
  return packet;
}

/** Zeros for the torrents that are not known: the protocol has no other word for it. */
export function scrapeAnswer(request: Buffer, counts: readonly (TorrentCounts | undefined)[]): Buffer {
  const packet = answerTo(request, scrapeAction, counts.length * 12);
  let at = 8;
  for (const count of counts) {
    packet.writeUInt32BE(count?.seeds ?? 0, at);
    packet.writeUInt32BE(0, at + 4);
    packet.writeUInt32BE(count?.others ?? 0, at + 8);
    at += 12;
  }
  return packet;
}

/** `message`: of ASCII. */
export function errorAnswer(request: Buffer, message: string): Buffer {
  const packet = answerTo(request, errorAction, message.length);
  packet.write(message, 8, 'latin1');
  return packet;
}

function answerTo(request: Buffer, action: number, restBytes: number): Buffer {
  const packet = Buffer.allocUnsafe(8 + restBytes);
  packet.writeUInt32BE(action, 0);
  // The transaction id.
  packet.set(request.subarray(12, 16), 4);
  return packet;
}

function infoHashAt(packet: Buffer, at: number): InfoHash {
  // Any 20 bytes in lowercase hexadecimal digits are an infohash.
  return packet.toString('hex', at, at + digestBytes) as InfoHash;
}
