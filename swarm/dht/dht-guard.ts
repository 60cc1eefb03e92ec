/**
 * Stands between the socket and bittorrent-dht, which throws out of the process for a packet with an integer in the wrong place.
 *
 * In: packets that parse, answers that were asked for, and queries within the limits, each written anew. Out: transaction ids that
 * cannot be guessed (the library counts up), and answers that are not larger than they should be.
 */

import type { PeerAddress } from '../address/peer-address.ts';
import { type BencodeDictionary, bencode, parseBencode } from '../bencode.ts';
import { type DhtLimits, dhtAnsweredNodesMax, dhtAnsweredPeersMax, dhtNodeBytes } from './dht-limits.ts';
import { dhtRefusals, isPublicIpv4, parseDhtPacket, printDhtPacket } from './dht-packets.ts';

/** `unasked`: an answer to no question of ours. The last two: queries above the limits. */
export const dhtDropReasons = [...dhtRefusals, 'unasked', 'address-limit', 'total-limit'] as const;
export type DhtDropReason = (typeof dhtDropReasons)[number];
export type DhtDrops = Record<DhtDropReason, number>;

export function noDrops(): DhtDrops {
  return {
    oversize: 0,
    'not-bencode': 0,
    'not-krpc': 0,
    unsupported: 0,
    unasked: 0,
    'address-limit': 0,
    'total-limit': 0,
  };
}

export type GuardLimits = Pick<
  DhtLimits,
  'queryWindowMs' | 'queriesPerAddressMax' | 'queriesMax' | 'transactionsMax'
>;

export interface DhtGuardOptions {
  limits: GuardLimits;
  /** Milliseconds that never go back. */
  clock: () => number;
  /** Bytes that nobody can guess. */
  random: (lengthBytes: number) => Buffer;
}

interface Transaction {
  to: PeerAddress;
  /** The id that the library gave it. */
  id: Buffer;
}

/** Bytes of our transaction ids. */
const ourTransactionBytes = 4;

/** What the library itself may put into one packet: all peers that it remembers. */
const ownValuesMax = 100_000;

export class DhtGuard {
  readonly drops = noDrops();
  received = 0;
  readonly #options: DhtGuardOptions;
  /** By the id that is on the wire, the oldest first. One that is never answered stays until newer ones push it out. */
  readonly #transactions = new Map<string, Transaction>();
  /** Queries in this window; never more addresses than queries. */
  readonly #queries = new Map<string, number>();
  #queriesTaken = 0;
  #windowEndsMs = Number.NEGATIVE_INFINITY;

  constructor(options: DhtGuardOptions) {
    this.#options = options;
  }

  /** What the library gets to see of a packet; `undefined` for nothing. */
  incoming(bytes: Uint8Array, from: PeerAddress): Buffer | undefined {
    this.received++;
    const packet = parseDhtPacket(bytes, !isPublicIpv4(addressBytes(from)));
    if (typeof packet === 'string') return this.#drop(packet);
    if (packet.kind === 'query') {
      const limit = this.#limitOn(from.host);
      return limit === undefined ? printDhtPacket(packet) : this.#drop(limit);
    }
    const key = packet.transaction.toString('hex');
    const transaction = this.#transactions.get(key);
    if (transaction === undefined || transaction.to.host !== from.host || transaction.to.port !== from.port)
      return this.#drop('unasked');
    this.#transactions.delete(key);
    return printDhtPacket(packet, transaction.id);
  }

  /** What is sent of a packet that the library wrote. */
  outgoing(bytes: Uint8Array, to: PeerAddress): Buffer {
    const message = parseBencode(bytes, { valuesMax: ownValuesMax, anyKeyOrder: true });
    if (!(message instanceof Map)) throw new TypeError('the library wrote something else than a dictionary');
    if (isQuery(message)) message.set('t', this.#ask(message.get('t'), to));
    else shorten(message);
    return bencode(message);
  }

  #ask(id: unknown, to: PeerAddress): Buffer {
    if (!Buffer.isBuffer(id)) throw new TypeError('the library wrote a query without a transaction id');
    const wireId = this.#options.random(ourTransactionBytes);
    this.#transactions.set(wireId.toString('hex'), { to, id });
    if (this.#transactions.size > this.#options.limits.transactionsMax) {
      const [oldest] = this.#transactions.keys();
      if (oldest !== undefined) this.#transactions.delete(oldest);
    }
    return wireId;
  }

  /** Counts a query; says which limit forbids to take it. */
  #limitOn(address: string): 'address-limit' | 'total-limit' | undefined {
    const { limits, clock } = this.#options;
    const nowMs = clock();
    if (nowMs >= this.#windowEndsMs) {
      this.#windowEndsMs = nowMs + limits.queryWindowMs;
      this.#queries.clear();
      this.#queriesTaken = 0;
    }
    const taken = this.#queries.get(address) ?? 0;
    if (taken >= limits.queriesPerAddressMax) return 'address-limit';
    if (this.#queriesTaken >= limits.queriesMax) return 'total-limit';
    this.#queriesTaken++;
    this.#queries.set(address, taken + 1);
    return undefined;
  }

  #drop(reason: DhtDropReason): undefined {
    this.drops[reason]++;
  }
}

function isQuery(message: BencodeDictionary): boolean {
  const type = message.get('y');
  return Buffer.isBuffer(type) && type.toString('latin1') === 'q';
}

/** The library puts the peers in another order each time, so that the first ones are any, and the nearest nodes first. */
function shorten(message: BencodeDictionary): void {
  const answer = message.get('r');
  if (!(answer instanceof Map)) return;
  const peers = answer.get('values');
  if (Array.isArray(peers)) answer.set('values', peers.slice(0, dhtAnsweredPeersMax));
  const nodes = answer.get('nodes');
  if (Buffer.isBuffer(nodes)) answer.set('nodes', nodes.subarray(0, dhtAnsweredNodesMax * dhtNodeBytes));
}

function addressBytes({ host }: PeerAddress): Uint8Array {
  return Uint8Array.from(host.split('.', 4), Number);
}
