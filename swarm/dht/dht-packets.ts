/**
 * Packets of the DHT (KRPC, BEP 5), as far as this node speaks it. Pure.
 *
 * A packet is not passed on as it came: it is parsed into what it means, and written anew from that. So whoever reads it next sees
 * known keys alone, each of the right type and length, in canonical bencode.
 */

import {
  type BencodeDictionary,
  type BencodeInput,
  type BencodeValue,
  bencode,
  parseBencode,
} from '../bencode.ts';
import {
  dhtDepthMax,
  dhtErrorMaxBytes,
  dhtNodeBytes,
  dhtPacketMaxBytes,
  dhtPeerBytes,
  dhtSaltMaxBytes,
  dhtTokenMaxBytes,
  dhtTransactionMaxBytes,
  dhtValuesMax,
} from './dht-limits.ts';

/** `get` and `put` (BEP 44) are spoken for signed items that name a torrent (BEP 46), and for no other: we keep nothing for strangers. */
export type DhtMethod = 'ping' | 'find_node' | 'get_peers' | 'announce_peer' | 'get' | 'put';

export interface DhtQuery {
  kind: 'query';
  transaction: Buffer;
  method: DhtMethod;
  args: Record<string, BencodeInput>;
}

export interface DhtAnswer {
  kind: 'answer';
  transaction: Buffer;
  values: Record<string, BencodeInput>;
}

export interface DhtFailure {
  kind: 'failure';
  transaction: Buffer;
  code: number;
  message: Buffer;
}

export type DhtPacket = DhtQuery | DhtAnswer | DhtFailure;

/** `unsupported`: a query of a kind that is not spoken here, which is no fault of the sender. */
export const dhtRefusals = ['oversize', 'not-bencode', 'not-krpc', 'unsupported'] as const;
export type DhtRefusal = (typeof dhtRefusals)[number];

const idBytes = 20;
const keyBytes = 32;
const signatureBytes = 64;

/**
 * What `bytes` mean, or why they are not taken; nothing is thrown, since most of what arrives at an open port is rubbish. Addresses of
 * private networks are left out unless `localNodes`: a stranger must not be able to make us send packets into our own network.
 */
export function parseDhtPacket(bytes: Uint8Array, localNodes: boolean): DhtPacket | DhtRefusal {
  if (bytes.length > dhtPacketMaxBytes) return 'oversize';
  const message = parseMessage(bytes);
  if (message === undefined) return 'not-bencode';
  if (!(message instanceof Map)) return 'not-krpc';
  const transaction = bytesOf(message.get('t'), 1, dhtTransactionMaxBytes);
  if (transaction === undefined) return 'not-krpc';
  const type = message.get('y');
  if (isText(type, 'q')) return parseQuery(message, transaction);
  if (isText(type, 'r')) return parseAnswer(message.get('r'), transaction, localNodes);
  if (isText(type, 'e')) return parseFailure(message.get('e'), transaction);
  return 'not-krpc';
}

/** In canonical bencode. `transaction` replaces that of the packet. */
export function printDhtPacket(packet: DhtPacket, transaction: Buffer = packet.transaction): Buffer {
  if (packet.kind === 'query') return bencode({ t: transaction, y: 'q', q: packet.method, a: packet.args });
  if (packet.kind === 'answer') return bencode({ t: transaction, y: 'r', r: packet.values });
  return bencode({ t: transaction, y: 'e', e: [packet.code, packet.message] });
}

/** False for this machine, private networks and what is no single host. `bytes` begins with an IPv4 address. */
export function isPublicIpv4(bytes: Uint8Array): boolean {
  const [a = 0, b = 0, c = 0] = bytes;
  if (a === 0 || a === 10 || a === 127 || a >= 224) return false;
  if (a === 100) return b < 64 || b > 127;
  if (a === 169) return b !== 254;
  if (a === 172) return b < 16 || b > 31;
  if (a === 192) return b !== 168 && !(b === 0 && c === 0);
  return a !== 198 || (b !== 18 && b !== 19);
}

function parseMessage(bytes: Uint8Array): BencodeValue | undefined {
  try {
    // Some programs write keys in the order in which they think of them.
    return parseBencode(bytes, { depthMax: dhtDepthMax, valuesMax: dhtValuesMax, anyKeyOrder: true });
  } catch {
    return undefined;
  }
}

function parseQuery(message: BencodeDictionary, transaction: Buffer): DhtQuery | DhtRefusal {
  const name = message.get('q');
  const given = message.get('a');
  if (!Buffer.isBuffer(name) || !(given instanceof Map)) return 'not-krpc';
  const id = bytesOf(given.get('id'), idBytes);
  if (id === undefined) return 'not-krpc';
  const method = name.toString('latin1');
  if (method === 'ping') return { kind: 'query', transaction, method, args: { id } };
  if (method === 'find_node') {
    const target = bytesOf(given.get('target'), idBytes);
    return target ? { kind: 'query', transaction, method, args: { id, target } } : 'not-krpc';
  }
  if (method === 'get_peers') {
    const infoHash = bytesOf(given.get('info_hash'), idBytes);
    return infoHash ? { kind: 'query', transaction, method, args: { id, info_hash: infoHash } } : 'not-krpc';
  }
  if (method === 'announce_peer') {
    const args = announceArgs(id, given);
    return args ? { kind: 'query', transaction, method, args } : 'not-krpc';
  }
  if (method === 'get') {
    const target = bytesOf(given.get('target'), idBytes);
    return target ? { kind: 'query', transaction, method, args: { id, target } } : 'not-krpc';
  }
  if (method === 'put') {
    // An immutable item.
    if (!given.has('k') && !given.has('sig')) return 'unsupported';
    const args = putArgs(id, given);
    return args ? { kind: 'query', transaction, method, args } : 'not-krpc';
  }
  return 'unsupported';
}

function putArgs(id: Buffer, given: BencodeDictionary): Record<string, BencodeInput> | undefined {
  const token = bytesOf(given.get('token'), 1, dhtTokenMaxBytes);
  const item = itemOf(given);
  const salt = given.has('salt') ? bytesOf(given.get('salt'), 0, dhtSaltMaxBytes) : Buffer.alloc(0);
  const cas = given.get('cas');
  if (token === undefined || item === undefined || salt === undefined) return undefined;
  if (cas !== undefined && !isCount(cas)) return undefined;
  return {
    ...{ id, token, ...item },
    ...(salt.length === 0 ? {} : { salt }),
    ...(cas === undefined ? {} : { cas }),
  };
}

/** A signed item whose value is the infohash of a torrent; `undefined` for any other. Whether the signature holds is looked at later. */
function itemOf(given: BencodeDictionary): Record<'k' | 'seq' | 'sig' | 'v', BencodeInput> | undefined {
  const k = bytesOf(given.get('k'), keyBytes);
  const sig = bytesOf(given.get('sig'), signatureBytes);
  const seq = given.get('seq');
  const v = given.get('v');
  if (k === undefined || sig === undefined || !isCount(seq)) return undefined;
  if (!(v instanceof Map) || v.size !== 1) return undefined;
  const ih = bytesOf(v.get('ih'), idBytes);
  return ih && { k, seq, sig, v: { ih } };
}

function isCount(value: BencodeValue | undefined): value is number {
  return typeof value === 'number' && value >= 0;
}

/** With `implied_port`, the port is that of the packet, and the one that is written there means nothing. */
function announceArgs(id: Buffer, given: BencodeDictionary): Record<string, BencodeInput> | undefined {
  const infoHash = bytesOf(given.get('info_hash'), idBytes);
  const token = bytesOf(given.get('token'), 1, dhtTokenMaxBytes);
  const implied = given.get('implied_port') ?? 0;
  const port = given.get('port');
  if (infoHash === undefined || token === undefined || typeof implied !== 'number') return undefined;
  if (implied !== 0) return { id, info_hash: infoHash, token, implied_port: 1 };
  if (typeof port !== 'number' || port < 1 || port > 65_535) return undefined;
  return { id, info_hash: infoHash, token, implied_port: 0, port };
}

function parseAnswer(
  given: BencodeValue | undefined,
  transaction: Buffer,
  localNodes: boolean,
): DhtAnswer | DhtRefusal {
  if (!(given instanceof Map)) return 'not-krpc';
  const id = bytesOf(given.get('id'), idBytes);
  if (id === undefined) return 'not-krpc';
  const values: Record<string, BencodeInput> = { id };
  if (given.has('token')) {
    const token = bytesOf(given.get('token'), 1, dhtTokenMaxBytes);
    if (token === undefined) return 'not-krpc';
    values.token = token;
  }
  if (given.has('nodes')) {
    const nodes = parseNodes(given.get('nodes'), localNodes);
    if (nodes === undefined) return 'not-krpc';
    values.nodes = nodes;
  }
  if (given.has('values')) {
    const peers = parsePeers(given.get('values'), localNodes);
    if (peers === undefined) return 'not-krpc';
    values.values = peers;
  }
  // Somebody else's kind of item is left out; the nodes beside it are of use.
  Object.assign(values, itemOf(given));
  return { kind: 'answer', transaction, values };
}

function parseNodes(given: BencodeValue | undefined, localNodes: boolean): Buffer | undefined {
  if (!Buffer.isBuffer(given) || given.length % dhtNodeBytes !== 0) return undefined;
  const taken: Buffer[] = [];
  for (let at = 0; at < given.length; at += dhtNodeBytes) {
    const node = given.subarray(at, at + dhtNodeBytes);
    if (isReachable(node.subarray(idBytes), localNodes)) taken.push(node);
  }
  return Buffer.concat(taken);
}

/** Peers with IPv6 addresses (18 bytes) are left out: the library reads the first 6 bytes of each as IPv4. */
function parsePeers(given: BencodeValue | undefined, localNodes: boolean): Buffer[] | undefined {
  if (!Array.isArray(given)) return undefined;
  const taken: Buffer[] = [];
  for (const peer of given) {
    if (!Buffer.isBuffer(peer)) return undefined;
    if (peer.length === dhtPeerBytes && isReachable(peer, localNodes)) taken.push(peer);
  }
  return taken;
}

function isReachable(address: Buffer, localNodes: boolean): boolean {
  return address.readUInt16BE(4) !== 0 && (localNodes || isPublicIpv4(address));
}

function parseFailure(given: BencodeValue | undefined, transaction: Buffer): DhtFailure | DhtRefusal {
  if (!Array.isArray(given)) return 'not-krpc';
  const [code, message] = given;
  if (typeof code !== 'number' || !Buffer.isBuffer(message)) return 'not-krpc';
  return { kind: 'failure', transaction, code, message: message.subarray(0, dhtErrorMaxBytes) };
}

function bytesOf(
  value: BencodeValue | undefined,
  minBytes: number,
  maxBytes: number = minBytes,
): Buffer | undefined {
  if (!Buffer.isBuffer(value) || value.length < minBytes || value.length > maxBytes) return undefined;
  return value;
}

function isText(value: BencodeValue | undefined, text: string): boolean {
  return Buffer.isBuffer(value) && value.toString('latin1') === text;
}
