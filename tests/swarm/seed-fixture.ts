/** What the tests of the seed server share: held files, a source over them, a raw peer, and a tracker that names one peer. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { Socket } from 'node:net';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { narFileName } from '../../nar/compression.ts';
import type { InfoHash } from '../../nar/hash.ts';
import { sha256FromDigest } from '../../nar/hash.ts';
import { bencode } from '../../swarm/bencode.ts';
import type { SeedHandle, SeedServer, SeedSource, SeedStatus } from '../../swarm/seed/seed-server.ts';
import { openSeedServer } from '../../swarm/seed/seed-server.ts';
import type { Torrent } from '../../swarm/torrent/torrent.ts';
import { TorrentHasher } from '../../swarm/torrent/torrent.ts';
import type { UploadCap, UploadOptions } from '../../swarm/upload/upload-control.ts';
import type { UploadRecord } from '../../swarm/upload/upload-policy.ts';
import type { NamedTorrents } from '../../swarm/wire/encrypted-handshake.ts';
import type { SeedLimits } from '../../swarm/wire/limits.ts';
import { blockBytes } from '../../swarm/wire/limits.ts';
import { WireDecoder } from '../../swarm/wire/wire.ts';
import type { BlockRequest } from '../../swarm/wire/wire-encode.ts';
import { encodeRequests, encodeSimple } from '../../swarm/wire/wire-encode.ts';
import { encodeHandshake, HandshakeReader, makePeerId } from '../../swarm/wire/wire-handshake.ts';

export interface Held {
  torrent: Torrent;
  bytes: Buffer;
  path: string;
}

/** Files in a temporary directory, and the torrents over them. */
export class FileSource implements SeedSource {
  readonly held = new Map<InfoHash, Held>();
  /** Handles that are open now, and how often one was opened. */
  openHandles = 0;
  opened = 0;
  /** Replaces what `read` does, to make it slow or fail. */
  onRead: ((position: number) => Promise<void>) | undefined;
  onOpen: ((infoHash: InfoHash) => Promise<void>) | undefined;
  reads = 0;
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  static async make(sizes: number[]): Promise<{ source: FileSource; held: Held[] }> {
    const source = new FileSource(await mkdtemp(join(tmpdir(), 'narswarm-seed-')));
    const held: Held[] = [];
    for (const size of sizes) held.push(await source.add(size));
    return { source, held };
  }

  async add(lengthBytes: number): Promise<Held> {
    const bytes = randomBytes(lengthBytes);
    const name = narFileName(sha256FromDigest(createHash('sha256').update(bytes).digest()), 'xz');
    const hasher = new TorrentHasher(lengthBytes);
    hasher.write(bytes);
    const torrent = hasher.finish(name);
    const path = join(this.dir, name);
    await writeFile(path, bytes);
    const held = { torrent, bytes, path };
    this.held.set(torrent.infoHash, held);
    return held;
  }

  mayHold(infoHash: InfoHash): boolean {
    return this.held.has(infoHash);
  }

  async open(infoHash: InfoHash): Promise<SeedHandle | undefined> {
    await this.onOpen?.(infoHash);
    const held = this.held.get(infoHash);
    if (held === undefined) return undefined;
    const file = await open(held.path);
    this.openHandles++;
    this.opened++;
    return {
      torrent: held.torrent,
      read: async (position, lengthBytes, memory) => {
        this.reads++;
        await this.onRead?.(position);
        const buffer = memory?.subarray(0, lengthBytes) ?? Buffer.allocUnsafe(lengthBytes);
        const { bytesRead } = await file.read(buffer, 0, lengthBytes, position);
        return buffer.subarray(0, bytesRead);
      },
      close: async () => {
        this.openHandles--;
        await file.close();
      },
    };
  }

  remove(): Promise<void> {
    return rm(this.dir, { recursive: true, force: true });
  }
}

export interface Seeding {
  server: SeedServer;
  source: FileSource;
  held: Held[];
}

export interface SeedingOptions {
  named?: NamedTorrents;
  host?: string;
  limits?: Partial<SeedLimits>;
  peerId?: Buffer;
  clock?: () => number;
  admits?: (address: string) => boolean;
  upload?: UploadOptions;
  deals?: boolean;
  onUpload?: (infoHash: InfoHash, bytes: number) => void;
  onFault?: (error: unknown) => void;
}

/** A server on loopback over files of these sizes. At the end of the test it is closed, and nothing may be open. */
export async function seeding(
  t: { teardown(fn: () => Promise<void>): void },
  sizes: number[],
  options: SeedingOptions = {},
): Promise<Seeding> {
  const { source, held } = await FileSource.make(sizes);
  const server = await openSeedServer({ host: '127.0.0.1', port: 0, source, ...options });
  t.teardown(async () => {
    await server.close();
    await server.close();
    await source.remove();
    assert.equal(source.openHandles, 0, 'no file stays open');
    assert.equal(server.status().connections, 0, 'no connection stays open');
    assert.equal(server.status().unsentBytes, 0, 'no memory stays accounted for');
  });
  return { server, source, held };
}

/** A cap as a seeder has it, its memory in a map; nobody else has anything. */
export function testCap(options: Partial<UploadCap> = {}): {
  cap: UploadCap;
  rows: Map<InfoHash, UploadRecord>;
} {
  const rows = new Map<InfoHash, UploadRecord>();
  const cap: UploadCap = {
    initialCopies: 1,
    cappedBytesPerSecond: 64 * 1024,
    minSeeds: 2,
    lonelyAfterMs: 600_000,
    records: {
      load: (infoHash) => rows.get(infoHash),
      save: (records) => {
        for (const [infoHash, record] of records) rows.set(infoHash, record);
        return true;
      },
    },
    seedsOf: () => 0,
    ...options,
  };
  return { cap, rows };
}

/** A peer that says exactly what a test tells it to, and writes down what it hears, one line per message. */
export class RawPeer {
  readonly socket: Socket;
  readonly heard: string[] = [];
  /** Blocks by `index:begin`. */
  readonly blocks = new Map<string, Buffer>();
  readonly extended: { id: number; payload: Buffer }[] = [];
  blockBytes = 0;
  readonly closed: Promise<void>;
  readonly #watchers = new Set<() => void>();
  #ended = false;

  /** `localAddress`: a peer of somebody else. */
  constructor(port: number, pieces: number, localAddress?: string) {
    this.socket = connect({ host: '127.0.0.1', port, ...(localAddress !== undefined && { localAddress }) });
    this.socket.on('error', () => {});
    this.closed = new Promise((resolve) => {
      this.socket.on('close', () => {
        this.#ended = true;
        this.#changed();
        resolve();
      });
    });
    const handshake = new HandshakeReader();
    let decoder: WireDecoder | undefined;
    const note = (line: string): void => {
      this.heard.push(line);
    };
    this.socket.on('data', (chunk) => {
      if (decoder !== undefined) decoder.push(chunk);
      else {
        const done = handshake.push(chunk);
        if (done !== undefined) {
          note('handshake');
          decoder = this.#decoder(note, pieces);
          decoder.push(done.rest);
        }
      }
      this.#changed();
    });
  }

  #decoder(note: (line: string) => void, pieces: number): WireDecoder {
    let key = '';
    let block = Buffer.alloc(0);
    return new WireDecoder(
      {
        keepAlive: () => note('keepAlive'),
        choke: () => note('choke'),
        unchoke: () => note('unchoke'),
        have: (index) => note(`have ${index}`),
        haveAll: () => note('haveAll'),
        bitfield: (bits) => note(`bitfield ${bits.toString('hex')}`),
        reject: (index, begin, bytes) => note(`reject ${index} ${begin} ${bytes}`),
        extended: (id, payload) => {
          note(`extended ${id}`);
          this.extended.push({ id, payload: Buffer.from(payload) });
        },
        pieceStart: (index, begin, bytes) => {
          key = `${index}:${begin}`;
          block = Buffer.alloc(bytes);
        },
        pieceData: (bytes, offset) => {
          bytes.copy(block, offset);
          this.blockBytes += bytes.length;
        },
        pieceEnd: () => {
          this.blocks.set(key, block);
          note(`piece ${key}`);
        },
      },
      { pieces },
    );
  }

  /** Connects and greets. */
  static open(
    port: number,
    torrent: Torrent,
    options: { fast?: boolean; extended?: boolean; localAddress?: string } = {},
  ): RawPeer {
    const { localAddress, ...handshake } = options;
    const peer = new RawPeer(port, Math.ceil(torrent.length / torrent.pieceLength), localAddress);
    peer.send(encodeHandshake({ infoHash: torrent.infoHash, peerId: makePeerId(), ...handshake }));
    return peer;
  }

  send(...messages: Uint8Array[]): void {
    this.socket.write(Buffer.concat(messages));
  }

  /** Resolves once `condition` holds; rejects if the connection ends before. */
  async until(condition: () => boolean): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const check = (): void => {
        if (!condition() && !this.#ended) return;
        this.#watchers.delete(check);
        if (condition()) resolve();
        else reject(new Error(`the connection ended after: ${this.heard.join(', ')}`));
      };
      this.#watchers.add(check);
      check();
    });
  }

  hears(line: string): Promise<void> {
    return this.until(() => this.heard.includes(line));
  }

  async destroy(): Promise<void> {
    this.socket.destroy();
    await this.closed;
  }

  #changed(): void {
    for (const check of this.#watchers) check();
  }
}

/** An HTTP tracker that names one peer, at an IPv4 address, to everybody. */
export async function openTracker(peer: {
  host: string;
  port: number;
}): Promise<{ url: string; close(): Promise<void> }> {
  const peers = Buffer.from([...peer.host.split('.').map(Number), peer.port >> 8, peer.port & 0xff]);
  const server = createServer((_request, response) => {
    response.end(bencode({ interval: 60, peers, complete: 1, incomplete: 0 }));
  });
  server.listen(0, peer.host);
  await once(server, 'listening');
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return {
    url: `http://${peer.host}:${address.port}/announce`,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Every block of a torrent, in order. */
export function blocksOf(torrent: Torrent): BlockRequest[] {
  const blocks: BlockRequest[] = [];
  for (let at = 0; at < torrent.length; ) {
    const begin = at % torrent.pieceLength;
    const lengthBytes = Math.min(blockBytes, torrent.length - at, torrent.pieceLength - begin);
    blocks.push({ index: Math.floor(at / torrent.pieceLength), begin, lengthBytes });
    at += lengthBytes;
  }
  return blocks;
}

/** What a decent peer does: all blocks, compared with the file. */
export async function downloadHonestly(server: SeedServer, { torrent, bytes }: Held): Promise<void> {
  const peer = RawPeer.open(server.port, torrent);
  peer.send(encodeSimple('interested'));
  await peer.hears('unchoke');
  const blocks = blocksOf(torrent);
  for (let at = 0; at < blocks.length; at += 500) {
    const some = blocks.slice(at, at + 500);
    peer.send(encodeRequests(some));
    await peer.until(() => peer.blocks.size === at + some.length);
  }
  const got = blocks.map(({ index, begin }) => peer.blocks.get(`${index}:${begin}`) ?? Buffer.alloc(0));
  assert.ok(Buffer.concat(got).equals(bytes), 'an honest peer gets the right bytes');
  await peer.destroy();
}

/** Resolves once the server's counters satisfy `condition`; it looks again whenever the event loop comes round. */
export async function statusWhere(
  server: SeedServer,
  condition: (status: SeedStatus) => boolean,
): Promise<SeedStatus> {
  for (;;) {
    const status = server.status();
    if (condition(status)) return status;
    await setImmediate();
  }
}
