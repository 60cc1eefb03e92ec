/**
 * Which peers announced which torrents: 48 bytes for a torrent and 32 for a peer, in two slabs. The tracker decides; here is only
 * where it is kept.
 *
 * A torrent is found through a hash table of chains, and is in a list of all, the one that was announced longest ago first. Its
 * peers are a list in the same order. Offsets of records are what this module and the tracker pass around.
 */

import { randomInt } from 'node:crypto';
import type { InfoHash } from '../../nar/hash.ts';
import { mix } from '../address/address-counts.ts';
import type { IpAddress } from '../address/ip-address.ts';
import { none, Slab } from './slab.ts';

/** Fields of a torrent, by offset in its record. */
const torrent = {
  hash: 0,
  first: 20,
  last: 24,
  peers: 28,
  seeds: 30,
  older: 32,
  newer: 36,
  chain: 40,
  facts: 44,
};
const torrentBytes = 48;
/** Fields of a peer. */
const peer = { address: 0, port: 16, flags: 18, seen: 20, id: 24, next: 28 };
const peerBytes = 32;
const seedFlag = 1;
const ipv4Flag = 2;

const digestBytes = 20;
const addressBytes = 16;

export class PeerTable {
  readonly #torrents: Slab;
  readonly #peers: Slab;
  /** Heads of chains, a power of two of them. */
  #buckets = new Int32Array(1_024).fill(none);
  readonly #key = randomInt(2 ** 32);
  readonly #digest = Buffer.alloc(digestBytes);
  readonly #digestView = new DataView(this.#digest.buffer, this.#digest.byteOffset, digestBytes);
  #oldest = none;
  #newest = none;

  constructor(torrentsMax: number, peersMax: number) {
    this.#torrents = new Slab(torrentBytes, torrentsMax);
    this.#peers = new Slab(peerBytes, peersMax);
  }

  get torrents(): number {
    return this.#torrents.used;
  }

  get peers(): number {
    return this.#peers.used;
  }

  get sizeBytes(): number {
    return this.#torrents.sizeBytes + this.#peers.sizeBytes + this.#buckets.byteLength;
  }

  /** The torrent that was announced longest ago, or `none`. */
  get oldest(): number {
    return this.#oldest;
  }

  find(infoHash: InfoHash): number {
    const { view } = this.#torrents;
    let at = this.#buckets[this.#bucketOf(infoHash)] ?? none;
    while (at !== none && !this.#hasDigest(at)) at = view.getInt32(at + torrent.chain);
    return at;
  }

  /** A torrent that is not there yet, without peers. There must be room for it. */
  add(infoHash: InfoHash): number {
    if (this.#torrents.used >= this.#buckets.length) this.#moreBuckets();
    const bucket = this.#bucketOf(infoHash);
    const at = this.#torrents.take();
    const { view, bytes } = this.#torrents;
    bytes.set(this.#digest, at);
    view.setInt32(at + torrent.first, none);
    view.setInt32(at + torrent.last, none);
    view.setInt32(at + torrent.chain, this.#buckets[bucket] ?? none);
    this.#buckets[bucket] = at;
    this.#append(at);
    return at;
  }

  /** A torrent whose peers were taken out before. */
  remove(at: number): void {
    const { view, bytes } = this.#torrents;
    this.#digest.set(bytes.subarray(at, at + digestBytes));
    const bucket = this.#bucketOfDigest();
    const after = view.getInt32(at + torrent.chain);
    let link = this.#buckets[bucket] ?? none;
    if (link === at) this.#buckets[bucket] = after;
    else {
      while (view.getInt32(link + torrent.chain) !== at) link = view.getInt32(link + torrent.chain);
      view.setInt32(link + torrent.chain, after);
    }
    this.#takeOut(at);
    this.#torrents.give(at);
  }

  /** Makes it the one that was announced last. */
  touch(at: number): void {
    if (at === this.#newest) return;
    this.#takeOut(at);
    this.#append(at);
  }

  newerThan(at: number): number {
    return this.#torrents.view.getInt32(at + torrent.newer);
  }

  peersOf(at: number): number {
    return this.#torrents.view.getUint16(at + torrent.peers);
  }

  seedsOf(at: number): number {
    return this.#torrents.view.getUint16(at + torrent.seeds);
  }

  /** 32 bits that the tracker keeps with a torrent. */
  factsOf(at: number): number {
    return this.#torrents.view.getUint32(at + torrent.facts);
  }

  setFacts(at: number, facts: number): void {
    this.#torrents.view.setUint32(at + torrent.facts, facts);
  }

  // Peers

  /** The peer of a torrent that announced longest ago, or `none`. */
  firstPeer(at: number): number {
    return this.#torrents.view.getInt32(at + torrent.first);
  }

  nextPeer(of: number): number {
    return this.#peers.view.getInt32(of + peer.next);
  }

  isSeed(of: number): boolean {
    return (this.#peers.view.getUint8(of + peer.flags) & seedFlag) !== 0;
  }

  isIpv4(of: number): boolean {
    return (this.#peers.view.getUint8(of + peer.flags) & ipv4Flag) !== 0;
  }

  portOf(of: number): number {
    return this.#peers.view.getUint16(of + peer.port);
  }

  seenOf(of: number): number {
    return this.#peers.view.getUint32(of + peer.seen);
  }

  /** 32 bits that stand for the peer's id. */
  idOf(of: number): number {
    return this.#peers.view.getInt32(of + peer.id);
  }

  isAt(of: number, { view }: IpAddress): boolean {
    const peers = this.#peers.view;
    return (
      peers.getInt32(of + 12) === view.getInt32(12) &&
      peers.getInt32(of) === view.getInt32(0) &&
      peers.getInt32(of + 4) === view.getInt32(4) &&
      peers.getInt32(of + 8) === view.getInt32(8)
    );
  }

  /** Whether both count as one address. */
  isBeside(of: number, address: IpAddress): boolean {
    const { view, groupOffset: at } = address;
    const peers = this.#peers.view;
    return (
      this.isIpv4(of) === address.isIpv4 &&
      peers.getInt32(of + at) === view.getInt32(at) &&
      peers.getInt32(of + at + 4) === view.getInt32(at + 4)
    );
  }

  readAddress(of: number, into: IpAddress): void {
    into.bytes.set(this.#peers.bytes.subarray(of, of + addressBytes));
    into.isIpv4 = this.isIpv4(of);
  }

  /** Writes a compact peer, 6 or 18 bytes, as its family has it; returns the offset after it. */
  writePeer(of: number, into: Buffer, at: number): number {
    const { bytes } = this.#peers;
    let to = at;
    for (let from = of + (this.isIpv4(of) ? 12 : 0); from < of + addressBytes + 2; from++)
      into[to++] = bytes[from] ?? 0;
    return to;
  }

  /** The torrent's last one from now on. There must be room for it. */
  addPeer(
    at: number,
    address: IpAddress,
    facts: { port: number; seed: boolean; seen: number; id: number },
  ): void {
    const of = this.#peers.take();
    const { view, bytes } = this.#peers;
    bytes.set(address.bytes, of);
    view.setUint16(of + peer.port, facts.port);
    view.setUint8(of + peer.flags, (facts.seed ? seedFlag : 0) | (address.isIpv4 ? ipv4Flag : 0));
    view.setUint32(of + peer.seen, facts.seen);
    view.setInt32(of + peer.id, facts.id);
    view.setInt32(of + peer.next, none);
    const torrents = this.#torrents.view;
    const last = torrents.getInt32(at + torrent.last);
    if (last === none) torrents.setInt32(at + torrent.first, of);
    else view.setInt32(last + peer.next, of);
    torrents.setInt32(at + torrent.last, of);
    this.#count(at, 1, facts.seed);
  }

  /** `before`: the one before it in the list, or `none`. */
  removePeer(at: number, before: number, of: number): void {
    const { view } = this.#peers;
    const torrents = this.#torrents.view;
    const after = view.getInt32(of + peer.next);
    if (before === none) torrents.setInt32(at + torrent.first, after);
    else view.setInt32(before + peer.next, after);
    if (after === none) torrents.setInt32(at + torrent.last, before);
    this.#count(at, -1, this.isSeed(of));
    this.#peers.give(of);
  }

  #count(at: number, change: 1 | -1, seed: boolean): void {
    const { view } = this.#torrents;
    view.setUint16(at + torrent.peers, view.getUint16(at + torrent.peers) + change);
    if (seed) view.setUint16(at + torrent.seeds, view.getUint16(at + torrent.seeds) + change);
  }

  // List of all torrents

  #append(at: number): void {
    const { view } = this.#torrents;
    view.setInt32(at + torrent.older, this.#newest);
    view.setInt32(at + torrent.newer, none);
    if (this.#newest === none) this.#oldest = at;
    else view.setInt32(this.#newest + torrent.newer, at);
    this.#newest = at;
  }

  #takeOut(at: number): void {
    const { view } = this.#torrents;
    const older = view.getInt32(at + torrent.older);
    const newer = view.getInt32(at + torrent.newer);
    if (older === none) this.#oldest = newer;
    else view.setInt32(older + torrent.newer, newer);
    if (newer === none) this.#newest = older;
    else view.setInt32(newer + torrent.older, older);
  }

  // Hash table

  #bucketOf(infoHash: InfoHash): number {
    this.#digest.write(infoHash, 'hex');
    return this.#bucketOfDigest();
  }

  #bucketOfDigest(): number {
    let hash = this.#key;
    for (let offset = 0; offset < digestBytes; offset += 4)
      hash = mix(hash, this.#digestView.getInt32(offset));
    return hash & (this.#buckets.length - 1);
  }

  #hasDigest(at: number): boolean {
    const { view } = this.#torrents;
    for (let offset = 0; offset < digestBytes; offset += 4)
      if (view.getInt32(at + offset) !== this.#digestView.getInt32(offset)) return false;
    return true;
  }

  #moreBuckets(): void {
    this.#buckets = new Int32Array(this.#buckets.length * 2).fill(none);
    const { view, bytes } = this.#torrents;
    for (let at = this.#oldest; at !== none; at = view.getInt32(at + torrent.newer)) {
      this.#digest.set(bytes.subarray(at, at + digestBytes));
      const bucket = this.#bucketOfDigest();
      view.setInt32(at + torrent.chain, this.#buckets[bucket] ?? none);
      this.#buckets[bucket] = at;
    }
  }
}
