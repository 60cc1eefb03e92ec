// What is used of a package that comes without types.

declare module 'bittorrent-dht' {
  import type { EventEmitter } from 'node:events';

  export interface DhtOptions {
    nodeId: string;
    /** `false` for none; without it the public ones are asked. */
    bootstrap: { host: string; port: number }[] | false;
    /** Under which this node names itself a peer. */
    host?: string | undefined;
    /** In place of a UDP socket. */
    socket: EventEmitter;
    maxTables: number;
    maxPeers: number;
    maxValues: number;
    /** Milliseconds for which announced peers are remembered. */
    maxAge: number;
  }

  export class Client extends EventEmitter {
    constructor(options: DhtOptions);
    readonly listening: boolean;
    readonly nodes: { count(): number };
    listen(port: number, host: string): void;
    address(): { address: string; port: number };
    /** Finds the nodes next to an infohash; the function that it gives ends that early, with what was found. */
    lookup(infoHash: string, done: (error: Error | null, nodes: number) => void): () => void;
    destroy(): void;
    announce(infoHash: string, port: number, done: (error: Error | null, nodes: number) => void): void;
  }
}
