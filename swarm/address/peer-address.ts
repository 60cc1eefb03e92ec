/** Where a peer listens, as trackers, catalogs and people write it. */

import { isIP, isIPv4, isIPv6 } from 'node:net';
import { NarswarmError } from '../../nar/errors.ts';

export interface PeerAddress {
  /** IP address, without brackets; a host name where a catalog names one. */
  readonly host: string;
  readonly port: number;
}

/** 4 bytes of IPv4 (BEP 23) or 16 of IPv6 (BEP 7), and 2 of the port. Empty for a host name. */
export function compactPeer({ host, port }: PeerAddress): Buffer {
  const version = isIP(host);
  if (version === 0) return Buffer.alloc(0);
  const bytes = Buffer.alloc(version === 4 ? 6 : 18);
  if (version === 4) bytes.set(host.split('.').map(Number));
  else for (const [index, group] of ipv6Groups(host).entries()) bytes.writeUInt16BE(group, index * 2);
  bytes.writeUInt16BE(port, bytes.length - 2);
  return bytes;
}

/** A list of peers as trackers give it. */
export interface CompactPeers {
  readonly ipv4: Buffer;
  readonly ipv6: Buffer;
}

/** Host names are left out. */
export function compactPeers(peers: readonly PeerAddress[]): CompactPeers {
  const pick = (version: 4 | 6): Buffer =>
    Buffer.concat(peers.filter(({ host }) => isIP(host) === version).map(compactPeer));
  return { ipv4: pick(4), ipv6: pick(6) };
}

/** Reads a list of compact peers; what lacks a port is left out. Throws `tracker-failed` when the list is not whole. */
export function parseCompactPeers(bytes: Uint8Array, version: 4 | 6): PeerAddress[] {
  const size = version === 4 ? 6 : 18;
  if (bytes.length % size !== 0)
    throw new NarswarmError('tracker-failed', 'a list of compact peers is not whole');
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const peers: PeerAddress[] = [];
  for (let at = 0; at < view.length; at += size) {
    const port = view.readUInt16BE(at + size - 2);
    if (port === 0) continue;
    const host = version === 4 ? view.subarray(at, at + 4).join('.') : ipv6Text(view.subarray(at, at + 16));
    peers.push({ host, port });
  }
  return peers;
}

/** `host:port`, an IPv6 address in brackets. */
export function printPeer({ host, port }: PeerAddress): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

/** `undefined` for what is no address. */
export function parsePeer(text: string): PeerAddress | undefined {
  const match = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9A-Za-z.-]{1,253})):([0-9]{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  const host = match?.[1] ?? match?.[2];
  if (host === undefined || !(port > 0 && port < 65_536)) return undefined;
  if (match?.[1] !== undefined && !isIPv6(host)) return undefined;
  return { host, port };
}

function ipv6Groups(address: string): number[] {
  const plain = address.split('%')[0] ?? '';
  const [front = '', back] = plain.split('::');
  const head = groupsOf(front);
  const tail = groupsOf(back ?? '');
  const zeros = back === undefined ? 0 : 8 - head.length - tail.length;
  return [...head, ...new Array<number>(zeros).fill(0), ...tail];
}

function groupsOf(text: string): number[] {
  return text.split(':').flatMap((group) => {
    if (group === '') return [];
    if (!isIPv4(group)) return [Number.parseInt(group, 16)];
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number);
    return [a * 256 + b, c * 256 + d];
  });
}

function ipv6Text(bytes: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(index * 2).toString(16));
  // The URL parser writes the one canonical form.
  return new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1);
}
