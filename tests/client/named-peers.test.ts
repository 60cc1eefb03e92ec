/**
 * Catalogs and trackers in the internet make no client knock at what stands in its own network. In a network namespace, where this process
 * is the internet as well.
 */

import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { enterOwnNetwork } from '../helpers/own-network.ts';
import { fetchNar, Lab, statusOf, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

const ownHost = enterOwnNetwork(import.meta.filename);
// Not before: tap writes a plan when a process ends that has loaded it.
const { default: t } = await import('tap');

const skip = ownHost === undefined ? 'no namespaces on this system' : false;
const privateHost = ownHost ?? '';
/** Of a range for documents, which for the client is the internet. */
const publicHost = '203.0.113.1';
if (!skip) spawnSync('ip', ['addr', 'add', `${publicHost}/24`, 'dev', 'lo']);

t.test('a catalog in the internet names no peers in private networks', { skip }, async (t) => {
  const lab = await Lab.open(t);
  const knocks: string[] = [];
  const victims = ['127.0.0.1', privateHost, publicHost].map((host) => {
    const server = createServer((socket) => {
      knocks.push(host);
      socket.destroy();
    });
    t.teardown(() => server.close());
    server.listen(0, host);
    return { host, server };
  });
  await Promise.all(victims.map(({ server }) => once(server, 'listening')));
  const ports = victims.map(({ server }) => (server.address() as AddressInfo).port);
  const peers = [
    `127.0.0.1:${ports[0]}`,
    `localhost:${ports[0]}`,
    `[::ffff:127.0.0.1]:${ports[0]}`,
    `0.0.0.0:${ports[0]}`,
    `${privateHost}:${ports[1]}`,
    `[::ffff:${privateHost}]:${ports[1]}`,
  ];

  const nars = ['one', 'two'].map((name) => madeNar({ name, sizeBytes: 300_000 }));
  const upstream = await lab.upstream(nars);
  const catalog = await lab.catalogAt(publicHost, nars);
  catalog.makePack();
  catalog.peers = [...peers, `${publicHost}:${ports[2]}`];
  const client = await lab.client([upstream], [catalog]);
  for (const nar of nars) t.ok((await fetchNar(client, nar)).body.equals(nar.bytes));
  await until(() => knocks.length > 0);
  t.same([...new Set(knocks)], [publicHost], 'the pack and the torrents are asked of public addresses alone');
  await client.close();

  // One that is in a private network itself may be that of this very network.
  knocks.length = 0;
  const near = await lab.catalogAt(privateHost, nars);
  near.peers = peers.slice(0, 1);
  const other = await lab.client([], [near], { noUpstream: true, dataDir: `${lab.dir}/other` });
  const [first] = nars;
  if (first === undefined) throw new Error('there are two');
  await fetchNar(other, first);
  t.same([...new Set(knocks)], ['127.0.0.1']);
  t.equal(statusOf(other).nars.swarm, 0);
});

t.test('nor does its tracker', { skip }, async (t) => {
  const lab = await Lab.open(t);
  const knocks: string[] = [];
  const server = createServer((socket) => {
    knocks.push(socket.localAddress ?? '');
    socket.destroy();
  });
  t.teardown(() => server.close());
  server.listen(0, '0.0.0.0');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const nar = madeNar({ name: 'shared', sizeBytes: 5_000_000 });
  const catalog = await lab.catalogAt(publicHost, [nar]);
  catalog.peers = [];
  const compact = (host: string) => [...host.split('.').map(Number), port >> 8, port & 255];
  catalog.trackedPeers = Buffer.from(['127.0.0.1', privateHost, publicHost].flatMap(compact));
  const client = await lab.client([], [catalog], { noUpstream: true, share: 'on' });
  await fetchNar(client, nar);
  await until(() => knocks.length > 0);
  t.same([...new Set(knocks)], [publicHost]);
});
