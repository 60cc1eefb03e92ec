/** Peers that break a limit: each is stopped and counted, and an honest peer is served as if nothing had been. */
import { once } from 'node:events';
import { truncate, writeFile } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { infoHashFromDigest } from '../../nar/hash.ts';
import { addressKey, networkKey } from '../../swarm/address/address-key.ts';
import type { SeedServer, SeedStatus } from '../../swarm/seed/seed-server.ts';
import { encodeMetadata } from '../../swarm/torrent/metadata.ts';
import {
  encodeCancels,
  encodeExtended,
  encodeIndexed,
  encodeKeepAlive,
  encodePieceHeader,
  encodeRejects,
  encodeRequest,
  encodeRequests,
  encodeSimple,
} from '../../swarm/wire/wire-encode.ts';
import { encodeHandshake, makePeerId } from '../../swarm/wire/wire-handshake.ts';
import type { Held, SeedingOptions } from './seed-fixture.ts';
import { blocksOf, downloadHonestly, RawPeer, seeding, statusWhere } from './seed-fixture.ts';

const kib = 1024;
const block = { index: 0, begin: 0, lengthBytes: 16 * kib };

/** A server over one file, with a clock that only the test moves, and sweeps all the time. */
async function hostileTest(
  t: Parameters<typeof seeding>[0],
  lengthBytes: number,
  options: SeedingOptions = {},
) {
  const time = { nowMs: 0 };
  const { limits, ...more } = options;
  const made = await seeding(t, [lengthBytes], {
    limits: { sweepMs: 2, ...limits },
    clock: () => time.nowMs,
    ...more,
  });
  const [one] = made.held;
  if (one === undefined) throw new Error('no file');
  return { ...made, one, time };
}

function allGone(server: SeedServer): Promise<SeedStatus> {
  return statusWhere(server, ({ connections }) => connections === 0);
}

/** One more peer, greeted and unchoked. */
async function unchoked(
  server: SeedServer,
  { torrent }: Held,
  options: { fast?: boolean } = {},
): Promise<RawPeer> {
  const peer = RawPeer.open(server.port, torrent, options);
  peer.send(encodeSimple('interested'));
  await peer.hears('unchoke');
  return peer;
}

const violations: [string, Buffer[]][] = [
  ['a block', [encodePieceHeader(block), Buffer.alloc(10)]],
  ['a reject of nothing', [encodeRejects([block])]],
  ['a request for no bytes', [encodeRequest({ ...block, lengthBytes: 0 })]],
  ['a request for more than 128 KiB', [encodeRequest({ ...block, lengthBytes: 128 * kib + 1 })]],
  ['a request beyond the end of the file', [encodeRequest({ index: 1, begin: 36 * kib, lengthBytes: 1 })]],
  ['a request across a piece', [encodeRequest({ index: 0, begin: 49 * kib, lengthBytes: 16 * kib })]],
  ['a request for a piece that is not there', [encodeRequest({ ...block, index: 2 })]],
  ['a request at 4 GiB', [encodeRequest({ index: 0xffffffff, begin: 0xffffffff, lengthBytes: 1 })]],
  ['a have of a piece that is not there', [encodeIndexed('have', 2)]],
  ['a bitfield that is too long', [Buffer.from([0, 0, 0, 3, 5, 0, 0])]],
  ['a message of 4 GiB', [Buffer.from([0xff, 0xff, 0xff, 0xff, 20])]],
  ['an extended message that is no bencode', [encodeExtended(0, Buffer.from('hello'))]],
  ['a metadata message without a piece', [encodeExtended(1, Buffer.from('d8:msg_typei0ee'))]],
];
for (const [what, messages] of violations) {
  t.test(`${what} is a violation`, async (t) => {
    const { server, one } = await hostileTest(t, 100 * kib);
    const peer = await unchoked(server, one);
    peer.send(...messages);
    await peer.closed;
    t.equal((await allGone(server)).violations, 1);
    await downloadHonestly(server, one);
  });
}

t.test('another protocol is closed at its first byte, and counted apart', async (t) => {
  const { server, one } = await hostileTest(t, 100);
  const peer = new RawPeer(server.port, 1);
  peer.send(Buffer.from('GET / HTTP/1.1\r\n\r\n'));
  await peer.closed;
  const status = await allGone(server);
  t.equal(status.closed['not-bittorrent'], 1);
  t.equal(status.violations, 0);
  await downloadHonestly(server, one);
});

for (const part of [0, 1, 67]) {
  t.test(`a handshake that stops after ${part} bytes is given up at the deadline`, async (t) => {
    const { server, one, time } = await hostileTest(t, 100);
    const peer = new RawPeer(server.port, 1);
    const handshake = encodeHandshake({ infoHash: one.torrent.infoHash, peerId: makePeerId() });
    if (part > 0) peer.send(handshake.subarray(0, part));
    await statusWhere(server, ({ connections }) => connections === 1);
    time.nowMs = 9_999;
    await downloadHonestly(server, one);
    t.equal(server.status().closed['handshake-deadline'], 0, 'not before');
    time.nowMs = 10_000;
    await peer.closed;
    t.equal((await allGone(server)).closed['handshake-deadline'], 1);
  });
}

t.test('a source that does not answer keeps a connection no longer than the deadline', async (t) => {
  const { server, source, one, time } = await hostileTest(t, 100);
  const gate = Promise.withResolvers<void>();
  source.onOpen = () => gate.promise;
  const peer = RawPeer.open(server.port, one.torrent);
  await once(peer.socket, 'connect');
  await statusWhere(server, ({ connections }) => connections === 1);
  // The handshake has arrived by the time that a later connection's was refused.
  const other = new RawPeer(server.port, 1);
  other.send(Buffer.from('x'));
  await other.closed;
  time.nowMs = 10_000;
  await peer.closed;
  t.equal((await allGone(server)).closed['handshake-deadline'], 1);
  gate.resolve();
  await downloadHonestly(server, one);
});

t.test('no more connections than allowed, in all and per address', async (t) => {
  for (const limits of [{ connectionsMax: 3 }, { connectionsPerAddressMax: 3 }]) {
    const { server, one } = await hostileTest(t, 100, { limits });
    const peers = await Promise.all([1, 2, 3].map(() => unchoked(server, one)));
    const refused = new RawPeer(server.port, 1);
    await refused.closed;
    t.equal(server.status().refusedConnections, 1);
    t.equal(server.status().connections, 3);
    await Promise.all(peers.map((peer) => peer.destroy()));
    await allGone(server);
    await downloadHonestly(server, one);
  }
});

t.test('whoever is not admitted is turned away before anything is read from him', async (t) => {
  let admitted = false;
  const { server, one } = await hostileTest(t, 1000, { admits: () => admitted });
  const refused = new RawPeer(server.port, 1);
  await refused.closed;
  t.match(server.status(), { handshakes: 0, refusedConnections: 1 });
  admitted = true;
  await downloadHonestly(server, one);
});

t.test('no more torrents are open than allowed: idle ones make room, used ones do not', async (t) => {
  const { server, source, held } = await seeding(t, [100, 101, 102], { limits: { openTorrentsMax: 2 } });
  const [first, second, third] = held;
  if (first === undefined || second === undefined || third === undefined) return;
  const peers = [await unchoked(server, first), await unchoked(server, second)];
  const refused = RawPeer.open(server.port, third.torrent);
  await refused.closed;
  t.equal((await statusWhere(server, (s) => s.closed['torrents-full'] === 1)).openTorrents, 2);
  await peers[0]?.destroy();
  await statusWhere(server, ({ connections }) => connections === 1);
  await downloadHonestly(server, third);
  t.equal(source.openHandles, 2);
  t.equal(server.status().openTorrents, 2);
  await peers[1]?.destroy();
});

t.test('a torrent without connections is closed after a while', async (t) => {
  const { server, source, one, time } = await hostileTest(t, 100, { limits: { openTorrentIdleMs: 1_000 } });
  await downloadHonestly(server, one);
  await allGone(server);
  time.nowMs = 999;
  await downloadHonestly(server, one);
  t.equal(source.opened, 1);
  await allGone(server);
  time.nowMs = 1_999;
  await statusWhere(server, ({ openTorrents }) => openTorrents === 0);
  t.equal(source.openHandles, 0);
  await downloadHonestly(server, one);
});

t.test('a peer that asks for nothing is let go, and keepalives put that off only so often', async (t) => {
  const { server, one, time } = await hostileTest(t, 100, { limits: { keepAlivesMax: 2, idleMs: 1_000 } });
  const peer = await unchoked(server, one);
  peer.send(encodeExtended(0, Buffer.from('d1:md11:ut_metadatai3eee')));
  // The third keepalive changes nothing. The answer to what follows it shows that it has arrived.
  for (const nowMs of [999, 1_998, 2_500]) {
    time.nowMs = nowMs;
    const answers = peer.extended.length + 1;
    peer.send(encodeKeepAlive(), encodeExtended(1, encodeMetadata('request', 99)));
    await peer.until(() => peer.extended.length >= Math.max(answers, 2));
    t.equal(server.status().connections, 1, `${nowMs} ms: still there`);
  }
  time.nowMs = 2_998;
  await peer.closed;
  t.equal((await allGone(server)).closed.idle, 1);
  await downloadHonestly(server, one);
});

t.test('requests over the limit are rejected, in number and in bytes', async (t) => {
  for (const limits of [{ requestsQueuedMax: 3 }, { requestsQueuedMaxBytes: 48 * kib }]) {
    const { server, source, one } = await hostileTest(t, 100 * kib, { limits });
    const gate = Promise.withResolvers<void>();
    source.onRead = () => gate.promise;
    const peer = await unchoked(server, one);
    const blocks = blocksOf(one.torrent);
    peer.send(encodeRequests(blocks.slice(0, 5)));
    await peer.hears('reject 1 0 16384');
    gate.resolve();
    await peer.until(() => peer.blocks.size === 3);
    t.equal(server.status().requestsRejected, 2);
    t.equal(server.status().violations, 0);
    await peer.destroy();
    const plain = await unchoked(server, one, { fast: false });
    plain.send(encodeRequests(blocks.slice(0, 5)));
    await plain.closed;
    t.equal((await allGone(server)).violations, 1, 'a peer that knows no reject is dropped');
    const decent = await unchoked(server, one);
    decent.send(encodeRequest(block));
    await decent.until(() => decent.blocks.size === 1);
    await decent.destroy();
  }
});

t.test('a request before the unchoke is rejected, or ignored without the fast extension', async (t) => {
  // Where there is a rate, peers have to wait for their turn.
  const upload = { bytesPerSecond: 1024 * kib };
  const { server, one } = await hostileTest(t, 16 * kib, { upload });
  for (const fast of [true, false]) {
    const peer = RawPeer.open(server.port, one.torrent, { fast });
    peer.send(encodeRequest(block), encodeSimple('interested'));
    await peer.hears('unchoke');
    t.equal(peer.heard.includes('reject 0 0 16384'), fast);
    t.equal(peer.blockBytes, 0);
    await peer.destroy();
  }
  t.equal(server.status().requestsRejected, 2);
});

t.test('a peer that does not read holds no more than its window, and is closed after a minute', async (t) => {
  const { server, source, one, time } = await hostileTest(t, 64 * 1024 * kib);
  let most = 0;
  source.onRead = async () => {
    most = Math.max(most, server.status().unsentBytes);
  };
  const peer = RawPeer.open(server.port, one.torrent);
  await peer.hears('haveAll');
  peer.socket.pause();
  peer.send(encodeSimple('interested'), encodeRequests(blocksOf(one.torrent).slice(0, 2000)));
  await downloadHonestly(server, one);
  t.ok(most <= 2 * 2048 * kib, `${most} bytes waited at most: a window for each of the two peers`);
  t.ok(server.status().unsentBytes > 0);
  time.nowMs = 60_000;
  await allGone(server);
  t.equal(server.status().closed['slow-reader'], 1);
  t.equal(server.status().unsentBytes, 0);
  await peer.destroy();
  await downloadHonestly(server, one);
});

t.test('many peers that do not read stay within the budget, and leave room for those that do', async (t) => {
  const sendBudgetBytes = 1024 * kib;
  const { server, one } = await hostileTest(t, 64 * 1024 * kib, { limits: { sendBudgetBytes } });
  const peers = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const peer = RawPeer.open(server.port, one.torrent);
      await peer.hears('haveAll');
      peer.socket.pause();
      peer.send(encodeSimple('interested'), encodeRequests(blocksOf(one.torrent).slice(0, 2000)));
      return peer;
    }),
  );
  let most = 0;
  let last = -1;
  await statusWhere(server, ({ uploadedBytes, unsentBytes }) => {
    most = Math.max(most, unsentBytes);
    const settled = unsentBytes >= 8 * 64 * kib && uploadedBytes === last;
    last = uploadedBytes;
    return settled;
  });
  // Half the budget, one last window of the largest size, and the smallest one for each peer.
  t.ok(most <= sendBudgetBytes / 2 + 2048 * kib + 8 * 64 * kib, `${most} bytes at most`);
  await downloadHonestly(server, one);
  await Promise.all(peers.map((peer) => peer.destroy()));
  await allGone(server);
  t.equal(server.status().unsentBytes, 0);
});

t.test('what is still being read for peers that have left counts until it is here', async (t) => {
  const { server, source, one } = await hostileTest(t, 1024 * kib);
  const disk = Promise.withResolvers<void>();
  t.teardown(() => disk.resolve());
  source.onRead = () => disk.promise;
  for (let count = 1; count <= 3; count++) {
    const peer = await unchoked(server, one);
    peer.send(encodeRequest(block));
    await statusWhere(server, ({ unsentBytes }) => unsentBytes === count * block.lengthBytes);
    await peer.destroy();
    await allGone(server);
  }
  t.equal(server.status().unsentBytes, 3 * block.lengthBytes);
  disk.resolve();
  await statusWhere(server, ({ unsentBytes }) => unsentBytes === 0);
  await downloadHonestly(server, one);
});

t.test('a peer that asks for answers and does not read them is no longer read from', async (t) => {
  const limits = {
    controlBacklogMaxBytes: 4 * kib,
    sendWindowMaxBytes: 64 * kib,
    chatterPerMinuteMax: Number.POSITIVE_INFINITY,
  };
  const { server, one, time } = await hostileTest(t, 64 * 1024 * kib, { limits });
  const peer = RawPeer.open(server.port, one.torrent);
  await peer.hears('haveAll');
  peer.socket.pause();
  // Each of these requests is answered by a reject, since the peer was not unchoked, until the kernel takes no more of them.
  const flood = encodeRequests(blocksOf(one.torrent));
  let sent = 0;
  while (peer.socket.writableLength < 4 * flood.length && sent++ < 2_000) {
    peer.send(flood);
    await setImmediate();
  }
  t.ok(peer.socket.writableLength > 0, 'what the peer sends is stuck on its own side');
  time.nowMs = 60_000;
  t.equal((await allGone(server)).closed['slow-reader'], 1);
  await peer.destroy();
  await downloadHonestly(server, one);
});

t.test('a handshake for an unknown torrent closes no torrent to make room', async (t) => {
  const { server, source, one } = await hostileTest(t, 100, { limits: { openTorrentsMax: 1 } });
  await downloadHonestly(server, one);
  await allGone(server);
  for (let i = 0; i < 20; i++) {
    const peer = RawPeer.open(server.port, {
      ...one.torrent,
      infoHash: infoHashFromDigest(Buffer.alloc(20, i)),
    });
    await peer.closed;
  }
  t.equal((await allGone(server)).unknownInfoHashes, 20);
  t.equal(server.status().openTorrents, 1);
  await downloadHonestly(server, one);
  t.equal(source.opened, 1);
});

/** Handshakes for torrents that nobody has, one after the other, from one address or from as many as there are handshakes. */
async function askForUnknown(
  server: SeedServer,
  count: number,
  localAddress: (i: number) => string = () => '127.0.0.1',
): Promise<void> {
  const { unknownInfoHashes: before } = server.status();
  for (let i = 0; i < count; i++) {
    const peer = new RawPeer(server.port, 1, localAddress(i));
    peer.send(encodeHandshake({ infoHash: infoHashFromDigest(Buffer.alloc(20, i)), peerId: makePeerId() }));
    await peer.closed;
  }
  await statusWhere(server, ({ unknownInfoHashes }) => unknownInfoHashes === before + count);
}

t.test('who asks for unknown torrents all the time waits for the next minute', async (t) => {
  const { server, one, time } = await hostileTest(t, 100, { limits: { unknownPerMinuteMax: 20 } });
  await askForUnknown(server, 20);
  time.nowMs = 59_999;
  const peer = RawPeer.open(server.port, one.torrent);
  await peer.closed;
  t.same(peer.heard, []);
  t.equal(server.status().refusedConnections, 1);
  t.equal(server.status().connections, 0, 'nothing was made for it');
  time.nowMs = 60_000;
  await downloadHonestly(server, one);
});

t.test('an address that is served may ask for any number of unknown torrents', async (t) => {
  const { server, one } = await hostileTest(t, 100, { limits: { unknownPerMinuteMax: 5 } });
  const served = await unchoked(server, one);
  await askForUnknown(server, 8);
  await downloadHonestly(server, one);
  await served.destroy();
  await allGone(server);
  const peer = RawPeer.open(server.port, one.torrent);
  await peer.closed;
  t.equal(server.status().refusedConnections, 1, 'once it is not served, it is one like others');
});

t.test('a flood from many addresses shares one limit, and those who took no part are let in', async (t) => {
  const { server, one, time } = await hostileTest(t, 100, { limits: { unknownPerSecondMax: 20 } });
  const flooder = (i: number): string => `127.0.5.${1 + i}`;
  await askForUnknown(server, 20, flooder);
  const again = RawPeer.open(server.port, one.torrent, { localAddress: flooder(0) });
  await again.closed;
  t.same(again.heard, []);
  t.equal(server.status().refusedConnections, 1);
  await downloadHonestly(server, one);
  // Each of them may have one, as somebody who comes for the first time.
  await askForUnknown(server, 5, (i) => flooder(100 + i));
  // Time allows for a few more.
  time.nowMs = 100;
  await askForUnknown(server, 2, flooder);
  const late = RawPeer.open(server.port, one.torrent, { localAddress: flooder(5) });
  await late.closed;
  t.equal(server.status().refusedConnections, 2);
  time.nowMs = 1_000;
  const after = RawPeer.open(server.port, one.torrent, { localAddress: flooder(0) });
  await after.hears('handshake');
  await after.destroy();
});

t.test('who keeps coming during a flood is not forgotten at the end of a minute', async (t) => {
  const { server, one, time } = await hostileTest(t, 100, { limits: { unknownPerSecondMax: 5 } });
  const flooder = (i: number): string => `127.0.5.${1 + i}`;
  /** As many as there may be in a second come from others, and then one from an old acquaintance. */
  const comesBack = async (first: number): Promise<void> => {
    await askForUnknown(server, 5, (i) => flooder(first + i));
    const peer = RawPeer.open(server.port, one.torrent, { localAddress: flooder(0) });
    await peer.closed;
  };
  for (const [turn, nowMs] of [0, 60_000, 120_000, 180_000].entries()) {
    time.nowMs = nowMs;
    await comesBack(turn * 5);
    t.equal(server.status().refusedConnections, turn + 1);
  }
});

const chatter: [string, Buffer][] = [
  ['unknown messages', Buffer.from([0, 0, 0, 2, 99, 0])],
  ['keepalives', encodeKeepAlive()],
  ['DHT ports', Buffer.from([0, 0, 0, 3, 9, 1, 1])],
  ['changes of interest', Buffer.concat([encodeSimple('interested'), encodeSimple('notInterested')])],
  ['the same have', encodeIndexed('have', 0)],
  ['the same bitfield', Buffer.from([0, 0, 0, 2, 5, 0x80])],
  ['have none', encodeSimple('haveNone')],
  ['unknown extensions', encodeExtended(77, Buffer.alloc(3))],
  ['extended handshakes', encodeExtended(0, Buffer.from('de'))],
  ['cancels of nothing', encodeCancels([block])],
  ['metadata beyond the end', encodeExtended(1, encodeMetadata('request', 5))],
];
for (const [what, message] of chatter) {
  t.test(`a flood of ${what} is cut off`, async (t) => {
    const { server, one, time } = await hostileTest(t, 100 * kib, { limits: { chatterPerMinuteMax: 50 } });
    const peer = await unchoked(server, one);
    peer.send(...new Array<Buffer>(20).fill(message), encodeRequest(block));
    await peer.until(() => peer.blocks.size === 1);
    time.nowMs = 60_000;
    peer.send(...new Array<Buffer>(20).fill(message), encodeRequest({ ...block, begin: 16 * kib }));
    await peer.until(() => peer.blocks.size === 2);
    peer.send(...new Array<Buffer>(60).fill(message));
    await peer.closed;
    t.equal((await allGone(server)).violations, 1);
    await downloadHonestly(server, one);
  });
}

t.test('the metadata is given to one peer only so often, and nothing beyond its end', async (t) => {
  const { server, one } = await hostileTest(t, 100);
  const peer = await unchoked(server, one);
  const ask = (piece: number): Buffer => encodeExtended(1, encodeMetadata('request', piece));
  peer.send(
    encodeExtended(0, Buffer.from('d1:md11:ut_metadatai3eee')),
    ask(0),
    ask(1),
    ask(0),
    ask(0),
    ask(0),
  );
  await peer.until(() => peer.extended.length === 6);
  const kinds = peer.extended.slice(1).map(({ payload }) => payload.toString('latin1').slice(0, 15));
  t.same(
    kinds,
    [1, 2, 1, 1, 2].map((type) => `d8:msg_typei${type}e5`.slice(0, 15)),
  );
  t.equal(server.status().metadataPieces, 3);
  await peer.destroy();
  await downloadHonestly(server, one);
});

t.test('a seed that does not hang up is cut off', async (t) => {
  const { server, one, time } = await hostileTest(t, 100);
  const peer = RawPeer.open(server.port, one.torrent);
  peer.socket.allowHalfOpen = true;
  peer.send(encodeSimple('haveAll'));
  await once(peer.socket, 'end');
  t.equal(server.status().connections, 1);
  time.nowMs = 5_000;
  t.equal((await allGone(server)).closed['peer-is-seed'], 1);
  await peer.destroy();
  await downloadHonestly(server, one);
});

t.test('a read that fails costs its connection, and the file is opened anew for the next', async (t) => {
  const faults: unknown[] = [];
  const { server, source, one } = await hostileTest(t, 100 * kib, { onFault: (error) => faults.push(error) });
  source.onRead = async () => {
    throw new Error('bad sector');
  };
  const peer = await unchoked(server, one);
  peer.send(encodeRequests(blocksOf(one.torrent)));
  await peer.closed;
  t.equal((await allGone(server)).readFailures, 1);
  t.match(faults, [{ message: 'bad sector' }]);
  source.onRead = undefined;
  await downloadHonestly(server, one);
  t.equal(source.opened, 2);
});

t.test('a file that became shorter is not served, and nothing is made up', async (t) => {
  const { server, one } = await hostileTest(t, 64 * kib);
  await truncate(one.path, 20_000);
  const peer = await unchoked(server, one);
  peer.send(encodeRequests(blocksOf(one.torrent)));
  await peer.closed;
  t.equal(peer.blockBytes, 0);
  t.equal((await allGone(server)).readFailures, 1);
  await writeFile(one.path, one.bytes);
  await downloadHonestly(server, one);
});

t.test('a source that throws costs the connection, not the server', async (t) => {
  const faults: unknown[] = [];
  const { server, source, one } = await hostileTest(t, 100, { onFault: (error) => faults.push(error) });
  source.onOpen = async () => {
    throw new Error('database is locked');
  };
  const peer = RawPeer.open(server.port, one.torrent);
  await peer.closed;
  t.equal((await allGone(server)).closed['source-failed'], 1);
  t.match(faults, [{ message: 'database is locked' }]);
  source.onOpen = undefined;
  await downloadHonestly(server, one);
});

t.test('peers that leave at any moment leave nothing behind', async (t) => {
  const { server, source, one } = await hostileTest(t, 2048 * kib);
  await Promise.all(
    Array.from({ length: 40 }, async (_, i) => {
      const peer = RawPeer.open(server.port, one.torrent);
      peer.send(encodeSimple('interested'), encodeRequests(blocksOf(one.torrent)));
      await peer.until(() => peer.blockBytes >= i * 20_000);
      peer.socket.resetAndDestroy();
      await peer.closed;
    }),
  );
  const status = await allGone(server);
  t.equal(status.violations, 0);
  t.equal(status.unsentBytes, 0);
  t.equal(source.openHandles, 1);
  await downloadHonestly(server, one);
});

t.test('an address is one IPv4 address or one IPv6 /64', async (t) => {
  t.equal(networkKey('::ffff:192.0.2.7'), networkKey('192.0.2.200'));
  t.not(networkKey('192.0.3.7'), networkKey('192.0.2.7'));
  t.equal(networkKey('2001:db8:0:1:2:3:4:5'), '2001:db8:0::/48');
  t.equal(addressKey('192.0.2.7'), '192.0.2.7');
  t.equal(addressKey('::ffff:192.0.2.7'), '192.0.2.7');
  t.equal(addressKey('2001:db8:0:1:2:3:4:5'), addressKey('2001:0db8::1:ffff:0:0:1'));
  t.not(addressKey('2001:db8:0:1::1'), addressKey('2001:db8:0:2::1'));
  t.equal(addressKey('::1'), '0:0:0:0::/64');
  t.equal(addressKey('fe80::1%eth0'), 'fe80:0:0:0::/64');
});
