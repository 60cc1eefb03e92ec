/**
 * What is asked of the DHT besides announces: who has a torrent (BEP 5), and signed items (BEP 44). Runs in the child process, on k-rpc,
 * whose walks can be ended: those of `get` and `put` in bittorrent-dht go on as long as somebody names nearer nodes.
 */

import type { InfoHash } from '../../nar/hash.ts';
import { infoHashFromDigest, infoHashToDigest } from '../../nar/hash.ts';
import type { PeerAddress } from '../address/peer-address.ts';
import { type DhtItem, type DhtItemName, dhtItemTarget, dhtItemValue, isDhtItemSigned } from './dht-item.ts';
import { dhtFoundPeersMax, dhtItemNodes } from './dht-limits.ts';

export interface RpcMessage {
  q: string;
  a: Record<string, unknown>;
}

/** A packet that the guard has passed: what is there has the right type and length. */
export interface RpcReply {
  r?: {
    id: Buffer;
    token?: Buffer;
    values?: Buffer[];
    k?: Buffer;
    sig?: Buffer;
    seq?: number;
    v?: { ih: Buffer };
  };
}

export interface RpcNode {
  id?: Buffer;
  host: string;
  port: number;
  /** Goes with what is asked of it. */
  token?: Buffer;
}

/** What is used of k-rpc. */
export interface Rpc {
  /** Asks the nodes next to `target`, and those that they name, until `visit` gives false. */
  closest(
    target: Buffer,
    message: RpcMessage,
    visit: (reply: RpcReply, from: { address?: string; host?: string; port: number }) => boolean,
    done: () => void,
  ): void;
  query(node: RpcNode, message: RpcMessage, done: (error: Error | null) => void): void;
}

/** Items that this node itself keeps. */
export interface ItemStore {
  get(target: Buffer): DhtItem | undefined;
  set(target: Buffer, item: DhtItem): void;
}

export interface DhtLookupsOptions {
  rpc: Rpc;
  items: ItemStore;
  /** How long one walk takes at most. */
  lookupMs: number;
}

export class DhtLookups {
  readonly #rpc: Rpc;
  readonly #items: ItemStore;
  readonly #lookupMs: number;

  constructor({ rpc, items, lookupMs }: DhtLookupsOptions) {
    this.#rpc = rpc;
    this.#items = items;
    this.#lookupMs = lookupMs;
  }

  async findPeers(infoHash: InfoHash): Promise<PeerAddress[]> {
    const peers = new Map<string, PeerAddress>();
    const target = infoHashToDigest(infoHash);
    await this.#walk(target, { q: 'get_peers', a: { info_hash: target } }, ({ r }) => {
      for (const compact of r?.values ?? []) {
        if (peers.size < dhtFoundPeersMax) peers.set(compact.toString('hex'), peerOf(compact));
      }
    });
    return [...peers.values()];
  }

  /** The newest that any node has and its key signed. */
  async getItem(name: DhtItemName): Promise<DhtItem | undefined> {
    const target = dhtItemTarget(name);
    let newest = this.#items.get(target);
    await this.#walk(target, { q: 'get', a: { target } }, (reply) => {
      const item = itemIn(reply, name);
      if (item !== undefined && item.seq > (newest?.seq ?? -1) && isDhtItemSigned(item)) newest = item;
    });
    return newest;
  }

  /** Gives how many other nodes have it now. */
  async putItem(item: DhtItem): Promise<number> {
    const target = dhtItemTarget(item);
    if ((this.#items.get(target)?.seq ?? -1) < item.seq) this.#items.set(target, item);
    const holders = new Set<string>();
    const nodes = await this.#walk(target, { q: 'get', a: { target } }, (reply, host) => {
      const held = itemIn(reply, item);
      if (held?.seq === item.seq && held.sig.equals(item.sig)) holders.add(host);
    });
    const { key, salt, seq, sig, infoHash } = item;
    const args = { k: key, seq, sig, v: dhtItemValue(infoHash), ...(salt.length > 0 && { salt }) };
    await Promise.all(
      nodes.slice(0, dhtItemNodes).map(
        (node) =>
          new Promise<void>((resolve) => {
            this.#rpc.query(node, { q: 'put', a: { ...args } }, (error) => {
              // A node that has it already may say no to having it again (BEP 44 wants a higher number), and has it all the same.
              if (error === null) holders.add(hostOf(node));
              resolve();
            });
          }),
      ),
    );
    return holders.size;
  }

  /** Gives the nodes that answered and take something, the nearest first. */
  #walk(
    target: Buffer,
    message: RpcMessage,
    visit: (reply: RpcReply, host: string) => void,
  ): Promise<RpcNode[]> {
    const nodes: (RpcNode & { away: Buffer })[] = [];
    let over = false;
    return new Promise((resolve) => {
      const end = (): void => {
        over = true;
        clearTimeout(timer);
        resolve(nodes.toSorted((a, b) => a.away.compare(b.away)).map(({ away: _, ...node }) => node));
      };
      const timer = setTimeout(end, this.#lookupMs);
      this.#rpc.closest(
        target,
        message,
        (reply, from) => {
          if (over) return false;
          const { id, token } = reply.r ?? {};
          const host = from.host ?? from.address ?? '';
          const node = { host, port: from.port };
          if (id !== undefined && token !== undefined)
            nodes.push({ id, token, ...node, away: distance(target, id) });
          visit(reply, hostOf(node));
          return true;
        },
        end,
      );
    });
  }
}

/** What a node gave, if it is an item, taken for one of that name: whether it is, its signature says, which is not looked at here. */
function itemIn({ r }: RpcReply, { key, salt }: DhtItemName): DhtItem | undefined {
  if (r?.sig === undefined || r.seq === undefined || r.v === undefined) return undefined;
  return { key, salt, seq: r.seq, sig: r.sig, infoHash: infoHashFromDigest(r.v.ih) };
}

function hostOf({ host, port }: RpcNode): string {
  return `${host}:${port}`;
}

function peerOf(compact: Buffer): PeerAddress {
  return { host: compact.subarray(0, 4).join('.'), port: compact.readUInt16BE(4) };
}

/** Kademlia's: nearer ones are smaller. */
function distance(a: Buffer, b: Buffer): Buffer {
  return Buffer.from(a.map((byte, at) => byte ^ (b[at] ?? 0)));
}
