/** A catalog, on loopback unless told otherwise: `/resolve`, narinfos, a tracker that only takes notes, and a real seed server behind it. */

import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { parseSha256 } from '../../nar/hash.ts';
import { bencode } from '../../swarm/bencode.ts';
import { openSeedServer, type SeedServer, type SeedSource } from '../../swarm/seed/seed-server.ts';
import { infoDictionary, type Torrent, TorrentHasher } from '../../swarm/torrent/torrent.ts';
import { type MadeNar, torrentInfoText } from './made-nar.ts';

/** Stands for a pack: nobody who fetches a NAR file of it knows more than its infohash. */
interface MadePack {
  readonly torrent: Torrent;
  readonly bytes: Buffer;
  readonly offsets: Map<MadeNar, number>;
}

/** What lies in front of the NAR files: not a multiple of anything. */
const packStart = Buffer.from('StoreDir: /nix/store\n');

export class TestCatalog {
  readonly nars: MadeNar[];
  /** Named in `/resolve`, and served, once `makePack` was called. */
  pack: MadePack | undefined;
  url = '';
  /** Called instead of answering, when it returns true. */
  intercept: ((request: IncomingMessage, response: ServerResponse) => boolean) | undefined;
  /** Changes a line of `/resolve`. */
  forge: ((line: Record<string, unknown>, nar: MadeNar) => Record<string, unknown>) | undefined;
  /** Awaited before each read of the seed server. */
  beforeRead: ((position: number) => Promise<void>) | undefined;
  /** Awaited before each answer of `/resolve`. */
  beforeResolve: (() => Promise<void>) | undefined;
  /** Named instead of the seed server. */
  peers: string[] | undefined;
  /** By its tracker, in the compact form. */
  trackedPeers = Buffer.alloc(0);
  readonly announces: URLSearchParams[] = [];
  resolves = 0;
  readonly #http: Server;
  #seeds: SeedServer | undefined;

  private constructor(nars: MadeNar[]) {
    this.nars = nars;
    this.#http = createServer((request, response) => void this.#answer(request, response));
  }

  static async open(nars: MadeNar[], host = '127.0.0.1'): Promise<TestCatalog> {
    const catalog = new TestCatalog(nars);
    const source: SeedSource = {
      mayHold: (infoHash) => catalog.#held().some(({ torrent }) => torrent.infoHash === infoHash),
      open: async (infoHash) => {
        const nar = catalog.#held().find(({ torrent }) => torrent.infoHash === infoHash);
        if (nar === undefined) return undefined;
        return {
          torrent: nar.torrent,
          read: async (position, length) => {
            await catalog.beforeRead?.(position);
            return nar.bytes.subarray(position, position + length);
          },
          close: async () => undefined,
        };
      },
    };
    catalog.#seeds = await openSeedServer({ host: '127.0.0.1', port: 0, source, limits: { drainMs: 50 } });
    catalog.#http.listen(0, host);
    await once(catalog.#http, 'listening');
    catalog.url = `http://${host}:${(catalog.#http.address() as AddressInfo).port}`;
    return catalog;
  }

  get seedPort(): number {
    return this.#seeds?.port ?? 0;
  }

  /** Puts all NAR files into one pack, in their order. */
  makePack(): MadePack {
    const offsets = new Map<MadeNar, number>();
    let offset = packStart.length;
    for (const nar of this.nars) {
      offsets.set(nar, offset);
      offset += nar.bytes.length;
    }
    const bytes = Buffer.concat([packStart, ...this.nars.map((nar) => nar.bytes)]);
    const hasher = new TorrentHasher(bytes.length);
    hasher.write(bytes);
    this.pack = { torrent: hasher.finish(`${'0'.repeat(52)}.nar`), bytes, offsets };
    return this.pack;
  }

  #held(): { torrent: Torrent; bytes: Buffer }[] {
    return this.pack === undefined ? this.nars : [...this.nars, this.pack];
  }

  get uploadedBytes(): number {
    return this.#seeds?.status().uploadedBytes ?? 0;
  }

  /** The seed server goes away, in the middle of whatever it does. */
  async killSeeds(): Promise<void> {
    await this.#seeds?.close();
  }

  async close(): Promise<void> {
    const closed = this.#http.listening ? once(this.#http, 'close') : undefined;
    this.#http.close();
    this.#http.closeAllConnections();
    await closed;
    await this.#seeds?.close();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.intercept?.(request, response) === true) return;
    const { pathname, search } = new URL(request.url ?? '', 'http://catalog');
    if (pathname === '/announce') {
      this.announces.push(new URLSearchParams(search.replaceAll(/%(?![0-7])../g, '?')));
      response.end(bencode({ interval: 60, peers: this.trackedPeers }));
      return;
    }
    if (pathname === '/nix-cache-info') {
      response.end('StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 50\n');
      return;
    }
    if (pathname === '/resolve') {
      this.resolves++;
      await this.beforeResolve?.();
      const { fileHashes } = JSON.parse(await text(request)) as { fileHashes: string[] };
      const wanted = new Set(fileHashes.map((hash) => parseSha256(hash)));
      for (const nar of this.nars) if (wanted.has(nar.fileHash)) response.write(this.#line(nar));
      response.end();
      return;
    }
    const nar = this.nars.find(({ storeHash }) => pathname === `/${storeHash}.narinfo`);
    if (nar === undefined) response.writeHead(404).end();
    else response.end(nar.narInfo.text);
  }

  #line(nar: MadeNar): string {
    const { torrent, offsets } = this.pack ?? {};
    const pack = torrent && { infoHash: torrent.infoHash, offset: offsets?.get(nar) };
    const line = {
      ...(pack && { pack }),
      fileHash: nar.fileHash,
      torrentinfo: torrentInfoText(nar),
      info: infoDictionary(nar.torrent).toString('base64'),
      peers: this.peers ?? [`127.0.0.1:${this.#seeds?.port}`],
    };
    return `${JSON.stringify(this.forge?.(line, nar) ?? line)}\n`;
  }
}
