/** The packets of local service discovery, as `BT-SEARCH` with lines like those of HTTP. BEP 14. */

import { isNarswarmError } from '../../nar/errors.ts';
import type { InfoHash } from '../../nar/hash.ts';
import { parseInfoHash } from '../../nar/hash.ts';

/** Bytes of a packet, as the BEP has it: what fits into one frame everywhere. */
export const localPacketMaxBytes = 1_400;

/** Infohashes in one packet: 52 bytes each, beside 150 of the rest. */
export const localPacketMaxInfoHashes = 24;

/** Lines of a packet that are looked at; 1,400 bytes hold no more that mean something. */
const linesMax = 40;
const cookieMaxCharacters = 64;

export interface LocalAnnounce {
  /** Where the sender takes connections, at the address that the packet came from. */
  port: number;
  /** At least one, each once. */
  infoHashes: InfoHash[];
  /** Whatever the sender knows its own packets by. */
  cookie: string | undefined;
}

/** `host`: the group that it is sent to, an IPv6 address in brackets, with the port. */
export function printLocalAnnounce(host: string, { port, infoHashes, cookie }: LocalAnnounce): Buffer {
  const lines = [
    'BT-SEARCH * HTTP/1.1',
    `Host: ${host}`,
    `Port: ${port}`,
    ...infoHashes.map((infoHash) => `Infohash: ${infoHash}`),
    ...(cookie === undefined ? [] : [`cookie: ${cookie}`]),
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n\r\n`, 'latin1');
}

/** `undefined` for what is none. Unknown lines, and infohashes that are none, are passed over; names are read in any case. */
export function parseLocalAnnounce(packet: Buffer): LocalAnnounce | undefined {
  if (packet.length > localPacketMaxBytes) return undefined;
  const [first, ...lines] = packet.toString('latin1').split('\r\n', linesMax);
  if (first !== 'BT-SEARCH * HTTP/1.1') return undefined;
  const infoHashes = new Set<InfoHash>();
  let port: number | undefined;
  let cookie: string | undefined;
  for (const line of lines) {
    if (line === '') break;
    const colon = line.indexOf(':');
    const name = line.slice(0, Math.max(colon, 0)).toLowerCase();
    const value = line.slice(colon + 1).trim();
    if (name === 'port') {
      if (port !== undefined || !/^\d{1,5}$/.test(value)) return undefined;
      port = Number(value);
    } else if (name === 'infohash') {
      const infoHash = infoHashOf(value);
      if (infoHash !== undefined) infoHashes.add(infoHash);
    } else if (name === 'cookie' && value.length <= cookieMaxCharacters) cookie = value;
  }
  if (port === undefined || port < 1 || port > 65_535 || infoHashes.size === 0) return undefined;
  return { port, infoHashes: [...infoHashes], cookie };
}

function infoHashOf(text: string): InfoHash | undefined {
  try {
    return parseInfoHash(text.toLowerCase());
  } catch (error) {
    if (isNarswarmError(error)) return undefined;
    throw error;
  }
}
