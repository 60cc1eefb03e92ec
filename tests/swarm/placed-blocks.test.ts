/** Large blocks are read from the socket straight to where they belong. */
import assert from 'node:assert/strict';
import { hash, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { HashThread } from '../../swarm/fetch/hash-thread.ts';
import { PieceMemory } from '../../swarm/fetch/piece-memory.ts';
import { PieceWindow } from '../../swarm/fetch/piece-window.ts';
import type { Torrent } from '../../swarm/torrent/torrent.ts';
import { blockBytes, foreignBlockMaxBytes } from '../../swarm/wire/limits.ts';
import { takeMemory } from '../../swarm/wire/memory.ts';
import { WireDecoder } from '../../swarm/wire/wire.ts';
import {
  type BlockRequest,
  encodeIndexed,
  encodePieceHeader,
  encodeRequests,
  encodeSimple,
} from '../../swarm/wire/wire-encode.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';
import { TestPeer } from '../helpers/test-peer.ts';
import { collect, type File, fetchFrom, fileOf } from './fetch-fixture.ts';
import { RawPeer, type Seeding, seeding } from './seed-fixture.ts';

const mebibyte = 1024 * 1024;

t.beforeEach((t) => provesNothingStaysOpen(t));

/** A file whose torrent has pieces as those of much larger ones. */
function inPieces(lengthBytes: number, pieceLength: number): File {
  const { torrent, bytes } = fileOf(lengthBytes);
  return { bytes, torrent: cutInto(torrent, bytes, pieceLength) };
}

function cutInto(torrent: Torrent, bytes: Buffer, pieceLength: number): Torrent {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += pieceLength) {
    pieces.push(hash('sha1', bytes.subarray(at, at + pieceLength), 'buffer'));
  }
  return { ...torrent, pieceLength, pieces: Buffer.concat(pieces) };
}

t.test('a stream gives the same however it is read, to the places of its blocks or not', async () => {
  const block = fc.uint8Array({ minLength: 1, maxLength: 300 });
  const reads = fc.array(fc.record({ lengthBytes: fc.integer({ min: 1, max: 400 }), placed: fc.boolean() }));
  fc.assert(
    fc.property(fc.array(block, { maxLength: 6 }), reads, (blocks, reads) => {
      const places = blocks.map(({ length }) => takeMemory(length, { behindBytes: 64 }));
      const [got, haves]: [Buffer[], number[]] = [[], []];
      let placed = false;
      let arriving = 0;
      const decoder = new WireDecoder(
        {
          have: (index) => void haves.push(index),
          pieceStart: (index) => {
            arriving = index;
          },
          pieceData(bytes, offset) {
            const place = places[arriving];
            if (place === undefined) return;
            if (bytes.buffer === place.buffer) assert.equal(bytes.byteOffset, place.byteOffset + offset);
            else bytes.copy(place, offset);
          },
          pieceEnd: () => void got.push(Buffer.from(places[arriving] ?? [])),
          piecePlace(offset) {
            const place = places[arriving];
            if (!placed || place === undefined) return undefined;
            return Buffer.from(place.buffer, place.byteOffset + offset, place.length - offset + 13);
          },
        },
        { pieces: 10 },
      );
      const stream = Buffer.concat(
        blocks.flatMap((bytes, index) => [
          encodePieceHeader({ index, begin: 0, lengthBytes: bytes.length }),
          bytes,
          encodeIndexed('have', index),
        ]),
      );
      for (let at = 0, turn = 0; at < stream.length; turn++) {
        const read = reads[turn % Math.max(1, reads.length)] ?? { lengthBytes: 7, placed: true };
        placed = read.placed;
        const room = decoder.place() ?? Buffer.alloc(400);
        const count = Math.min(read.lengthBytes, room.length, stream.length - at);
        stream.copy(room, 0, at, at + count);
        decoder.push(room.subarray(0, count));
        at += count;
      }
      assert.deepEqual(
        got,
        blocks.map((bytes) => Buffer.from(bytes)),
      );
      assert.deepEqual(
        haves,
        blocks.map((_bytes, index) => index),
      );
    }),
    { numRuns: 300 },
  );
});

/** A window of one piece of 256 KiB, of which `a` has begun to send the first half. */
function begun(): { window: PieceWindow; file: File; first: BlockRequest; second: BlockRequest } {
  const file = inPieces(256 * 1024, 256 * 1024);
  const memory = new PieceMemory({ shared: true });
  const window = new PieceWindow(file.torrent, { first: 0, end: 1 }, mebibyte, memory);
  const taken = window.take('a', () => true, 100, { dueMs: 0, togetherMax: 8 });
  const [first, second] = taken;
  assert.ok(first && second && taken.length === 2);
  window.begin('a', first);
  return { window, file, first, second };
}

t.test('what another peer gives meanwhile is never written over, nor what was verified', async (t) => {
  const { window, file, first, second } = begun();
  const place = window.place('a', first, 0);
  t.equal(place?.length, first.lengthBytes + 13);
  const given: Buffer[] = [];
  for (const block of [first, second]) {
    for (let at = 0; at < block.lengthBytes; at += blockBytes) {
      const part = { index: 0, begin: block.begin + at, lengthBytes: blockBytes };
      window.begin('b', part);
      window.write('b', part, file.bytes.subarray(part.begin, part.begin + blockBytes), 0);
      const piece = window.filled('b', part);
      if (piece !== undefined) given.push(piece);
    }
  }
  const [piece] = given;
  t.ok(piece?.equals(file.bytes));
  t.equal(window.checked(0, hash('sha1', piece ?? '', 'buffer')).kind, 'verified');
  // Now what `a` sends arrives, and all of it is wrong.
  place?.fill('wrong');
  t.equal(window.write('a', first, place?.subarray(0, first.lengthBytes) ?? Buffer.alloc(0), 0), false);
  t.equal(window.filled('a', first), undefined);
  t.ok(window.deliver()?.bytes.equals(file.bytes));
});

t.test('a peer that goes on in memory which the piece has left still gives its block', async (t) => {
  const { window, file, first, second } = begun();
  const place = window.place('a', first, 0);
  if (place === undefined) return t.fail('no place');
  window.begin('b', second);
  window.write('b', second, file.bytes.subarray(second.begin), 0);
  file.bytes.copy(place, 0, 0, first.lengthBytes);
  place.fill('head', first.lengthBytes);
  t.equal(window.write('a', first, place.subarray(0, first.lengthBytes), 0), true);
  t.equal(window.filled('a', first), undefined);
  t.ok(window.filled('b', second)?.equals(file.bytes));
});

t.test('a place is given only where nothing of others is, and for what is worth a read', async (t) => {
  const { window, file, first, second } = begun();
  t.equal(window.place('b', first, 0), undefined, 'it sends something else');
  t.equal(window.place('a', first, first.lengthBytes - 1_000), undefined);
  t.not(window.place('a', first, first.lengthBytes / 2), undefined);
  window.begin('b', second);
  t.equal(window.place('a', first, 0), undefined, 'another one writes what follows');
  window.write('b', second, file.bytes.subarray(second.begin), 0);
  window.filled('b', second);
  t.equal(window.place('a', first, 0), undefined, 'what follows is here');
});

t.test('blocks of a mebibyte come whole, and a wrong one is found', async (t) => {
  const file = inPieces(9 * mebibyte + 5, mebibyte);
  const hashes = new HashThread();
  t.teardown(() => hashes.close());
  for (const wrong of [undefined, 3]) {
    const peer = await TestPeer.open(t, {
      ...file,
      blockMaxBytes: mebibyte,
      answer: ({ index }, right) => {
        if (index !== wrong) return right;
        const bytes = Buffer.from(right);
        bytes[right.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
        return bytes;
      },
    });
    const fetch = fetchFrom(t, [peer], { torrent: file.torrent, hashes, limits: { startRequests: 1 } });
    if (wrong !== undefined) {
      await t.rejects(collect(fetch), { code: 'swarm-exhausted' });
      t.same(fetch.stats().banned, [peer.key]);
      continue;
    }
    t.ok((await collect(fetch)).bytes.equals(file.bytes));
    const largest = Math.max(...peer.requests.map(({ lengthBytes }) => lengthBytes));
    t.ok(largest > foreignBlockMaxBytes, `${largest} bytes at once`);
  }
});

t.test(
  'a seed that refuses large blocks is asked for smaller ones, and is not thought to lack them',
  async (t) => {
    const file = inPieces(9 * mebibyte, mebibyte);
    let refused = 0;
    const peer = await TestPeer.open(t, {
      ...file,
      blockMaxBytes: mebibyte,
      answer: ({ lengthBytes }, right) => {
        if (lengthBytes <= foreignBlockMaxBytes) return right;
        refused++;
        return 'reject';
      },
    });
    const fetch = fetchFrom(t, [peer], { torrent: file.torrent, limits: { startRequests: 1 } });
    t.ok((await collect(fetch)).bytes.equals(file.bytes));
    t.ok(refused > 0);
  },
);

/** A file of two pieces of a MiB that is seeded, and a peer that may ask for them. */
async function unchokedFor({ server, source }: Seeding) {
  const held = await source.add(2 * mebibyte);
  const torrent = cutInto(held.torrent, held.bytes, mebibyte);
  source.held.set(torrent.infoHash, { ...held, torrent });
  const peer = RawPeer.open(server.port, torrent);
  peer.send(encodeSimple('interested'));
  await peer.hears('unchoke');
  return { held, peer };
}

t.test('a large block is refused where there is a rate, and while others hold much', async (t) => {
  for (const options of [
    { upload: { bytesPerSecond: 64 * mebibyte } },
    { limits: { sendBudgetBytes: 64 * 1024 } },
  ]) {
    const seeded = await seeding(t, [], options);
    const { held, peer } = await unchokedFor(seeded);
    const small = { index: 0, begin: 0, lengthBytes: foreignBlockMaxBytes };
    peer.send(encodeRequests([small, { index: 1, begin: 0, lengthBytes: mebibyte }]));
    await peer.hears(`reject 1 0 ${mebibyte}`);
    await peer.until(() => peer.blocks.size === 1);
    t.ok(peer.blocks.get('0:0')?.equals(held.bytes.subarray(0, foreignBlockMaxBytes)));
    await peer.destroy();
  }
});

t.test('who asks for large blocks again and again although they are refused is left', async (t) => {
  const limits = { chatterPerMinuteMax: 50 };
  const seeded = await seeding(t, [], { upload: { bytesPerSecond: 64 * mebibyte }, limits });
  const { peer } = await unchokedFor(seeded);
  const large = { index: 0, begin: 0, lengthBytes: mebibyte };
  peer.send(encodeRequests(Array.from({ length: 30 }, () => large)));
  await peer.hears(`reject 0 0 ${mebibyte}`);
  peer.send(encodeRequests(Array.from({ length: 30 }, () => large)));
  await peer.closed;
  t.equal(seeded.server.status().violations, 1);
});

t.test('a large block is given at once where there is none', async (t) => {
  const seeded = await seeding(t, []);
  const { held, peer } = await unchokedFor(seeded);
  peer.send(encodeRequests([0, 1].map((index) => ({ index, begin: 0, lengthBytes: mebibyte }))));
  await peer.until(() => peer.blocks.size === 2);
  for (const index of [0, 1]) {
    const right = held.bytes.subarray(index * mebibyte, (index + 1) * mebibyte);
    t.ok(peer.blocks.get(`${index}:0`)?.equals(right));
  }
  await peer.destroy();
});

t.test('memory has room around it that is its own', async (t) => {
  const bytes = takeMemory(1_000, { shared: true, behindBytes: 64 });
  const around = Buffer.from(bytes.buffer);
  around.fill(1);
  randomBytes(1_000).copy(bytes);
  t.equal(
    around.subarray(0, 64).every((byte) => byte === 1),
    true,
  );
  t.equal(
    around.subarray(1_064).every((byte) => byte === 1),
    true,
  );
});
