/** A torrent that is shared while it is fetched, and a seed that deals. */
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import t from 'tap';
import type { TorrentFetchShare } from '../../swarm/fetch/fetch-options.ts';
import { TorrentFetch } from '../../swarm/fetch/fetcher.ts';
import type { HeldPieces } from '../../swarm/seed/seed-server.ts';
import { openSeedServer } from '../../swarm/seed/seed-server.ts';
import { pieceCount } from '../../swarm/torrent/torrent.ts';
import { dealExtension, encodeExtendedHandshake } from '../../swarm/wire/extension.ts';
import { WireDecoder } from '../../swarm/wire/wire.ts';
import {
  encodeBitfield,
  encodeExtended,
  encodeIndexed,
  encodeRequests,
  encodeSimple,
} from '../../swarm/wire/wire-encode.ts';
import { encodeHandshake, HandshakeReader, makePeerId } from '../../swarm/wire/wire-handshake.ts';
import { type File, fileOf } from './fetch-fixture.ts';
import { RawPeer, seeding, statusWhere } from './seed-fixture.ts';

const kib = 1024;

/** What somebody has of a file. */
class Pieces implements HeldPieces {
  readonly held = new Set<number>();
  readonly #file: File;
  readonly #watchers = new Set<(index: number) => void>();

  constructor(file: File) {
    this.#file = file;
  }

  get count(): number {
    return this.held.size;
  }

  get watchers(): number {
    return this.#watchers.size;
  }

  has(index: number): boolean {
    return this.held.has(index);
  }

  bits(): Buffer {
    const bits = Buffer.alloc(Math.ceil(pieceCount(this.#file.torrent) / 8));
    for (const index of this.held) bits[index >> 3] = (bits[index >> 3] ?? 0) | (0x80 >> (index & 7));
    return bits;
  }

  watch(listener: (index: number) => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  add(index: number): void {
    this.held.add(index);
    for (const watcher of this.#watchers) watcher(index);
  }
}

async function sharing(t: { teardown(fn: () => Promise<void>): void }, file: File, pieces: Pieces) {
  const handle = {
    torrent: file.torrent,
    pieces,
    read: async (position: number, length: number) => file.bytes.subarray(position, position + length),
    close: async () => {},
  };
  const listeners: { host: string; port: number }[] = [];
  const server = await openSeedServer({
    host: '127.0.0.1',
    port: 0,
    source: { mayHold: () => true, open: async () => handle },
    onListener: (_infoHash, peer) => listeners.push(peer),
  });
  t.teardown(() => server.close());
  return { server, listeners };
}

t.test('a peer is told which pieces are there and which come, and gets no others', async (t) => {
  const file = fileOf(4 * 64 * kib);
  const pieces = new Pieces(file);
  const { server } = await sharing(t, file, pieces);
  const first = RawPeer.open(server.port, file.torrent);
  await first.hears('extended 0');
  t.notOk(first.heard.includes('haveAll'));
  pieces.add(2);
  await first.hears('have 2');
  const second = RawPeer.open(server.port, file.torrent);
  await second.hears('bitfield 20');
  second.send(encodeSimple('interested'));
  await second.hears('unchoke');
  const block = (index: number) => ({ index, begin: 0, lengthBytes: 16 * kib });
  second.send(encodeRequests([block(1), block(2)]));
  await second.hears(`reject 1 0 ${16 * kib}`);
  await second.hears('piece 2:0');
  await Promise.all([first.destroy(), second.destroy()]);
  await statusWhere(server, ({ connections }) => connections === 0);
  t.equal(pieces.watchers, 0, 'nobody listens any more');
});

t.test('a peer with whom it is not shared hears of no piece and no port', async (t) => {
  const file = fileOf(4 * 64 * kib);
  const parts = await Promise.all(
    [1, 2].map(() => {
      const pieces = new Pieces(file);
      for (let index = 0; index < 4; index++) pieces.add(index);
      return sharing(t, file, pieces);
    }),
  );
  const [friend, stranger] = parts;
  const share: TorrentFetchShare = {
    peerId: makePeerId(),
    listenPort: 9,
    bits: () => Buffer.from([0x80]),
    onVerified: () => undefined,
    with: ({ port }) => port === friend?.server.port,
  };
  for (const each of parts) {
    const fetch = new TorrentFetch({ torrent: file.torrent, stallMs: 10_000, share });
    fetch.addPeers([each.server]);
    for await (const { bytes } of fetch) t.ok(bytes.length > 0);
  }
  t.same(friend?.listeners, [{ host: '127.0.0.1', port: 9 }]);
  t.same(stranger?.listeners, []);
});

t.test('two that share fetch a file from a seed that deals: about one copy leaves it', async (t) => {
  const { server: seed, held } = await seeding(t, [128 * 64 * kib], { deals: true });
  const [one] = held;
  if (one === undefined) return;
  const fetches = await Promise.all(
    [1, 2].map(async () => {
      const pieces = new Pieces(one);
      const { server, listeners } = await sharing(t, one, pieces);
      const share: TorrentFetchShare = {
        peerId: makePeerId(),
        listenPort: server.port,
        bits: () => pieces.bits(),
        onVerified: (index) => pieces.add(index),
      };
      const fetch = new TorrentFetch({ torrent: one.torrent, stallMs: 10_000, share });
      return { fetch, server, listeners };
    }),
  );
  const [a, b] = fetches;
  if (a === undefined || b === undefined) return;
  // One knows of the other, which learns where it listens from that connection.
  a.fetch.addPeers([seed]);
  b.fetch.addPeers([seed, a.server]);
  const bytes = await Promise.all(
    fetches.map(async ({ fetch }) => {
      const parts: Buffer[] = [];
      for await (const piece of fetch) {
        parts.push(piece.bytes);
        if (a.listeners.length > 0) a.fetch.addPeers(a.listeners);
      }
      return Buffer.concat(parts);
    }),
  );
  for (const each of bytes) t.ok(each.equals(one.bytes));
  t.match(a.listeners, [{ host: '127.0.0.1', port: b.server.port }]);
  const { uploadedBytes } = seed.status();
  t.ok(
    uploadedBytes < 1.5 * one.bytes.length,
    `${(uploadedBytes / one.bytes.length).toFixed(2)} copies left`,
  );
});

t.test('a seed that deals is asked for what others have and do not give', async (t) => {
  const { server: seed, held } = await seeding(t, [128 * 64 * kib], { deals: true });
  const [one] = held;
  if (one === undefined) return;
  // It says that it has half of the pieces, and nobody can connect to it.
  const unreachable = RawPeer.open(seed.port, one.torrent);
  unreachable.send(
    encodeBitfield(Buffer.alloc(16, 0x55)),
    encodeExtended(0, encodeExtendedHandshake({ requestsQueuedMax: 1, uploadOnly: false, deals: true })),
    encodeSimple('interested'),
  );
  // The second one says that it takes part now.
  await unreachable.until(() => unreachable.heard.filter((what) => what === 'unchoke').length === 2);
  const pieces = new Pieces(one);
  const share: TorrentFetchShare = {
    peerId: makePeerId(),
    listenPort: 1,
    bits: () => pieces.bits(),
    onVerified: (index) => pieces.add(index),
  };
  const fetch = new TorrentFetch({ torrent: one.torrent, stallMs: 1_000, share });
  fetch.addPeers([seed]);
  const parts: Buffer[] = [];
  for await (const { bytes } of fetch) parts.push(bytes);
  t.ok(Buffer.concat(parts).equals(one.bytes));
  await unreachable.destroy();
});

t.test('who shares asks a seed that deals for nothing before that one knows of it', async (t) => {
  const file = fileOf(8 * 64 * kib);
  const asked = Promise.withResolvers<number>();
  const server = createServer((socket) => {
    const reader = new HandshakeReader();
    const decoder = new WireDecoder(
      {
        interested: () => {
          const deal = encodeExtended(dealExtension.ns_deal, Buffer.from([1]));
          socket.write(Buffer.concat([deal, encodeIndexed('suggest', 5), encodeSimple('unchoke')]));
        },
        request: (index) => asked.resolve(index),
      },
      { pieces: 8 },
    );
    let greeted = false;
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      if (greeted) return decoder.push(chunk);
      const done = reader.push(chunk);
      if (done === undefined) return;
      greeted = true;
      const hello = encodeExtendedHandshake({ requestsQueuedMax: 9, uploadOnly: true, deals: true });
      socket.write(
        Buffer.concat([
          encodeHandshake({ infoHash: file.torrent.infoHash, peerId: makePeerId() }),
          encodeSimple('haveAll'),
          encodeExtended(0, hello),
          encodeSimple('unchoke'),
        ]),
      );
      decoder.push(done.rest);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const share = { peerId: makePeerId(), listenPort: 1, bits: () => Buffer.alloc(1), onVerified: () => {} };
  const fetch = new TorrentFetch({ torrent: file.torrent, share });
  fetch.addPeers([{ host: '127.0.0.1', port: (server.address() as AddressInfo).port }]);
  t.equal(await asked.promise, 5);
  await fetch.close();
  server.close();
  await once(server, 'close');
});
