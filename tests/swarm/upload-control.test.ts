/** What peers on real sockets see of the upload policy. */
import t from 'tap';
import { TorrentFetch } from '../../swarm/fetch/fetcher.ts';
import { encodeRequests, encodeSimple } from '../../swarm/wire/wire-encode.ts';
import { blocksOf, downloadHonestly, RawPeer, seeding, statusWhere, testCap } from './seed-fixture.ts';

const kib = 1024;
const minute = 60_000;

t.test('a torrent is capped when its first copy has left, and it is remembered', async (t) => {
  const { cap, rows } = testCap();
  const { server, held } = await seeding(t, [512 * kib, 200 * kib], { upload: { cap } });
  for (const one of held) await downloadHonestly(server, one);
  await server.close();
  t.same(
    held.map(({ torrent }) => rows.get(torrent.infoHash)),
    [
      { state: 'capped', uploadedBytes: 512 * kib, roundBytes: 512 * kib, lonelySinceMs: undefined },
      { state: 'swarming', uploadedBytes: 200 * kib, roundBytes: 200 * kib, lonelySinceMs: undefined },
    ],
    'small ones never are',
  );
});

t.test('what was remembered holds after a restart', async (t) => {
  const { cap, rows } = testCap({ cappedBytesPerSecond: 32 * kib });
  const { server, held } = await seeding(t, [512 * kib], { upload: { cap } });
  const [one] = held;
  if (one === undefined) return;
  const { infoHash } = one.torrent;
  rows.set(infoHash, { state: 'capped', uploadedBytes: 1, roundBytes: 1, lonelySinceMs: undefined });
  const peer = RawPeer.open(server.port, one.torrent);
  peer.send(encodeSimple('interested'));
  await peer.hears('unchoke');
  t.same(server.status().upload.serving, { swarming: 0, capped: 1 });
  await peer.destroy();
});

t.test('a peer that is held back is choked, and each of its requests is refused', async (t) => {
  const { cap } = testCap();
  const limits = { cappedSlotsMax: 1 };
  const { server, source, held } = await seeding(t, [512 * kib], { upload: { cap, limits } });
  const [one] = held;
  if (one === undefined) return;
  const blocks = blocksOf(one.torrent);
  const gate = Promise.withResolvers<void>();
  source.onRead = async (position) => (position === 31 * 16 * kib ? gate.promise : undefined);
  const first = RawPeer.open(server.port, one.torrent);
  first.send(encodeSimple('interested'));
  await first.hears('unchoke');
  const second = RawPeer.open(server.port, one.torrent);
  second.send(encodeSimple('interested'));
  await second.hears('unchoke');
  // One block of the second is being read, two wait.
  second.send(encodeRequests([31, 5, 9].flatMap((n) => blocks[n] ?? [])));
  await statusWhere(server, () => source.reads === 1);
  first.send(encodeRequests([...blocks.slice(0, 31), ...blocks.slice(0, 1)]));
  await second.hears('choke');
  t.same(second.heard.slice(-3), [
    'choke',
    `reject 1 ${16 * kib} ${16 * kib}`,
    `reject 2 ${16 * kib} ${16 * kib}`,
  ]);
  t.equal(server.status().upload.heldBackPeers, 1);
  gate.resolve();
  await second.until(() => second.blocks.size === 1);
  await Promise.all([first.destroy(), second.destroy()]);
});

t.test('the capped rate is kept, and our own fetcher gets all of it', async (t) => {
  const { cap } = testCap({ initialCopies: 0, cappedBytesPerSecond: 512 * kib });
  const { server, held } = await seeding(t, [1024 * kib], { upload: { cap } });
  const [one] = held;
  if (one === undefined) return;
  const started = performance.now();
  const fetch = new TorrentFetch({ torrent: one.torrent, stallMs: 20_000 });
  fetch.addPeers([server]);
  const parts: Buffer[] = [];
  for await (const { bytes } of fetch) parts.push(bytes);
  const seconds = (performance.now() - started) / 1_000;
  t.ok(Buffer.concat(parts).equals(one.bytes));
  // What may be saved up leaves at once.
  t.ok(seconds > 1.5, `${seconds} s`);
  t.equal(server.status().violations, 0);
});

t.test('slots are passed on, and who waits for one is not closed for being idle', async (t) => {
  let nowMs = 0;
  const { cap } = testCap({ initialCopies: 0 });
  const { server, held } = await seeding(t, [512 * kib], {
    clock: () => nowMs,
    limits: { sweepMs: 1 },
    upload: { cap, limits: { cappedSlotsMax: 1, slotMs: 3 * minute, slotIdleMs: 5 * minute } },
  });
  const [one] = held;
  if (one === undefined) return;
  const [block] = blocksOf(one.torrent);
  if (block === undefined) return;
  const first = RawPeer.open(server.port, one.torrent);
  first.send(encodeSimple('interested'));
  await first.hears('unchoke');
  const second = RawPeer.open(server.port, one.torrent);
  second.send(encodeSimple('interested'));
  await statusWhere(server, ({ upload }) => upload.heldBackPeers === 1);
  // Its slot is its own for three minutes; at the third it may be passed on before anything is asked.
  for (let turn = 1; turn <= 2; turn++) {
    nowMs += minute;
    first.send(encodeRequests([block]));
    await first.until(() => first.heard.filter((line) => line.startsWith('piece')).length === turn);
  }
  nowMs += minute;
  await second.hears('unchoke');
  await first.hears('choke');
  t.equal(server.status().closed.idle, 0);
  t.equal(server.status().connections, 2);
  await Promise.all([first.destroy(), second.destroy()]);
});

t.test('one that says nothing at all while it is held back is gone', async (t) => {
  let nowMs = 0;
  const { cap } = testCap({ initialCopies: 0 });
  const { server, held } = await seeding(t, [512 * kib], {
    clock: () => nowMs,
    limits: { sweepMs: 1, idleMs: 60 * minute },
    upload: { cap, limits: { cappedSlotsMax: 1, slotMs: 60 * minute, slotIdleMs: 60 * minute } },
  });
  const [one] = held;
  if (one === undefined) return;
  const first = RawPeer.open(server.port, one.torrent);
  first.send(encodeSimple('interested'));
  await first.hears('unchoke');
  const second = RawPeer.open(server.port, one.torrent);
  second.send(encodeSimple('interested'));
  await statusWhere(server, ({ upload }) => upload.heldBackPeers === 1);
  nowMs += 4 * minute;
  await second.closed;
  await statusWhere(server, ({ closed }) => closed.idle === 1);
  await first.destroy();
});

t.test('a torrent whose seeds vanished is free again, and those who waited are let in', async (t) => {
  let seeds = 5;
  let nowMs = 0;
  const { cap } = testCap({ initialCopies: 0.5, seedsOf: () => seeds, cappedBytesPerSecond: 16 * kib });
  const upload = { cap, limits: { cappedSlotsMax: 1 }, wallClock: () => nowMs };
  const { server, held } = await seeding(t, [512 * kib], { limits: { sweepMs: 1 }, upload });
  const [one] = held;
  if (one === undefined) return;
  const peers = [1, 2].map(() => RawPeer.open(server.port, one.torrent));
  for (const peer of peers) peer.send(encodeSimple('interested'));
  for (const peer of peers) await peer.hears('unchoke');
  const blocks = blocksOf(one.torrent);
  for (const peer of peers) peer.send(encodeRequests(blocks));
  await statusWhere(server, ({ upload: { serving, heldBackPeers } }) => serving.capped + heldBackPeers === 2);
  seeds = 1;
  await statusWhere(server, ({ upload: { serving, heldBackPeers } }) => {
    // The wait begins when a sweep sees it, and ends ten minutes later.
    nowMs += 10 * minute;
    return serving.swarming === 1 && heldBackPeers === 0;
  });
  await Promise.all(peers.map((peer) => peer.destroy()));
});

t.test('a rate for all torrents holds from one moment to the next', async (t) => {
  const { server, held } = await seeding(t, [1024 * kib], { upload: { bytesPerSecond: 256 * kib } });
  const [one] = held;
  if (one === undefined) return;
  t.equal(server.status().upload.rateBytesPerSecond, 256 * kib);
  const peer = RawPeer.open(server.port, one.torrent);
  peer.send(encodeSimple('interested'));
  await peer.hears('unchoke');
  peer.send(encodeRequests(blocksOf(one.torrent)));
  await statusWhere(server, ({ upload }) => upload.heldBackBytes > 0);
  server.setUploadRate(undefined);
  await peer.until(() => peer.blocks.size === 64);
  t.equal(server.status().upload.rateBytesPerSecond, null);
  t.equal(server.status().upload.heldBackBytes, 0);
  await peer.destroy();
});
