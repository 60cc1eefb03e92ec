// What is used of a package that comes without types.

declare module 'bittorrent-dht' {
  import type { EventEmitter } from 'node:events';

  export interface DhtOptions {
    /** A node of k-rpc; without it one is made of `nodeId`, `bootstrap` and `socket`. */
    krpc?: EventEmitter;
    nodeId?: string;
    /** `false` for none; without it the public ones are asked. */
    bootstrap: { host: string; port: number }[] | boolean;
    /** Under which this node names itself a peer. */
    host?: string | undefined;
    /** Whether an Ed25519 signature holds; without it no signed items are kept. */
    verify?: (sig: Buffer, message: Uint8Array, key: Buffer) => boolean;
    /** In place of a UDP socket. */
    socket?: EventEmitter;
    maxTables: number;
    maxPeers: number;
    maxValues: number;
    /** Milliseconds for which announced peers are remembered. */
    maxAge: number;
  }

  export interface KeptItem {
    v: { ih: Buffer };
    k: Buffer;
    salt?: Buffer;
    sig: Buffer;
    seq: number;
    /** Of the node that put it. */
    id: Buffer;
  }

  export class Client extends EventEmitter {
    constructor(options: DhtOptions);
    readonly listening: boolean;
    /** It has looked for the nodes next to itself. */
    readonly ready: boolean;
    readonly nodes: { count(): number };
    /**
     * The items that are kept for others, by target. The library has no public way to keep one of our own: it puts signed ones to other
     * nodes alone.
     */
    readonly _values: {
      get(target: string): KeptItem | undefined;
      set(target: string, item: KeptItem): void;
    };
    listen(port: number, host: string): void;
    address(): { address: string; port: number };
    /** Finds the nodes next to an infohash; the function that it gives ends that early, with what was found. */
    lookup(infoHash: string, done: (error: Error | null, nodes: number) => void): () => void;
    destroy(): void;
    announce(infoHash: string, port: number, done: (error: Error | null, nodes: number) => void): void;
  }
}

declare module 'k-rpc' {
  import type { EventEmitter } from 'node:events';
  import type { Rpc } from './dht-lookups.ts';

  export interface RpcOptions {
    nodeId: string;
    /** `false` for none; without it the public ones are asked. */
    bootstrap: { host: string; port: number }[] | false;
    /** In place of a UDP socket. */
    socket: EventEmitter;
  }

  export default class KRpc extends EventEmitter implements Rpc {
    constructor(options: RpcOptions);
    readonly id: Buffer;
    closest: Rpc['closest'];
    query: Rpc['query'];
  }
}
