/** The query of an announce or scrape, percent-encoded bytes and all. BEP 3, 7, 23, 48. */

import { NarswarmError } from '../../nar/errors.ts';
import { type InfoHash, infoHashFromDigest } from '../../nar/hash.ts';

/** BitTorrent programs send 300 to 500 characters; a scrape of `scrapeMaxInfoHashes` torrents is the longest. */
export const trackerQueryMaxCharacters = 8_192;
/** Torrents in one scrape. */
export const scrapeMaxInfoHashes = 64;
/** Peers in one answer when the requester does not say, and at most. */
export const numWantDefault = 30;
export const numWantMax = 50;

export interface AnnounceQuery {
  infoHash: InfoHash;
  /** 20 bytes. */
  peerId: Uint8Array;
  /** 0 when the requester takes no connections. */
  port: number;
  /** Bytes that the requester still lacks; 0 makes it a seed. */
  left: number;
  event: 'started' | 'stopped' | 'completed' | undefined;
  numWant: number;
}

/** Throws `tracker-failed`, with a message for the requester. */
export function parseAnnounceQuery(query: string): AnnounceQuery {
  const parameters = parse(query);
  const one = (name: string): Buffer | undefined => parameters.get(name)?.[0];
  const event = one('event')?.toString('latin1');
  return {
    infoHash: infoHashOf(one('info_hash')),
    peerId: bytes20('peer_id', one('peer_id')),
    port: portOf(wholeNumber('port', one('port'), 0, 65_536) ?? 0),
    left: wholeNumber('left', one('left'), 0, Number.MAX_SAFE_INTEGER) ?? 1,
    event: event === 'started' || event === 'stopped' || event === 'completed' ? event : undefined,
    numWant: numWantOf(wholeNumber('numwant', one('numwant'), -1, numWantMax)),
  };
}

/** Throws `tracker-failed`; also without any infohash, since nobody needs a list of everything. */
export function parseScrapeQuery(query: string): InfoHash[] {
  const infoHashes = (parse(query).get('info_hash') ?? []).map(infoHashOf);
  if (infoHashes.length === 0) throw failed('a scrape names the torrents that it asks for');
  if (infoHashes.length > scrapeMaxInfoHashes)
    throw failed(`a scrape names at most ${scrapeMaxInfoHashes} torrents`);
  return infoHashes;
}

function parse(query: string): Map<string, Buffer[]> {
  if (query.length > trackerQueryMaxCharacters) throw failed('the query is too long');
  const parameters = new Map<string, Buffer[]>();
  for (const part of query.split('&')) {
    const equals = part.indexOf('=');
    const name = equals < 0 ? part : part.slice(0, equals);
    const values = parameters.get(name);
    const value = unescapeBytes(equals < 0 ? '' : part.slice(equals + 1));
    if (values === undefined) parameters.set(name, [value]);
    else values.push(value);
  }
  return parameters;
}

/** Bytes, not text: an infohash is seldom UTF-8. A `%` without two digits stands for itself. */
function unescapeBytes(text: string): Buffer {
  const bytes = Buffer.allocUnsafe(text.length);
  let length = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    const high = code === percent ? digitOf(text.charCodeAt(at + 1)) : -1;
    const low = high < 0 ? -1 : digitOf(text.charCodeAt(at + 2));
    if (low < 0) bytes[length++] = code;
    else {
      bytes[length++] = high * 16 + low;
      at += 2;
    }
  }
  return bytes.subarray(0, length);
}

const percent = 0x25;

/** Of a hexadecimal digit; -1 for what is none, the end of the text included. */
function digitOf(code: number): number {
  if (code >= 48 && code <= 57) return code - 48;
  const letter = code | 32;
  return letter >= 97 && letter <= 102 ? letter - 87 : -1;
}

function portOf(port: number): number {
  if (port > 65_535) throw failed('port is no such number');
  return port;
}

/** Some programs write -1 for "as many as you like to give". */
function numWantOf(asked: number | undefined): number {
  return asked === undefined || asked < 0 ? numWantDefault : asked;
}

function infoHashOf(value: Buffer | undefined): InfoHash {
  return infoHashFromDigest(bytes20('info_hash', value));
}

function bytes20(name: string, value: Buffer | undefined): Buffer {
  if (value?.length !== 20) throw failed(`${name} has to be 20 bytes`);
  return value;
}

function wholeNumber(
  name: string,
  value: Buffer | undefined,
  least: number,
  most: number,
): number | undefined {
  if (value === undefined || value.length === 0) return undefined;
  const text = value.toString('latin1');
  const number = /^-?[0-9]{1,20}$/.test(text) ? Number(text) : Number.NaN;
  if (!(number >= least)) throw failed(`${name} is no such number`);
  return Math.min(number, most);
}

function failed(message: string): NarswarmError {
  return new NarswarmError('tracker-failed', message);
}
