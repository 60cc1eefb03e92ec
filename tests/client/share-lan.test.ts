/** Sharing with the local network alone, on loopback: the lab's discovery has a port of its own. */

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { infoHashToDigest } from '../../nar/hash.ts';
import { parseLocalAnnounce, printLocalAnnounce } from '../../swarm/local/local-packets.ts';
import { fetchNar, Lab, statusOf, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

const group = '239.192.152.143';
const mib = 1024 * 1024;
const large = madeNar({ name: 'lan-large', sizeBytes: 6 * mib });
const middling = madeNar({ name: 'lan-middling', sizeBytes: mib });
const small = madeNar({ name: 'lan-small', sizeBytes: 20_000 });
const unsigned = madeNar({ name: 'lan-unsigned', sizeBytes: 5 * mib, signed: false });

/** Everybody in the local network can hear what is sent to the group; and say something. */
async function listener(t: Test, lab: Lab) {
  const socket = createSocket({ type: 'udp4', reuseAddr: true });
  socket.bind({ address: group, port: lab.localDiscoveryPort });
  await once(socket, 'listening');
  socket.addMembership(group, '127.0.0.1');
  const speaker = createSocket('udp4');
  speaker.bind({ address: '127.0.0.1', port: 0 });
  await once(speaker, 'listening');
  speaker.setMulticastInterface('127.0.0.1');
  t.teardown(() => {
    socket.close();
    speaker.close();
  });
  const said = new Set<string>();
  socket.on('message', (packet) => {
    const found = parseLocalAnnounce(packet);
    for (const infoHash of found?.infoHashes ?? []) said.add(`${infoHash} ${found?.cookie?.split('-')[1]}`);
  });
  return {
    said,
    ask: (nar: typeof large) =>
      speaker.send(
        printLocalAnnounce(group, { port: 9, infoHashes: [nar.torrent.infoHash], cookie: undefined }),
        lab.localDiscoveryPort,
        group,
      ),
  };
}

t.test('two clients find each other without a tracker, and no tracker hears of them', async (t) => {
  const lab = await Lab.open(t);
  const { said } = await listener(t, lab);
  const nars = [large, middling, small];
  const catalog = await lab.catalog(nars);
  catalog.peers = [];
  const upstream = await lab.upstream(nars);
  const first = await lab.client([upstream], [catalog], { share: 'lan' });
  const second = await lab.client([], [catalog], {
    share: 'lan',
    noUpstream: true,
    dataDir: `${lab.dir}/second`,
  });
  t.match(statusOf(first).share, { enabled: true, mode: 'lan' });
  for (const nar of nars) await fetchNar(first, nar);
  await until(() => nars.every((nar) => said.has(`${nar.torrent.infoHash} have`)));
  for (const nar of nars) {
    t.ok((await fetchNar(second, nar)).body.equals(nar.bytes), `${nar.bytes.length} bytes from the first`);
  }
  t.equal(statusOf(second).bytes.http, 0);
  t.ok(said.has(`${large.torrent.infoHash} ask`));
  t.ok(said.has(`${middling.torrent.infoHash} ask`));
  t.notOk(said.has(`${small.torrent.infoHash} ask`), 'what is tiny is not asked for');
  await second.close();
  await first.close();
  t.same(catalog.announces, []);
});

/** A client of the local network that has the large NAR file, which the catalog knows nobody for. */
async function oneThatHasIt(t: Test) {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([large]);
  catalog.peers = [];
  const upstream = await lab.upstream([large]);
  const first = await lab.client([upstream], [catalog], { share: 'lan' });
  await fetchNar(first, large);
  await until(() => statusOf(first).cache.files === 1);
  return { lab, catalog, upstream };
}

t.test('a client that starts later hears who has what it fetches', async (t) => {
  const { lab, catalog } = await oneThatHasIt(t);
  const second = await lab.client([], [catalog], {
    share: 'lan',
    noUpstream: true,
    dataDir: `${lab.dir}/second`,
  });
  t.ok((await fetchNar(second, large)).body.equals(large.bytes));
});

t.test('a machine of the local network gives what an upstream is slow to give', async (t) => {
  const { lab, catalog, upstream } = await oneThatHasIt(t);
  const second = await lab.client([upstream], [catalog], { share: 'lan', dataDir: `${lab.dir}/second` });
  upstream.intercept = (request) => request.url?.startsWith('/nar/') === true;
  t.ok((await fetchNar(second, large)).body.equals(large.bytes));
  t.match(statusOf(second).nars, { swarm: 1, http: 0 });
});

t.test('what is kept is said again and again, and what is fetched is asked for again', async (t) => {
  const lab = await Lab.open(t);
  const { said } = await listener(t, lab);
  const catalog = await lab.catalog([large, small, unsigned]);
  catalog.peers = [];
  const upstream = await lab.upstream([large, small, unsigned]);
  const limits = { localRepeatMs: 60, localRepeatPacketMs: 12 };
  const client = await lab.client([upstream], [catalog], { share: 'lan', limits });
  await fetchNar(client, unsigned);
  await fetchNar(client, small);
  const have = `${small.torrent.infoHash} have`;
  const again = async (what: string): Promise<void> => {
    said.clear();
    await until(() => said.has(what));
  };
  for (let times = 0; times < 3; times++) await again(have);
  upstream.intercept = (request) => request.url?.startsWith('/nar/') === true;
  const fetching = fetchNar(client, large).catch(() => undefined);
  await again(`${large.torrent.infoHash} ask`);
  await again(have);
  await client.close();
  await fetching;
  t.notOk(
    [...said].some((each) => each.startsWith(unsigned.torrent.infoHash)),
    'nobody signed that one',
  );
});

t.test('without --share nothing is sent, whatever is fetched and asked', async (t) => {
  const lab = await Lab.open(t);
  const { said, ask } = await listener(t, lab);
  const catalog = await lab.catalog([large, small]);
  const client = await lab.client([], [catalog], { noUpstream: true });
  for (const nar of [large, small]) await fetchNar(client, nar);
  // Heard by everybody who listens; when this has come, anything sent before has, too.
  ask(small);
  await until(() => said.size > 0);
  t.same([...said], [`${small.torrent.infoHash} undefined`]);
});

t.test('what no trusted key signed is neither asked for nor said to be here', async (t) => {
  const lab = await Lab.open(t);
  const { said, ask } = await listener(t, lab);
  const catalog = await lab.catalog([unsigned, small]);
  const client = await lab.client([], [catalog], { noUpstream: true, share: 'lan' });
  await fetchNar(client, unsigned);
  ask(unsigned);
  await fetchNar(client, small);
  await until(() => said.has(`${small.torrent.infoHash} have`));
  t.same(
    [...said].filter((each) => each.startsWith(unsigned.torrent.infoHash)),
    [`${unsigned.torrent.infoHash} undefined`],
    'nothing but the question',
  );
});

t.test('nothing is said to be here, or served, before all of it was verified', async (t) => {
  const lab = await Lab.open(t);
  const { said, ask } = await listener(t, lab);
  const catalog = await lab.catalog([middling, small]);
  catalog.peers = [];
  const upstream = await lab.upstream([middling, small]);
  const wrong = Buffer.from(middling.bytes);
  wrong[wrong.length - 1] = (wrong.at(-1) ?? 0) ^ 1;
  upstream.put(middling.narInfo.url, wrong);
  const client = await lab.client([upstream], [catalog], { share: 'on' });
  const answer = await fetchNar(client, middling).catch(() => undefined);
  t.notOk(answer?.complete && answer.body.length === wrong.length, 'Nix got no end of it');
  await until(() => statusOf(client).transfers.running.length === 0);
  ask(middling);
  await fetchNar(client, small);
  await until(() => said.has(`${small.torrent.infoHash} have`));
  t.notOk(said.has(`${middling.torrent.infoHash} have`));
  const announced = catalog.announces.map((query) => [query.get('info_hash'), query.get('left')]);
  const queryText = infoHashToDigest(middling.torrent.infoHash)
    .toString('latin1')
    .replaceAll(/[^ -~]/g, '');
  t.notOk(
    announced.some(([text, left]) => left === '0' && text?.replaceAll(/[^ -~]/g, '') === queryText),
    'no tracker was told that it is here',
  );
});
