/** NAR files out of packs, when whoever has the pack, or says where in it they are, is not to be trusted. */
import t, { type Test } from 'tap';
import type { ClientLimits } from '../../client/config.ts';
import type { Client } from '../../client/main.ts';
import { spoilt, TestPeer, type TestPeerOptions } from '../helpers/test-peer.ts';
import { get, Lab, statusOf, unhurried, until } from './lab.ts';
import { type MadeNar, madeNar } from './made-nar.ts';
import type { TestCatalog } from './test-catalog.ts';
import type { TestUpstream } from './test-upstream.ts';

/** Of one piece, and of several. */
const nars = [30_000, 300_000, 64, 99_999].map((sizeBytes, n) => madeNar({ name: `packed-${n}`, sizeBytes }));

interface Opened {
  client: Client;
  catalog: TestCatalog;
  upstream: TestUpstream;
  peer: TestPeer;
}

/** A client whose catalog names one peer for the pack, and nothing is fetched ahead. */
async function opened(
  t: Test,
  options: Partial<TestPeerOptions> = {},
  limits: Partial<ClientLimits> = {},
): Promise<Opened> {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog(nars);
  const pack = catalog.makePack();
  const peer = await TestPeer.open(t, { torrent: pack.torrent, bytes: pack.bytes, ...options });
  catalog.peers = [peer.key];
  const upstream = await lab.upstream(nars);
  const client = await lab.client([upstream], [catalog], { limits: { aheadFileBytes: 0, ...limits } });
  return { client, catalog, upstream, peer };
}

async function whenWarm({ client }: Opened): Promise<void> {
  await Promise.all(nars.map(({ storeHash }) => get(client.url, `${storeHash}.narinfo`)));
  await until(() => statusOf(client).packs.warm === 1);
}

async function allRight(t: Test, { client }: Opened, wanted: readonly MadeNar[] = nars): Promise<void> {
  for (const nar of wanted) t.ok((await get(client.url, nar.narInfo.url)).body.equals(nar.bytes));
  t.equal(statusOf(client).failed, 0);
}

t.test('NAR files come out of a pack over one connection, and HTTP is spared', async (t) => {
  const all = await opened(t, {}, unhurried);
  await whenWarm(all);
  await allRight(t, all);
  t.match(statusOf(all.client), { nars: { swarm: nars.length, http: 0 }, wrong: 0 });
  t.equal(all.peer.connections, 1);
  t.equal(all.upstream.requests.filter(({ url }) => url.startsWith('/nar/')).length, 0);
});

t.test('a peer that lies about a pack is left, and Nix gets the right bytes', async (t) => {
  const all = await opened(t, { answer: (_block, bytes) => spoilt(bytes) });
  await whenWarm(all);
  await allRight(t, all);
  const asked = new Set(all.peer.requests.map(({ index, begin }) => `${index} ${begin}`));
  t.equal(asked.size, all.peer.requests.length, 'it was asked once');
  t.match(statusOf(all.client), { packs: { warm: 0 }, nars: { http: nars.length } });
  await until(() => all.peer.sockets.size === 0);
});

t.test('a catalog that names wrong places costs nothing but time', async (t) => {
  const all = await opened(t);
  all.catalog.forge = (line) => ({
    ...line,
    pack: { ...(line.pack as object), offset: Number((line.pack as { offset: number }).offset) + 1 },
  });
  await whenWarm(all);
  await allRight(t, all);
});

for (const [how, options] of Object.entries({
  'hangs up': { answer: (_block, _bytes, peer) => void peer.hangUp() },
  'falls silent': { answer: () => undefined },
  refuses: { answer: () => 'reject' },
} satisfies Record<string, Partial<TestPeerOptions>>)) {
  t.test(`a peer that ${how} after it let us ask is replaced by HTTP`, async (t) => {
    const all = await opened(t, options as Partial<TestPeerOptions>);
    await whenWarm(all);
    await allRight(t, all);
    t.match(statusOf(all.client).nars, { swarm: 0 });
  });
}

t.test('a peer that dies in the middle of a NAR file is replaced at the byte where it stopped', async (t) => {
  const [, several] = nars;
  if (several === undefined) throw new Error('there is one');
  let blocks = 0;
  const all = await opened(t, {
    answer(_block, bytes, peer) {
      if (++blocks > 8) peer.hangUp();
      return bytes;
    },
  });
  await whenWarm(all);
  await allRight(t, all, [several]);
  const { bytes } = statusOf(all.client);
  t.ok(bytes.swarm >= 65_536, `${bytes.swarm} bytes of whole pieces were kept`);
  t.ok(bytes.http > 0);
});
