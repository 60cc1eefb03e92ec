/** A fetch that is held: connections are warm before anything is asked for. */
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { TorrentFetchOptions } from '../../swarm/fetch/fetch-options.ts';
import { TorrentFetch } from '../../swarm/fetch/fetcher.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';
import { TestPeer, type TestPeerOptions } from '../helpers/test-peer.ts';
import { collect, failure, fileOf, pieceBytes } from './fetch-fixture.ts';

const file = fileOf(4 * pieceBytes);
const { torrent } = file;

t.beforeEach((t) => provesNothingStaysOpen(t));

function hold(t: Test, peers: TestPeer[], options: Partial<TorrentFetchOptions> = {}): TorrentFetch {
  const fetch = new TorrentFetch({ torrent, hold: true, ...options });
  t.teardown(() => fetch.close());
  fetch.addPeers(peers);
  fetch.noMorePeers();
  return fetch;
}

function open(t: Test, options: Partial<TestPeerOptions> = {}): Promise<TestPeer> {
  return TestPeer.open(t, { ...file, ...options });
}

t.test('it is live once a peer would give, and asks for nothing until it is iterated', async (t) => {
  const peer = await open(t);
  const fetch = hold(t, [peer]);
  await fetch.live;
  t.equal(fetch.stats().peers, 1);
  t.equal(peer.requests.length, 0);
  const { bytes } = await collect(fetch);
  t.ok(bytes.equals(file.bytes));
  t.equal(peer.connections, 1, 'over the connection that was there');
  t.ok(fetch.over);
});

t.test('`start` asks at once, and what comes waits for the reader', async (t) => {
  const peer = await open(t);
  const fetch = hold(t, [peer]);
  await fetch.live;
  fetch.start();
  while (peer.sentBytes < file.bytes.length) await sleep(2);
  t.ok((await collect(fetch)).bytes.equals(file.bytes));
});

t.test('without hold it is live as well, and asks at once', async (t) => {
  const peer = await open(t);
  const fetch = new TorrentFetch({ torrent });
  t.teardown(() => fetch.close());
  fetch.addPeers([peer]);
  await fetch.live;
  while (peer.requests.length === 0) await sleep(2);
});

t.test('a peer that lacks the next piece, or lets nobody ask, does not make it live', async (t) => {
  const lacking = await open(t, { says: (index) => index > 0 });
  const choking = await open(t, { greets: 'without-unchoke' });
  const fetch = hold(t, [lacking, choking]);
  let live = false;
  void fetch.live.then(() => {
    live = true;
  });
  while (fetch.stats().peers < 2) await sleep(2);
  const good = await open(t);
  t.notOk(live);
  fetch.addPeers([good]);
  await fetch.live;
});

t.test('few peers are held, and more are connected to when it starts', async (t) => {
  const peers = await Promise.all(Array.from({ length: 5 }, () => open(t)));
  const fetch = hold(t, peers, { limits: { heldPeers: 2 } });
  await fetch.live;
  while (fetch.stats().peers < 2) await sleep(2);
  t.equal(peers.filter(({ connections }) => connections > 0).length, 2);
  fetch.start();
  while (fetch.stats().peers < 5) await sleep(2);
  t.equal(peers.filter(({ connections }) => connections > 0).length, 5);
});

t.test('what nobody wants is let go', async (t) => {
  const peer = await open(t);
  const fetch = hold(t, [peer], { limits: { holdMs: 50 } });
  await fetch.live;
  while (peer.sockets.size > 0) await sleep(2);
  t.ok(fetch.over);
  t.equal((await failure(fetch)).error.code, 'swarm-stalled');
  t.equal(peer.requests.length, 0);
});

t.test('the time that it was held does not count as a stall', async (t) => {
  const peer = await open(t);
  const fetch = hold(t, [peer], { stallMs: 100 });
  await fetch.live;
  await sleep(250);
  t.ok((await collect(fetch)).bytes.equals(file.bytes));
});

t.test('a held fetch whose peers have all left says so when it is iterated', async (t) => {
  const peer = await open(t);
  const fetch = hold(t, [peer]);
  await fetch.live;
  peer.hangUp();
  while (!fetch.over) await sleep(2);
  t.equal((await failure(fetch)).error.code, 'swarm-exhausted');
});
