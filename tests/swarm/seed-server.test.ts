/** What the seed server does for peers that behave. Those that do not are in seed-limits.test.ts. */
import { once } from 'node:events';
import { connect } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import { infoHashFromDigest } from '../../nar/hash.ts';
import { openSeedServer } from '../../swarm/seed/seed-server.ts';
import { encodeMetadata, parseMetadata } from '../../swarm/torrent/metadata.ts';
import { infoDictionary } from '../../swarm/torrent/torrent.ts';
import { encodeExtendedHandshake, parseExtendedHandshake } from '../../swarm/wire/extension.ts';
import {
  encodeCancel,
  encodeExtended,
  encodeIndexed,
  encodeRequests,
  encodeSimple,
  fullBitfield,
} from '../../swarm/wire/wire-encode.ts';
import { encodeHandshake, makePeerId } from '../../swarm/wire/wire-handshake.ts';
import { blocksOf, downloadHonestly, FileSource, RawPeer, seeding, statusWhere } from './seed-fixture.ts';

const kib = 1024;

t.test('files of any size come out as they are, and every byte is accounted for', async (t) => {
  const uploaded = new Map<string, number>();
  const sizes = [1, 16 * kib - 1, 64 * kib, 1024 * kib + 1];
  const { server, held } = await seeding(t, sizes, {
    onUpload: (infoHash, bytes) => uploaded.set(infoHash, (uploaded.get(infoHash) ?? 0) + bytes),
  });
  for (const one of held) await downloadHonestly(server, one);
  const total = sizes.reduce((a, b) => a + b);
  await statusWhere(server, (status) => status.uploadedBytes === total && status.unsentBytes === 0);
  for (const { torrent } of held) t.equal(uploaded.get(torrent.infoHash), torrent.length);
  t.equal(server.status().handshakes, held.length);
});

t.test(
  'handshake, interest and requests in one segment are answered without another round trip',
  async (t) => {
    const { server, held } = await seeding(t, [100 * kib]);
    const [one] = held;
    if (one === undefined) return;
    const peer = new RawPeer(server.port, 2);
    peer.send(
      encodeHandshake({ infoHash: one.torrent.infoHash, peerId: makePeerId() }),
      encodeSimple('interested'),
      encodeRequests(blocksOf(one.torrent)),
    );
    await peer.until(() => peer.blocks.size === 7);
    t.same(peer.heard.slice(0, 4), ['handshake', 'haveAll', 'extended 0', 'unchoke']);
    await peer.destroy();
  },
);

t.test('where nobody waits for a turn a peer of our kind may ask as soon as it is greeted', async (t) => {
  const { server, held } = await seeding(t, [100 * kib], { deals: true });
  const [one] = held;
  if (one === undefined) return;
  const peer = RawPeer.open(server.port, one.torrent);
  await peer.hears('unchoke');
  t.same(peer.heard, ['handshake', 'haveAll', 'extended 0', 'unchoke']);
  const hello = encodeExtendedHandshake({ requestsQueuedMax: 1, uploadOnly: false, deals: true });
  peer.send(encodeExtended(0, hello), encodeRequests(blocksOf(one.torrent)));
  await peer.until(() => peer.blocks.size === 7);
  t.equal(peer.heard[4], 'unchoke', 'again for one that waits until it is known to take part');
  await peer.destroy();
  const other = new RawPeer(server.port, 2);
  const peerId = Buffer.from('-WW0300-123456789012', 'latin1');
  other.send(
    encodeHandshake({ infoHash: one.torrent.infoHash, peerId }),
    encodeRequests(blocksOf(one.torrent)),
  );
  await other.hears('reject 0 0 16384');
  t.notOk(other.heard.includes('unchoke'));
  await other.destroy();
});

t.test('a handshake that comes byte by byte is served', async (t) => {
  const { server, held } = await seeding(t, [100]);
  const [one] = held;
  if (one === undefined) return;
  const peer = new RawPeer(server.port, 1);
  peer.socket.setNoDelay(true);
  const bytes = encodeHandshake({ infoHash: one.torrent.infoHash, peerId: makePeerId() });
  for (const byte of bytes) {
    await new Promise<void>((resolve) => peer.socket.write(Buffer.from([byte]), () => resolve()));
  }
  peer.send(encodeSimple('interested'));
  await peer.hears('unchoke');
  await peer.destroy();
});

t.test(
  'a peer without the fast extension gets a bitfield, one without extensions no extended handshake',
  async (t) => {
    const { server, held } = await seeding(t, [21 * 64 * kib]);
    const [one] = held;
    if (one === undefined) return;
    const peer = RawPeer.open(server.port, one.torrent, { fast: false, extended: false });
    peer.send(encodeSimple('interested'));
    await peer.hears('unchoke');
    t.same(peer.heard, ['handshake', `bitfield ${fullBitfield(21).toString('hex')}`, 'unchoke']);
    await peer.destroy();
  },
);

t.test('requests that follow each other are answered by one read', async (t) => {
  const { server, source, held } = await seeding(t, [64 * kib]);
  const [one] = held;
  if (one === undefined) return;
  await downloadHonestly(server, one);
  t.equal(source.reads, 1);
  const peer = RawPeer.open(server.port, one.torrent);
  peer.send(encodeSimple('interested'), encodeRequests(blocksOf(one.torrent).reverse()));
  await peer.until(() => peer.blocks.size === 4);
  t.equal(source.reads, 5, 'those that do not follow each other are read one by one');
  await peer.destroy();
});

t.test('a cancelled request is not answered, except by a reject', async (t) => {
  const { server, source, held } = await seeding(t, [128 * kib]);
  const [one] = held;
  if (one === undefined) return;
  const gate = Promise.withResolvers<void>();
  source.onRead = () => gate.promise;
  const peer = RawPeer.open(server.port, one.torrent);
  const [first, second, third] = [0, 4, 7].flatMap((i) => blocksOf(one.torrent).slice(i, i + 1));
  if (first === undefined || second === undefined || third === undefined) return;
  // The first one is being read while the others wait, since they do not follow it.
  peer.send(encodeSimple('interested'), encodeRequests([first, second, third]), encodeCancel(second));
  await peer.hears(`reject ${second.index} ${second.begin} ${second.lengthBytes}`);
  gate.resolve();
  await peer.until(() => peer.blocks.size === 2);
  t.same([...peer.blocks.keys()], [`0:0`, `${third.index}:${third.begin}`]);
  await peer.destroy();
});

t.test('the metadata is served to a peer that has only the infohash', async (t) => {
  // 1,000 pieces: 20,000 bytes of hashes, two pieces of metadata.
  const { server, held } = await seeding(t, [1000 * 64 * kib]);
  const [one] = held;
  if (one === undefined) return;
  const peer = RawPeer.open(server.port, one.torrent);
  peer.send(encodeExtended(0, Buffer.from('d1:md11:ut_metadatai7eee')));
  await peer.hears('extended 0');
  const ours = parseExtendedHandshake(peer.extended[0]?.payload ?? Buffer.alloc(0));
  const id = ours.extensions.get('ut_metadata') ?? 0;
  t.equal(ours.uploadOnly, true);
  t.equal(ours.requestsQueuedMax, 2000);
  peer.send(
    encodeExtended(id, encodeMetadata('request', 0)),
    encodeExtended(id, encodeMetadata('request', 1)),
  );
  await peer.until(() => peer.extended.length === 3);
  const parts = peer.extended.slice(1).map(({ id: theirs, payload }) => {
    t.equal(theirs, 7, 'under the number that the peer wants');
    const message = parseMetadata(payload);
    t.equal(message?.type === 'data' && message.totalBytes, ours.metadataBytes);
    return message?.type === 'data' ? message.bytes : Buffer.alloc(0);
  });
  t.ok(Buffer.concat(parts).equals(infoDictionary(one.torrent)));
  await peer.destroy();
});

t.test('an unknown infohash is closed at once, and nothing is opened', async (t) => {
  const { server, source } = await seeding(t, []);
  const peer = new RawPeer(server.port, 1);
  peer.send(encodeHandshake({ infoHash: infoHashFromDigest(Buffer.alloc(20, 7)), peerId: makePeerId() }));
  await peer.closed;
  t.same(peer.heard, [], 'without a word');
  const status = await statusWhere(server, ({ connections }) => connections === 0);
  t.equal(status.unknownInfoHashes, 1);
  t.equal(status.openTorrents, 0);
  t.equal(source.opened, 0);
});

t.test('a connection to ourselves is closed', async (t) => {
  const peerId = makePeerId();
  const { server, held } = await seeding(t, [100], { peerId });
  const [one] = held;
  if (one === undefined) return;
  const peer = new RawPeer(server.port, 1);
  peer.send(encodeHandshake({ infoHash: one.torrent.infoHash, peerId }));
  await peer.closed;
  t.equal((await statusWhere(server, ({ connections }) => connections === 0)).closed.self, 1);
  await downloadHonestly(server, one);
});

const seeds: [string, boolean, Buffer[]][] = [
  ['have all', true, [encodeSimple('haveAll')]],
  ['a complete bitfield', false, [Buffer.from([0, 0, 0, 2, 5, 0xc0])]],
  ['the last have', true, [encodeSimple('haveNone'), encodeIndexed('have', 1), encodeIndexed('have', 0)]],
  // aria2 sends a bitfield in the middle, instead of many haves.
  [
    'bitfields that add up',
    true,
    [encodeSimple('haveNone'), Buffer.from([0, 0, 0, 2, 5, 0x80]), Buffer.from([0, 0, 0, 2, 5, 0x40])],
  ],
];
for (const [what, fast, messages] of seeds) {
  t.test(`a peer that is a seed itself, by ${what}, is let go politely`, async (t) => {
    const { server, held } = await seeding(t, [100 * kib]);
    const [one] = held;
    if (one === undefined) return;
    const peer = RawPeer.open(server.port, one.torrent, { fast });
    let failed = false;
    peer.socket.on('error', () => {
      failed = true;
    });
    peer.send(...messages);
    await peer.closed;
    t.notOk(failed, 'with a FIN, not a reset');
    const status = await statusWhere(server, ({ connections }) => connections === 0);
    t.equal(status.closed['peer-is-seed'], 1);
    t.equal(status.violations, 0);
  });
}

t.test('connections to one torrent share one handle, which stays open for the next one', async (t) => {
  const { server, source, held } = await seeding(t, [300 * kib]);
  const [one] = held;
  if (one === undefined) return;
  await Promise.all([1, 2, 3, 4].map(() => downloadHonestly(server, one)));
  await downloadHonestly(server, one);
  t.equal(source.opened, 1);
  t.equal(server.status().openTorrents, 1);
});

t.test('close lets what is being sent arrive, and may be called twice', async (t) => {
  const { source, held } = await FileSource.make([64 * kib]);
  t.teardown(() => source.remove());
  const server = await openSeedServer({ host: '127.0.0.1', port: 0, source });
  const [one] = held;
  if (one === undefined) return;
  const gate = Promise.withResolvers<void>();
  const reading = Promise.withResolvers<void>();
  source.onRead = () => {
    reading.resolve();
    return gate.promise;
  };
  const peer = RawPeer.open(server.port, one.torrent);
  peer.send(encodeSimple('interested'), encodeRequests(blocksOf(one.torrent)));
  await reading.promise;
  const closing = server.close();
  t.equal(server.close(), closing);
  gate.resolve();
  await peer.closed;
  t.equal(peer.blocks.size, 4, 'the blocks that were being read');
  await closing;
  t.equal(source.openHandles, 0);
  const late = connect({ host: '127.0.0.1', port: server.port });
  const [error] = await once(late, 'error');
  t.equal(error.code, 'ECONNREFUSED');
});

t.test('close does not wait for a peer that reads nothing', async (t) => {
  const { server, held } = await seeding(t, [8192 * kib], { limits: { drainMs: 20 } });
  const [one] = held;
  if (one === undefined) return;
  const peer = RawPeer.open(server.port, one.torrent);
  await peer.hears('haveAll');
  peer.socket.pause();
  peer.send(encodeSimple('interested'), encodeRequests(blocksOf(one.torrent)));
  await statusWhere(server, ({ unsentBytes }) => unsentBytes > 0);
  await server.close();
  t.equal(server.status().connections, 0);
  await peer.destroy();
});

t.test('openSeedServer rejects when it cannot listen', async (t) => {
  const { server, source } = await seeding(t, []);
  await t.rejects(openSeedServer({ host: '127.0.0.1', port: server.port, source }), { code: 'EADDRINUSE' });
});

t.test('extension messages are read back, and hostile ones throw nothing but wire-violation', async (t) => {
  const handshake = { metadataBytes: 5, requestsQueuedMax: 9, uploadOnly: true, blockMaxBytes: 65_536 };
  t.same(parseExtendedHandshake(encodeExtendedHandshake(handshake)), {
    ...handshake,
    extensions: new Map([['ut_metadata', 1]]),
    client: 'narswarm',
  });
  const messages = fc.oneof(
    fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
    fc.stringMatching(/^d1:m[dile0-9:]*$/).map((text) => Buffer.from(text)),
    fc
      .stringMatching(/^d8:msg_typei-?\d{1,3}e5:piecei-?\d{1,17}e(10:total_sizei\d{1,3}e)?e.?$/)
      .map((text) => Buffer.from(text)),
    fc.constant(Buffer.from('l'.repeat(30_000))),
    fc.constant(Buffer.from(`d1:m${'le'.repeat(10_000)}e`)),
  );
  fc.assert(
    fc.property(messages, (payload) => {
      for (const parse of [parseExtendedHandshake, parseMetadata]) {
        try {
          parse(payload);
        } catch (error) {
          if (!(error instanceof Error) || !('code' in error) || error.code !== 'wire-violation') throw error;
        }
      }
    }),
    { numRuns: 2000 },
  );
});
