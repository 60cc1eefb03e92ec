/** Announces to an HTTP tracker. BEP 3, 7, 23. */

import { request } from 'node:http';
import { request as requestTls } from 'node:https';
import { isNarswarmError, NarswarmError } from '../../nar/errors.ts';
import { type InfoHash, infoHashToDigest } from '../../nar/hash.ts';
import { type PeerAddress, parseCompactPeers, parsePeer } from '../address/peer-address.ts';
import { type BencodeValue, parseBencode } from '../bencode.ts';

/** 200 peers in the old, long form are 20 KB. */
export const announceMaxBytes = 256 * 1024;
export const announceTimeoutMs = 10_000;
/** Peers taken from one answer. */
export const announceMaxPeers = 200;
/** Bounds on what a tracker may ask for. */
export const announceIntervalMinSeconds = 60;
export const announceIntervalMaxSeconds = 24 * 3_600;

export interface Announce {
  /** Of the tracker, `http(s)://…/announce`. */
  url: string;
  infoHash: InfoHash;
  /** 20 bytes. */
  peerId: Uint8Array;
  /** Where we listen; 0 for nowhere. */
  port: number;
  /** Bytes. */
  uploaded: number;
  downloaded: number;
  left: number;
  event?: 'started' | 'stopped' | 'completed';
  numWant?: number;
  signal?: AbortSignal;
  /** Whether a tracker that was reached at an address may name a peer; by default it may name anybody. */
  allows?: (peer: PeerAddress, askedAt: string | undefined) => boolean;
}

export interface AnnounceAnswer {
  intervalSeconds: number;
  peers: PeerAddress[];
}

/** Throws `tracker-failed` for every answer that is none, a refusal included, and `aborted` when the signal says so. */
export async function announce(options: Announce): Promise<AnnounceAnswer> {
  try {
    const signals = [AbortSignal.timeout(announceTimeoutMs), ...(options.signal ? [options.signal] : [])];
    const { body, askedAt } = await get(announceUrl(options), AbortSignal.any(signals));
    const { peers, ...answer } = parseAnnounceAnswer(body);
    const { allows } = options;
    return { ...answer, peers: allows ? peers.filter((peer) => allows(peer, askedAt)) : peers };
  } catch (error) {
    if (options.signal?.aborted)
      throw new NarswarmError('aborted', 'announcing was given up', { cause: error });
    if (isNarswarmError(error, 'tracker-failed')) throw error;
    throw new NarswarmError('tracker-failed', `announcing to ${options.url} failed`, { cause: error });
  }
}

function announceUrl(options: Announce): URL {
  const url = new URL(options.url);
  const parameters = [
    `info_hash=${escapeBytes(infoHashToDigest(options.infoHash))}`,
    `peer_id=${escapeBytes(options.peerId)}`,
    `port=${options.port}`,
    `uploaded=${options.uploaded}`,
    `downloaded=${options.downloaded}`,
    `left=${options.left}`,
    'compact=1',
    ...(options.event === undefined ? [] : [`event=${options.event}`]),
    ...(options.numWant === undefined ? [] : [`numwant=${options.numWant}`]),
  ];
  url.search = [...(url.search === '' ? [] : [url.search.slice(1)]), ...parameters].join('&');
  return url;
}

function escapeBytes(bytes: Uint8Array): string {
  return [...bytes].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
}

async function get(url: URL, signal: AbortSignal): Promise<{ body: Buffer; askedAt: string | undefined }> {
  const send = url.protocol === 'https:' ? requestTls : request;
  return new Promise((resolve, reject) => {
    const outgoing = send(
      url,
      { signal, agent: false, headers: { 'user-agent': 'narswarm' } },
      (incoming) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        const askedAt = incoming.socket.remoteAddress;
        incoming.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          chunks.push(chunk);
          if (bytes > announceMaxBytes) incoming.destroy(failed('its answer is too long'));
        });
        incoming.on('error', reject);
        incoming.on('end', () => {
          if (incoming.statusCode === 200) resolve({ body: Buffer.concat(chunks), askedAt });
          else reject(failed(`it answered with status ${incoming.statusCode}`));
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end();
  });
}

/** Throws `tracker-failed` for what is none, a refusal included; `bencode-invalid` for what is not bencode. */
export function parseAnnounceAnswer(body: Buffer): AnnounceAnswer {
  const answer = parseBencode(body, { anyKeyOrder: true });
  if (!(answer instanceof Map)) throw failed('its answer is no dictionary');
  const failure = answer.get('failure reason');
  if (Buffer.isBuffer(failure)) throw failed(`it says ${JSON.stringify(failure.toString().slice(0, 200))}`);
  const interval = answer.get('interval');
  if (typeof interval !== 'number') throw failed('its answer has no interval');
  const peers = [...peersOf(answer.get('peers')), ...compactPeersOf(answer.get('peers6'), 6)];
  return {
    intervalSeconds: Math.min(Math.max(interval, announceIntervalMinSeconds), announceIntervalMaxSeconds),
    peers: peers.slice(0, announceMaxPeers),
  };
}

function peersOf(value: BencodeValue | undefined): PeerAddress[] {
  if (!Array.isArray(value)) return compactPeersOf(value, 4);
  return value.flatMap((peer) => {
    if (!(peer instanceof Map)) return [];
    const host = peer.get('ip');
    const port = peer.get('port');
    if (!Buffer.isBuffer(host) || typeof port !== 'number') return [];
    const text = host.toString('latin1');
    return parsePeer(text.includes(':') ? `[${text}]:${port}` : `${text}:${port}`) ?? [];
  });
}

function compactPeersOf(value: BencodeValue | undefined, version: 4 | 6): PeerAddress[] {
  if (value === undefined) return [];
  if (!Buffer.isBuffer(value)) throw failed('its list of peers is none');
  return parseCompactPeers(value, version);
}

function failed(why: string): NarswarmError {
  return new NarswarmError('tracker-failed', `the tracker gave no usable answer: ${why}`);
}
