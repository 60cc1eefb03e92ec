/**
 * Peers that are fetched from and mean harm. Beside an honest one, and alone: the bytes are right or the fetch ends, soon; what was taken from
 * them is bounded, in bytes, memory and time; and whoever said what nobody says is not asked again.
 */

import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { isNarswarmError } from '../../nar/errors.ts';
import { printPeer } from '../../swarm/address/peer-address.ts';
import { TorrentFetch } from '../../swarm/fetch/fetcher.ts';
import { PackConnections } from '../../swarm/fetch/pack-connections.ts';
import { localFirst, type PeerBook } from '../../swarm/fetch/peer-book.ts';
import { until } from '../client/lab.ts';
import { hostilePeers } from '../helpers/hostile-peers.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';
import { RawPeer } from '../helpers/raw-peer.ts';
import { TestPeer } from '../helpers/test-peer.ts';
import { collect, fileOf } from './fetch-fixture.ts';

const file = fileOf(4 * 1024 * 1024);
const { torrent } = file;
const attacks = Object.entries(hostilePeers(torrent));

/** Bytes that may be taken from a peer before it is left: what was asked of it, and what the kernel holds on either side. */
const takenMaxBytes = 24 * 1024 * 1024;
/** Without an honest peer a fetch takes as long as a silence may be, on the busiest of machines. */
const tookMaxMs = 15_000;
/** What the two sides hold of such a file, several times over, and the kernel's buffers of the attacker. */
const heldMaxBytes = 100 * 1024 * 1024;

/** A book that only notes who is banned. */
class Bans implements PeerBook {
  readonly banned: string[] = [];
  isBanned: PeerBook['isBanned'] = (address) => this.banned.includes(printPeer(address));
  ban: PeerBook['ban'] = (address, why) => void this.banned.push(printPeer(address), why);
  gave(): void {}
  reached(): void {}
  missed(): void {}
  unanswered(): void {}
  rests: PeerBook['rests'] = () => false;
  paceOf: PeerBook['paceOf'] = () => undefined;
  rank: PeerBook['rank'] = (addresses) => localFirst(addresses.filter((address) => !this.isBanned(address)));
}

/** How it went, and how much memory and time it took meanwhile. */
async function measured<T>(work: () => Promise<T>): Promise<{ result: T; ms: number; peakBytes: number }> {
  const held = (): number => process.memoryUsage().arrayBuffers + process.memoryUsage().heapUsed;
  const before = held();
  let peakBytes = 0;
  const timer = setInterval(() => {
    peakBytes = Math.max(peakBytes, held() - before);
  }, 10);
  const startedMs = performance.now();
  try {
    return { result: await work(), ms: performance.now() - startedMs, peakBytes };
  } finally {
    clearInterval(timer);
  }
}

/** The code of the error that it ended with. */
async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    if (isNarswarmError(error)) return error.code;
    throw error;
  }
  return 'none';
}

t.beforeEach((t) => provesNothingStaysOpen(t));

for (const [what, { ends, fast = true, greets, asked }] of attacks) {
  t.test(`a file is fetched although a peer sends ${what}`, async (t) => {
    const bad = await RawPeer.open(t, { ...file, fast, greets, asked });
    // One that lets others have a turn between two blocks.
    const good = await TestPeer.open(t, {
      ...file,
      answer: async (_block, right) => {
        await setImmediate();
        return right;
      },
    });
    const book = new Bans();
    const open = (): TorrentFetch => {
      // Who is left at once is left at once on a busy machine, too, and is not to be taken for silent there.
      const stallMs = ends === 'left' ? 20_000 : undefined;
      const fetch = new TorrentFetch({ torrent, book, ...(stallMs && { stallMs }) });
      t.teardown(() => fetch.close());
      return fetch;
    };

    const both = open();
    both.addPeers([bad, good]);
    both.noMorePeers();
    const beside = await measured(() => collect(both));
    t.ok(beside.result.bytes.equals(file.bytes), 'the bytes are right');
    t.ok(beside.ms < tookMaxMs, `${beside.ms} ms`);
    t.ok(beside.peakBytes < heldMaxBytes, `${beside.peakBytes} bytes at once`);

    book.banned.length = 0;
    const alone = open();
    alone.addPeers([bad]);
    alone.noMorePeers();
    const { result: code, ms, peakBytes } = await measured(() => codeOf(collect(alone)));
    t.match(code, { left: /^swarm-exhausted$/, useless: /^swarm-stalled$/, harmless: /^none$/ }[ends]);
    t.ok(ms < tookMaxMs, `${ms} ms`);
    t.ok(peakBytes < heldMaxBytes, `${peakBytes} bytes at once`);
    await bad.close();
    t.ok(bad.sentBytes < 2 * takenMaxBytes, `${bad.sentBytes} bytes were taken`);
    t.equal(bad.connections, 2);
    const violates = ends === 'left' && what !== 'leave to ask, and hangs up';
    t.same(book.banned, violates ? [bad.key, 'wire-violation'] : []);
  });
}

for (const [what, { ends, fast = true, greets, asked }] of attacks) {
  // Packs have no bitfields here, and their pieces no numbers.
  if (/bitfield|chokes/.test(what)) continue;
  t.test(`a pack is read although a peer sends ${what}`, async (t) => {
    const bad = await RawPeer.open(t, { ...file, fast, greets, asked });
    const good = await TestPeer.open(t, file);
    const book = new Bans();
    const faults: unknown[] = [];
    const connections = new PackConnections({
      book,
      onFault: (error) => faults.push(error),
      limits: { peersPerPack: 1, stallMs: 300, slowMs: 600 },
    });
    t.teardown(() => connections.close());
    const place = { infoHash: torrent.infoHash, offset: 12_345, lengthBytes: 600_000, stepBytes: 65_536 };
    const right = file.bytes.subarray(place.offset, place.offset + place.lengthBytes);
    const { result, ms, peakBytes } = await measured(async () => {
      const read = connections.open({ ...place, peers: [bad, good] }, new AbortController().signal);
      const chunks: Buffer[] = [];
      for await (const chunk of read?.bytes ?? []) chunks.push(chunk);
      return Buffer.concat(chunks);
    });
    t.ok(result.equals(right), 'the bytes are right');
    t.ok(ms < tookMaxMs, `${ms} ms`);
    t.ok(peakBytes < heldMaxBytes, `${peakBytes} bytes at once`);
    await connections.close();
    await bad.close();
    t.same(faults, []);
    t.ok(bad.sentBytes < takenMaxBytes, `${bad.sentBytes} bytes were taken`);
    t.equal(bad.connections, 1);
    if (ends === 'harmless') t.same(book.banned, []);
  });
}

t.test('an idle connection to a pack is no place to pour into either', async (t) => {
  for (const what of ['a flood of requests', 'a flood of blocks that nobody asked for']) {
    const attack = hostilePeers(torrent)[what];
    if (attack === undefined) throw new Error(what);
    const bad = await RawPeer.open(t, { ...file, fast: true, greets: attack.greets });
    const book = new Bans();
    const connections = new PackConnections({ book });
    t.teardown(() => connections.close());
    connections.warm(torrent.infoHash, [bad]);
    await until(() => book.banned.length > 0);
    t.same(book.banned, [bad.key, 'wire-violation']);
    connections.warm(torrent.infoHash, [bad]);
    await connections.close();
    await bad.close();
    t.equal(bad.connections, 1, 'it is not connected to again');
    t.ok(bad.sentBytes < takenMaxBytes, `${bad.sentBytes} bytes were taken`);
  }
});

t.test('a peer that breaks off after each block is not connected to for each block', async (t) => {
  const bad = await RawPeer.open(t, {
    ...file,
    fast: true,
    greets: (line) => line.say(Buffer.from([0, 0, 0, 1, 14, 0, 0, 0, 1, 1])),
    asked(block, line) {
      if (line.asked === 1) line.socket.end(line.block(block));
    },
  });
  const fetch = new TorrentFetch({ torrent });
  t.teardown(() => fetch.close());
  fetch.addPeers([bad]);
  fetch.noMorePeers();
  t.equal(await codeOf(collect(fetch)), 'swarm-exhausted');
  t.ok(bad.connections < 12, `${bad.connections} connections`);
});
