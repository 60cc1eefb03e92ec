import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { narFileName } from '../../nar/compression.ts';
import { type InfoHash, parseInfoHash, parseSha256 } from '../../nar/hash.ts';
import type { PeerAddress } from '../../swarm/address/peer-address.ts';
import { bencode } from '../../swarm/bencode.ts';
import {
  type FetchMetadataOptions,
  fetchMetadata,
  type MetadataLimits,
} from '../../swarm/fetch/metadata-fetch.ts';
import { openSeedServer } from '../../swarm/seed/seed-server.ts';
import { encodeMetadataData } from '../../swarm/torrent/metadata.ts';
import { infoDictionary, makeTorrent, pieceCount } from '../../swarm/torrent/torrent.ts';
import { metadataPieceBytes } from '../../swarm/wire/limits.ts';
import { encodeBitfield, encodeExtended, encodeIndexed, fullBitfield } from '../../swarm/wire/wire-encode.ts';
import { encodeHandshake, HandshakeReader, makePeerId } from '../../swarm/wire/wire-handshake.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

const length = 1024 * 4 * 2 ** 20;
/** Its info dictionary has 20 KiB: two pieces of metadata. */
const torrent = makeTorrent({
  name: narFileName(parseSha256('0'.repeat(52)), 'xz'),
  length,
  pieces: randomBytes(1024 * 20),
});
const info = infoDictionary(torrent);
const maxBytes = 32 * 1024;
const quick: Partial<MetadataLimits> = { peerMs: 300 };

/** `says`: what a peer does after its handshake. */
async function peerThat(
  t: Test,
  says: (socket: Socket) => void,
  { infoHash = torrent.infoHash, greets = true }: { infoHash?: InfoHash; greets?: boolean } = {},
): Promise<PeerAddress & { asked: () => number }> {
  let asked = 0;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    asked++;
    sockets.add(socket);
    socket.on('error', () => {});
    const reader = new HandshakeReader();
    socket.on('data', (bytes) => {
      if (!greets || reader.push(bytes) === undefined) return;
      socket.removeAllListeners('data');
      socket.resume();
      socket.write(encodeHandshake({ infoHash, peerId: makePeerId() }));
      says(socket);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return { host: '127.0.0.1', port: address.port, asked: () => asked };
}

function hello(sizeBytes: number): Buffer {
  return encodeExtended(0, bencode({ m: { ut_metadata: 1 }, metadata_size: sizeBytes }));
}

function pieceOf(bytes: Buffer, piece: number): Buffer {
  return encodeExtended(1, ...encodeMetadataData(bytes, piece));
}

/** All of it, whatever it was asked. */
function gives(bytes: Buffer): (socket: Socket) => void {
  return (socket) => {
    const pieces = Math.ceil(bytes.length / metadataPieceBytes);
    socket.write(hello(bytes.length));
    for (let piece = 0; piece < pieces; piece++) socket.write(pieceOf(bytes, piece));
  };
}

function get(peers: PeerAddress[], options: Partial<FetchMetadataOptions> = {}): Promise<Buffer> {
  return fetchMetadata({ infoHash: torrent.infoHash, peers, maxBytes, limits: quick, ...options });
}

t.test('a seed server gives the info dictionary of a torrent to whoever knows its infohash', async (t) => {
  provesNothingStaysOpen(t);
  const server = await openSeedServer({
    ...{ host: '127.0.0.1', port: 0 },
    source: {
      mayHold: (infoHash) => infoHash === torrent.infoHash,
      open: async () => ({ torrent, read: async () => Buffer.alloc(0), close: async () => {} }),
    },
  });
  t.teardown(() => server.close());
  t.ok((await get([server])).equals(info));
  await t.rejects(get([server], { infoHash: parseInfoHash('ab'.repeat(20)) }), { code: 'swarm-exhausted' });
});

t.test('whatever else a peer says before, of pieces that nobody knows yet, does no harm', async (t) => {
  provesNothingStaysOpen(t);
  const peer = await peerThat(t, (socket) => {
    socket.write(encodeBitfield(fullBitfield(pieceCount(torrent))));
    socket.write(encodeIndexed('have', 4_000_000_000));
    socket.write(Buffer.from([0, 0, 0, 0, 0, 0, 0, 3, 99, 1, 2]));
    socket.write(encodeExtended(7, Buffer.from('another extension')));
    gives(info)(socket);
  });
  t.ok((await get([peer])).equals(info));
});

const wrong = Buffer.from(info);
wrong[wrong.length - 2] = (wrong.at(-2) ?? 0) ^ 1;
const bad: Record<string, (socket: Socket) => void> = {
  'says nothing': () => {},
  'hangs up': (socket) => socket.destroy(),
  'has no extensions': (socket) => socket.write(encodeExtended(0, bencode({ m: {} }))),
  'does not say how large it is': (socket) =>
    socket.write(encodeExtended(0, bencode({ m: { ut_metadata: 1 } }))),
  'says that it is huge': (socket) => socket.write(hello(2 ** 31)),
  'says that it is a byte too large': (socket) => socket.write(hello(maxBytes + 1)),
  'gives other bytes': gives(wrong),
  'gives another, larger one': gives(Buffer.concat([info, Buffer.alloc(10)])),
  refuses: (socket) => {
    socket.write(hello(info.length));
    socket.write(encodeExtended(1, bencode({ msg_type: 2, piece: 0 })));
  },
  'gives a piece that there is not': (socket) => {
    socket.write(hello(info.length));
    socket.write(
      encodeExtended(1, bencode({ msg_type: 1, piece: 2 ** 40, total_size: info.length }), Buffer.alloc(9)),
    );
  },
  'gives a piece before it was asked': (socket) => socket.write(pieceOf(info, 0)),
  'gives a piece that is too short': (socket) => {
    socket.write(hello(info.length));
    socket.write(
      encodeExtended(1, bencode({ msg_type: 1, piece: 0, total_size: info.length }), Buffer.alloc(9)),
    );
  },
  'changes its mind about the size': (socket) => {
    socket.write(hello(info.length));
    socket.write(
      encodeExtended(
        1,
        bencode({ msg_type: 1, piece: 0, total_size: 5 }),
        info.subarray(0, metadataPieceBytes),
      ),
    );
  },
  'gives the first piece for ever': (socket) => {
    socket.write(hello(info.length));
    const more = (): void => void (socket.writable && socket.write(pieceOf(info, 0), more));
    more();
  },
  'talks for ever': (socket) => {
    const more = (): void => void (socket.writable && socket.write(encodeIndexed('have', 1), more));
    more();
  },
  'sends a message of a gigabyte': (socket) => socket.write(Buffer.from([0x40, 0, 0, 0, 20, 1])),
  'offers blocks': (socket) => socket.write(Buffer.from([0, 0, 0, 10, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1])),
};

for (const [what, says] of Object.entries(bad)) {
  t.test(`a peer that ${what} is given up, and the next one asked`, async (t) => {
    provesNothingStaysOpen(t);
    const peer = await peerThat(t, says);
    const good = await peerThat(t, gives(info));
    const one = { ...quick, atOnce: 1 };
    t.ok((await get([peer, good], { limits: one })).equals(info));
    t.equal(peer.asked(), 1);
    await t.rejects(get([peer], { limits: one }), { code: 'swarm-exhausted' });
  });
}

t.test('a peer that is no BitTorrent peer, or has another torrent, is given up', async (t) => {
  provesNothingStaysOpen(t);
  const deaf = await peerThat(t, () => {}, { greets: false });
  const other = await peerThat(t, gives(info), { infoHash: parseInfoHash('ab'.repeat(20)) });
  const nobody = await peerThat(t, () => {});
  await t.rejects(get([deaf, other, { host: '127.0.0.1', port: 1 }, nobody]), { code: 'swarm-exhausted' });
  await t.rejects(get([]), { code: 'swarm-exhausted' });
});

t.test('several peers are asked at once, and no more than so many in all', async (t) => {
  provesNothingStaysOpen(t);
  const silent = await Promise.all([0, 1, 2].map(() => peerThat(t, () => {})));
  const good = await peerThat(t, gives(info));
  const limits = { peerMs: 60_000, atOnce: 4 };
  t.ok((await get([...silent, good], { limits })).equals(info), 'the silent ones cost no time');
  await t.rejects(get([...silent, good], { limits: { ...quick, peers: 3 } }), { code: 'swarm-exhausted' });
});

t.test('one that is larger than it may be is not fetched, though it is the right one', async (t) => {
  provesNothingStaysOpen(t);
  const good = await peerThat(t, gives(info));
  t.ok((await get([good], { maxBytes: info.length })).equals(info));
  await t.rejects(get([good], { maxBytes: info.length - 1 }), { code: 'swarm-exhausted' });
});

t.test('it is given up at once when the caller says so', async (t) => {
  provesNothingStaysOpen(t);
  const silent = await peerThat(t, () => {});
  const stop = new AbortController();
  const asked = t.rejects(get([silent], { signal: stop.signal, limits: { peerMs: 60_000 } }), {
    code: 'aborted',
  });
  stop.abort();
  await asked;
  await t.rejects(get([silent], { signal: AbortSignal.abort() }), { code: 'aborted' });
});
