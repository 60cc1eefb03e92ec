/** What the tests of the DHT share: packets, an asker with a real socket, and nodes on loopback. */

import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { Test } from 'tap';
import { type BencodeInput, bencode, parseBencode } from '../../swarm/bencode.ts';
import { type Dht, type DhtOptions, openDht } from '../../swarm/dht/dht.ts';

export const someId = Buffer.alloc(20, 'n');
export const someHash = Buffer.alloc(20, 'h');

/** Of the right form; nobody signed it. */
export const someItem = {
  k: Buffer.alloc(32, 'k'),
  seq: 7,
  sig: Buffer.alloc(64, 's'),
  v: { ih: someHash },
};

export function query(method: string, args: BencodeInput, rest: Record<string, BencodeInput> = {}): Buffer {
  return bencode({ t: 'aa', y: 'q', q: method, a: args, ...rest });
}

export function answer(values: BencodeInput, transaction: string | Buffer = 'aa'): Buffer {
  return bencode({ t: transaction, y: 'r', r: values });
}

/** Each of them makes bittorrent-dht throw. */
export const killingPackets: Readonly<Record<string, Buffer>> = {
  'integer info_hash in get_peers': query('get_peers', { id: someId, info_hash: 7 }),
  'integer target in find_node': query('find_node', { id: someId, target: 7 }),
  'integer target in get': query('get', { id: someId, target: 7 }),
  'integer token in announce_peer': query('announce_peer', {
    ...{ id: someId, info_hash: someHash, port: 6881, token: 7 },
  }),
  'integer token in put': query('put', { id: someId, v: 'v', token: 7 }),
  'list as info_hash': query('get_peers', { id: someId, info_hash: [] }),
};

/** Asks the way another node would. */
export class Asker {
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  static async open(t: Test, host = '127.0.0.1'): Promise<Asker> {
    const socket = createSocket('udp4');
    socket.bind(0, host);
    await once(socket, 'listening');
    t.teardown(() => new Promise<void>((resolve) => socket.close(() => resolve())));
    return new Asker(socket);
  }

  get port(): number {
    return this.#socket.address().port;
  }

  send(packet: Uint8Array, to: { host: string; port: number }): void {
    this.#socket.send(packet, to.port, to.host);
  }

  /** Sends a query again and again until it is answered: loopback loses packets, too. */
  async ask(packet: Uint8Array, to: { host: string; port: number }): Promise<Map<string, unknown>> {
    const repeat = setInterval(() => this.send(packet, to), 500);
    try {
      this.send(packet, to);
      const [bytes] = await once(this.#socket, 'message', { signal: AbortSignal.timeout(20_000) });
      const message = parseBencode(bytes);
      if (message instanceof Map) return message;
      throw new Error('a node answers with a dictionary');
    } finally {
      clearInterval(repeat);
    }
  }
}

/** Quick enough to watch. */
export const quickLimits = {
  tickMs: 20,
  heartbeatMs: 20,
  announcesPerMinute: 6_000,
  retryMs: 100,
  restartMinMs: 50,
  queriesPerAddressMax: 100_000,
  queriesMax: 100_000,
};

export async function openNode(t: Test, options: Partial<DhtOptions> = {}): Promise<Dht> {
  const dht = await openDht({
    ...{ host: '127.0.0.1', port: 0, bootstrap: [], peersPort: 6881 },
    ...options,
    limits: { ...quickLimits, ...options.limits },
  });
  t.teardown(() => dht.close());
  return dht;
}

/** Looks at a status until it is as it should be. */
export async function statusWith(dht: Dht, wanted: (status: ReturnType<Dht['status']>) => boolean) {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const status = dht.status();
    if (wanted(status)) return status;
    if (Date.now() > deadline) throw new Error(`not in time: ${JSON.stringify(status)}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
