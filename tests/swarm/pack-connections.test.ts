/** Warm connections to packs, over real sockets: to peers that behave, and to some that do not. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { isNarswarmError, type NarswarmError } from '../../nar/errors.ts';
import type { InfoHash } from '../../nar/hash.ts';
import type { PeerAddress } from '../../swarm/address/peer-address.ts';
import {
  PackConnections,
  type PackConnectionsOptions,
  type PackRead,
} from '../../swarm/fetch/pack-connections.ts';
import type { PackLimits } from '../../swarm/fetch/pack-limits.ts';
import { openSeedServer } from '../../swarm/seed/seed-server.ts';
import { blockBytes } from '../../swarm/wire/limits.ts';
import type { BlockRequest } from '../../swarm/wire/wire-encode.ts';
import { encodeRejects, encodeSimple, writePieceHeader } from '../../swarm/wire/wire-encode.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';
import { spoilt, TestPeer, type TestPeerOptions } from '../helpers/test-peer.ts';
import { fileOf, pieceBytes } from './fetch-fixture.ts';

/** Stands for a pack: what is in it nobody here looks at. */
const pack = fileOf(30 * pieceBytes + 1_234);
const { infoHash } = pack.torrent;
const never = new AbortController().signal;

t.beforeEach((t) => provesNothingStaysOpen(t));

function peerOf(t: Test, options: Partial<TestPeerOptions> = {}): Promise<TestPeer> {
  return TestPeer.open(t, { ...pack, ...options });
}

function connectionsOf(
  t: Test,
  limits: Partial<PackLimits> = {},
  options: PackConnectionsOptions = {},
): PackConnections {
  const faults: unknown[] = [];
  const connections = new PackConnections({ limits, onFault: (error) => faults.push(error), ...options });
  t.teardown(() => connections.close());
  t.teardown(() => {
    if (faults.length > 0) throw faults[0];
  });
  return connections;
}

interface Wanted {
  offset: number;
  lengthBytes: number;
}

function placeOf({ offset, lengthBytes }: Wanted, peers: readonly PeerAddress[]) {
  const addresses = peers.map(({ host, port }) => ({ host, port }));
  return { infoHash, offset, lengthBytes, peers: addresses, stepBytes: pieceBytes };
}

async function bytesOf(read: PackRead | undefined): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of read?.bytes ?? []) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function errorOf(read: PackRead | undefined): Promise<NarswarmError> {
  try {
    await bytesOf(read);
  } catch (error) {
    if (isNarswarmError(error)) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

function right({ offset, lengthBytes }: Wanted): Buffer {
  return pack.bytes.subarray(offset, offset + lengthBytes);
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('it did not come true in 10 s');
    await sleep(2);
  }
}

/** NAR files that follow each other, none of them aligned to anything. */
const narFiles: Wanted[] = [];
for (
  let offset = 777, lengthBytes = 200;
  offset < 20 * pieceBytes;
  lengthBytes = (lengthBytes * 7) % 99_991
) {
  narFiles.push({ offset, lengthBytes });
  offset += lengthBytes;
}

t.test('many NAR files at once come over one connection, and nothing else is asked for', async (t) => {
  for (const fast of [true, false]) {
    const peer = await peerOf(t, { fast });
    const connections = connectionsOf(t);
    t.notOk(connections.isWarm(infoHash));
    connections.warm(infoHash, [peer]);
    await until(() => connections.isWarm(infoHash));
    const reads = narFiles.map((place) => connections.open(placeOf(place, [peer]), never));
    const got = await Promise.all(reads.map(bytesOf));
    for (const [index, place] of narFiles.entries())
      if (!got[index]?.equals(right(place))) t.fail(`NAR file ${index} has other bytes`);
    t.same([...(reads[0]?.givers ?? [])], [peer.key]);
    t.equal(peer.connections, 1);
    const wanted = narFiles.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    const asked = peer.requests.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    t.equal(asked, wanted, 'exactly what is in them');
    t.ok(peer.requests.every((block) => block.begin + block.lengthBytes <= pieceBytes));
    t.ok(peer.requests.every((block) => block.lengthBytes <= blockBytes));
    t.match(connections.status(), { connections: 1, warm: 1, wanted: 0, downloadedBytes: wanted });
  }
});

t.test('places of every shape', async (t) => {
  const peer = await peerOf(t);
  const connections = connectionsOf(t);
  for (const place of [
    { offset: 0, lengthBytes: 1 },
    { offset: pieceBytes - 1, lengthBytes: 2 },
    { offset: pieceBytes, lengthBytes: pieceBytes },
    { offset: pieceBytes + 1, lengthBytes: 2 * pieceBytes },
    { offset: 5, lengthBytes: 16 * pieceBytes },
    { offset: pack.bytes.length - 1, lengthBytes: 1 },
  ]) {
    const got = await bytesOf(connections.open(placeOf(place, [peer]), never));
    t.ok(got.equals(right(place)), JSON.stringify(place));
  }
  const tooLong = { offset: 0, lengthBytes: 16 * pieceBytes + 1 };
  t.equal(connections.open(placeOf(tooLong, [peer]), never), undefined, 'no more than a pack can hold');
});

t.test('a NAR file that is asked for later does not wait for all of a large one', async (t) => {
  const served: number[] = [];
  const peer = await peerOf(t, {
    async answer(block, bytes) {
      served.push(block.index);
      await sleep(1);
      return bytes;
    },
  });
  const connections = connectionsOf(t, { startRequests: 4, minRequests: 4, maxRequests: 4, turnBlocks: 2 });
  const large = connections.open(placeOf({ offset: 0, lengthBytes: 8 * pieceBytes }, [peer]), never);
  await until(() => served.length > 4);
  const small = connections.open(placeOf({ offset: 20 * pieceBytes, lengthBytes: 30_000 }, [peer]), never);
  await bytesOf(small);
  t.ok(served.length < 20, `${served.length} of 34 blocks were served by then`);
  t.equal((await bytesOf(large)).length, 8 * pieceBytes);
});

t.test('blocks that are asked for in the order of the pack cost our seeder few reads', async (t) => {
  let reads = 0;
  const server = await openSeedServer({
    host: '127.0.0.1',
    port: 0,
    source: {
      mayHold: () => true,
      open: async () => ({
        torrent: pack.torrent,
        async read(position, lengthBytes) {
          reads++;
          return pack.bytes.subarray(position, position + lengthBytes);
        },
        close: async () => undefined,
      }),
    },
  });
  t.teardown(() => server.close());
  const connections = connectionsOf(t);
  const peers = [{ host: '127.0.0.1', port: server.port }];
  connections.warm(infoHash, peers);
  await until(() => connections.isWarm(infoHash));
  const small = narFiles.filter(({ lengthBytes }) => lengthBytes < 40_000).slice(0, 20);
  const following = small.map(({ lengthBytes }, index) => ({
    offset: 3_000 + small.slice(0, index).reduce((sum, each) => sum + each.lengthBytes, 0),
    lengthBytes,
  }));
  const got = await Promise.all(
    following.map((place) => bytesOf(connections.open(placeOf(place, peers), never))),
  );
  t.ok(got.every((bytes, index) => bytes.equals(right(following[index] ?? { offset: 0, lengthBytes: 0 }))));
  t.ok(reads < following.length, `${reads} reads for ${following.length} NAR files`);
});

t.test('what nobody wants any more is cancelled, and the others come', async (t) => {
  const peer = await peerOf(t, {
    async answer(_block, bytes) {
      await sleep(5);
      return bytes;
    },
  });
  const connections = connectionsOf(t);
  const stop = new AbortController();
  const dropped = connections.open(placeOf({ offset: 0, lengthBytes: 8 * pieceBytes }, [peer]), stop.signal);
  const kept = connections.open(placeOf({ offset: 9 * pieceBytes, lengthBytes: 70_000 }, [peer]), never);
  const failing = errorOf(dropped);
  await until(() => peer.requests.length > 0);
  stop.abort();
  t.equal((await failing).code, 'aborted');
  t.ok((await bytesOf(kept)).equals(right({ offset: 9 * pieceBytes, lengthBytes: 70_000 })));
  t.ok(peer.cancels.length > 20, `${peer.cancels.length} cancels`);
  t.ok(peer.cancels.every(({ index }) => index < 8));
  t.equal(peer.connections, 1);
  // One who stops reading gives it up as well.
  const left = connections.open(placeOf({ offset: 0, lengthBytes: 4 * pieceBytes }, [peer]), never);
  for await (const _ of left?.bytes ?? []) break;
  t.equal(connections.status().wanted, 0);
  t.equal(connections.open(placeOf({ offset: 0, lengthBytes: 1 }, [peer]), stop.signal), undefined);
});

const place = { offset: 12_345, lengthBytes: 10 * pieceBytes };

/** A block that was not asked for, or not like that. */
function say({ sockets }: TestPeer, block: BlockRequest, bytes: Buffer): undefined {
  const header = Buffer.alloc(13);
  writePieceHeader(header, 0, block);
  for (const socket of sockets) socket.write(Buffer.concat([header, bytes]));
}

/** Ways in which a peer can let us down in the middle; each ends the connection, or the range. */
const failures: Record<string, Partial<TestPeerOptions>> = {
  'hangs up': {
    answer(block, bytes, peer) {
      if (block.index === 3) peer.hangUp();
      return bytes;
    },
  },
  'falls silent': { answer: (block, bytes) => (block.index >= 3 ? undefined : bytes) },
  refuses: { answer: (block, bytes) => (block.index >= 3 ? 'reject' : bytes) },
  chokes: {
    answer(block, bytes, peer) {
      if (block.index < 3) return bytes;
      for (const socket of peer.sockets) socket.write(encodeSimple('choke'));
      return undefined;
    },
  },
  'sends other blocks': {
    answer: (block, bytes, peer) =>
      block.index < 3 ? bytes : say(peer, { ...block, index: block.index + 20 }, bytes),
  },
  'sends blocks of another length': {
    answer: (block, bytes, peer) =>
      block.index < 3 ? bytes : say(peer, { ...block, lengthBytes: 99 }, bytes.subarray(0, 99)),
  },
  'sends blocks that are too long': {
    answer: (block, bytes, peer) =>
      block.index < 3
        ? bytes
        : say(peer, { ...block, lengthBytes: blockBytes + 1 }, Buffer.alloc(blockBytes + 1)),
  },
  drips: {
    async answer(block, bytes) {
      if (block.index >= 3) await sleep(60);
      return bytes.length > 1 && block.index >= 3 ? undefined : bytes;
    },
  },
  'talks noise': {
    answer(block, bytes, peer) {
      if (block.index < 3) return bytes;
      for (const socket of peer.sockets) socket.write(Buffer.alloc(1_000, 0x99));
      return undefined;
    },
  },
  'talks too much': {
    answer(block, bytes, peer) {
      if (block.index < 3) return bytes;
      for (const socket of peer.sockets) socket.write(Buffer.alloc(4 * 40_000));
      return undefined;
    },
  },
};

for (const [how, options] of Object.entries(failures)) {
  t.test(`a peer that ${how} is replaced by another; without one the range fails`, async (t) => {
    const [bad, good] = await Promise.all([peerOf(t, options), peerOf(t)]);
    const connections = connectionsOf(t, { stallMs: 150, slowMs: 60_000, peersPerPack: 1 });
    const read = connections.open(placeOf(place, [bad, good]), never);
    t.ok((await bytesOf(read)).equals(right(place)));
    t.ok(good.requests.every(({ index }) => index >= 3 || index === 0 || how === 'chokes'));
    t.same([...(read?.givers ?? [])].sort(), [bad.key, good.key].sort());
    const alone = connectionsOf(t, { stallMs: 150, slowMs: 60_000, connectMs: 500 });
    const { code } = await errorOf(alone.open(placeOf(place, [bad]), never));
    t.match(code, /^swarm-(exhausted|stalled)$/);
    t.equal(alone.status().wanted, 0);
  });
}

t.test('a peer that serves one NAR file for ever and never the other is left', async (t) => {
  const peer = await peerOf(t, {
    async answer(block, bytes) {
      await sleep(3);
      return block.index === 25 ? undefined : bytes;
    },
  });
  const connections = connectionsOf(t, { blockMs: 300 });
  const starved = errorOf(
    connections.open(placeOf({ offset: 25 * pieceBytes, lengthBytes: 9 }, [peer]), never),
  );
  let over = false;
  const feed = async (): Promise<void> => {
    while (!over) {
      const read = connections.open(placeOf({ offset: 0, lengthBytes: 20_000 }, [peer]), never);
      if (read === undefined) return;
      await bytesOf(read).catch(() => undefined);
    }
  };
  const feeding = feed();
  t.equal((await starved).code, 'swarm-exhausted');
  over = true;
  await feeding;
});

t.test('who drips a few bytes at a time is left', async (t) => {
  const peer = await peerOf(t, {
    async answer(block, bytes, { sockets }) {
      const header = Buffer.alloc(13);
      writePieceHeader(header, 0, block);
      for (const socket of sockets) {
        socket.write(header);
        for (const byte of bytes) {
          if (socket.destroyed) break;
          socket.write(Buffer.from([byte]));
          await sleep(20);
        }
      }
      return undefined;
    },
  });
  const connections = connectionsOf(t, { slowMs: 400, blockMs: 60_000 });
  const { code } = await errorOf(connections.open(placeOf({ offset: 0, lengthBytes: 9_000 }, [peer]), never));
  t.equal(code, 'swarm-exhausted');
});

t.test(
  'a peer without the pack, one that never lets ask, and one that is not there cost little',
  async (t) => {
    const dead = await peerOf(t);
    await dead.close();
    const ways: Partial<TestPeerOptions>[] = [
      { greets: 'never' },
      { greets: 'as-another-torrent' },
      { greets: 'with-noise' },
      { greets: 'without-unchoke' },
    ];
    for (const options of ways) {
      const bad = await peerOf(t, options);
      const connections = connectionsOf(t, { connectMs: 200 });
      const read = connections.open(placeOf({ offset: 3, lengthBytes: 9 }, [dead, bad]), never);
      let live = false;
      void read?.live.then(() => {
        live = true;
      });
      t.match((await errorOf(read)).code, /^swarm-(exhausted|stalled)$/);
      t.notOk(live);
    }
    const connections = connectionsOf(t, { connectMs: 200 });
    await errorOf(connections.open(placeOf(place, [dead]), never));
    t.equal(connections.open(placeOf(place, [dead]), never), undefined, 'it is not tried again at once');
    connections.warm(infoHash, [dead]);
    t.equal(connections.status().connections, 0);
  },
);

t.test('who gave wrong bytes is left, for that pack and in the end for all', async (t) => {
  const liar = await peerOf(t, { answer: (_block, bytes) => spoilt(bytes) });
  const connections = connectionsOf(t, { spoiltPacks: 2 });
  const read = connections.open(placeOf(place, [liar]), never);
  t.notOk((await bytesOf(read)).equals(right(place)), 'here nothing is known about the bytes');
  connections.distrust(infoHash, read?.givers ?? []);
  t.notOk(connections.isWarm(infoHash));
  t.equal(connections.open(placeOf(place, [liar]), never), undefined);
  const other = fileOf(pieceBytes);
  const elsewhere = { ...placeOf(place, [liar]), infoHash: other.torrent.infoHash };
  t.ok(connections.open(elsewhere, AbortSignal.timeout(1_000)), 'another pack may be another matter');
  connections.distrust(other.torrent.infoHash, [liar.key]);
  const third = fileOf(2 * pieceBytes).torrent.infoHash;
  t.equal(connections.open({ ...elsewhere, infoHash: third }, never), undefined);
});

t.test('a connection that nobody uses is closed, and there are only so many', async (t) => {
  const [first, second] = await Promise.all([peerOf(t), peerOf(t)]);
  const connections = connectionsOf(t, { idleMs: 100, connections: 1 });
  connections.warm(infoHash, [first, second]);
  t.equal(connections.status().connections, 1);
  await until(() => connections.isWarm(infoHash));
  await until(() => first.sockets.size + second.sockets.size === 0);
  t.match(connections.status(), { connections: 0, packs: 0 });
  t.ok((await bytesOf(connections.open(placeOf(place, [first]), never))).equals(right(place)), 'made anew');
  const other = fileOf(pieceBytes);
  const third = await TestPeer.open(t, other);
  connections.warm(other.torrent.infoHash, [third]);
  t.equal(connections.status().connections, 1, 'the idle one made room');
  t.notOk(connections.isWarm(infoHash));
});

t.test(
  'whoever names pack after pack makes this machine connect to no more addresses than it waits for',
  async (t) => {
    const silent = await peerOf(t, { greets: 'never' });
    const connections = connectionsOf(t, { connections: 4, connectMs: 20_000 });
    for (let index = 0; index < 20; index++) {
      const other = `${index.toString(16).padStart(2, '0')}${infoHash.slice(2)}` as InfoHash;
      connections.warm(other, [silent]);
      t.ok(connections.status().connections <= 4);
      // Whoever connected before is accepted before.
      const knock = connect(silent.port, silent.host);
      await once(knock, 'connect');
      await until(() => [...silent.sockets].some(({ remotePort }) => remotePort === knock.localPort));
      knock.destroy();
    }
    t.equal(silent.connections, 20 + 4, 'with those of the test');
    t.match(connections.status(), { connections: 4, packs: 4 });
  },
);

t.test('a peer that made room is not replaced by another of its pack', async (t) => {
  const [first, second] = await Promise.all([
    peerOf(t, { greets: 'without-unchoke' }),
    peerOf(t, { greets: 'without-unchoke' }),
  ]);
  const connections = connectionsOf(t, { connections: 1, peersPerPack: 1 });
  const waiting = errorOf(connections.open(placeOf(place, [first, second]), never));
  const other = fileOf(pieceBytes);
  const third = await TestPeer.open(t, other);
  await until(() => {
    connections.warm(other.torrent.infoHash, [third]);
    return connections.isWarm(other.torrent.infoHash) || connections.status().connections > 1;
  });
  t.equal(connections.status().connections, 1);
  t.equal((await waiting).code, 'swarm-exhausted');
});

t.test('of two NAR files that are said to overlap, one comes from another peer, whole', async (t) => {
  const { promise: bothCame, resolve: go } = Promise.withResolvers<void>();
  const slow = await peerOf(t, {
    async answer(_block, bytes) {
      await bothCame;
      return bytes;
    },
  });
  const other = await peerOf(t);
  const connections = connectionsOf(t, { peersPerPack: 1, stallMs: 20_000, slowMs: 20_000 });
  const addresses = [slow, other];
  const before = { offset: pieceBytes, lengthBytes: pieceBytes };
  const across = { offset: pieceBytes - blockBytes, lengthBytes: pieceBytes };
  const first = bytesOf(connections.open(placeOf(before, addresses), never));
  await until(() => slow.requests.length === pieceBytes / blockBytes);
  const second = connections.open(placeOf(across, addresses), AbortSignal.timeout(20_000));
  t.ok((await bytesOf(second)).equals(right(across)));
  t.same([...(second?.givers ?? [])], [other.key]);
  go();
  t.ok((await first).equals(right(before)));
});

t.test('a peer that fell away for one NAR file is asked for the next when it has only a part', async (t) => {
  const part = await peerOf(t, { answer: (block, bytes) => (block.index < 5 ? bytes : 'reject') });
  const connections = connectionsOf(t);
  const inside = { offset: 100, lengthBytes: 4 * pieceBytes };
  const outside = { offset: 6 * pieceBytes, lengthBytes: 50_000 };
  const reads = [outside, inside].map((each) => connections.open(placeOf(each, [part]), never));
  t.equal((await errorOf(reads[0])).code, 'swarm-exhausted');
  t.ok((await bytesOf(reads[1])).equals(right(inside)));
  t.equal(part.connections, 1);
});

t.test('rejects of what was never asked for, and blocks that cross a cancel, do no harm', async (t) => {
  const peer = await peerOf(t, {
    answer(block: BlockRequest, bytes, { sockets }) {
      for (const socket of sockets) socket.write(encodeRejects([{ ...block, begin: block.begin + 1 }]));
      return bytes;
    },
  });
  const connections = connectionsOf(t);
  t.ok((await bytesOf(connections.open(placeOf(place, [peer]), never))).equals(right(place)));
});

t.test('when all is closed, whoever waits is told', async (t) => {
  const peer = await peerOf(t, { answer: () => undefined });
  const connections = connectionsOf(t);
  const waiting = errorOf(connections.open(placeOf(place, [peer]), never));
  await connections.close();
  await connections.close();
  t.equal((await waiting).code, 'aborted');
  t.equal(connections.open(placeOf(place, [peer]), never), undefined);
});
