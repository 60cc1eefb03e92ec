/** What is remembered of those who are heard in the local network, whoever makes them up. On loopback, all of whose addresses are neighbours. */

import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { defaultLimits } from '../../client/config.ts';
import { LocalPeers } from '../../client/share/local-peers.ts';
import { type InfoHash, parseInfoHash } from '../../nar/hash.ts';
import { type PeerAddress, printPeer } from '../../swarm/address/peer-address.ts';
import { LocalNetworks } from '../../swarm/local/local-networks.ts';
import { localPacketMaxInfoHashes, printLocalAnnounce } from '../../swarm/local/local-packets.ts';
import { silentLogger } from '../../web/log.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';
import { until } from './lab.ts';

const group = '239.192.152.143';

function infoHashesFrom(first: number): InfoHash[] {
  return Array.from({ length: localPacketMaxInfoHashes }, (_, index) =>
    parseInfoHash((first + index + 1).toString(16).padStart(40, '0')),
  );
}

async function lab(t: Test, limits: Partial<typeof defaultLimits> = {}) {
  provesNothingStaysOpen(t);
  const groupPort = randomInt(20_000, 32_000);
  const told: string[] = [];
  const peers = await LocalPeers.open({
    networks: new LocalNetworks(() => performance.now()),
    host: '127.0.0.1',
    port: 6882,
    groupPort,
    mayHold: () => false,
    has: () => false,
    fetched: () => [],
    newest: () => [],
    onPeer: (_infoHash, peer) => told.push(printPeer(peer)),
    limits: { ...defaultLimits, ...limits },
    logger: silentLogger,
    clock: () => performance.now(),
  });
  t.teardown(() => peers.close());
  const sockets = new Map<string, ReturnType<typeof createSocket>>();
  const say = async ({ host, port }: PeerAddress, infoHashes: InfoHash[]): Promise<void> => {
    let socket = sockets.get(host);
    if (socket === undefined) {
      const opened = createSocket('udp4');
      opened.bind({ address: host, port: 0 });
      await once(opened, 'listening');
      opened.setMulticastInterface('127.0.0.1');
      t.teardown(() => opened.close());
      sockets.set(host, opened);
      socket = opened;
    }
    const heard = (): number => (peers.status()?.heard ?? 0) + (peers.status()?.ignored ?? 0);
    const before = heard();
    socket.send(printLocalAnnounce(group, { port, infoHashes, cookie: 'x' }), groupPort, group);
    await until(() => heard() > before);
  };
  return { peers, told, say };
}

t.test('torrents by the thousand, and peers of them, are remembered up to a number in all', async (t) => {
  const { peers, say } = await lab(t, { localTorrents: 100, localPeers: 130 });
  for (let packet = 0; packet < 10; packet++)
    await say({ host: `127.0.0.${packet + 1}`, port: 5 }, infoHashesFrom(packet * localPacketMaxInfoHashes));
  t.match(peers.status(), { heard: 10, torrents: 100, peers: 100 });
  for (let packet = 0; packet < 4; packet++)
    await say({ host: `127.0.0.${packet + 1}`, port: 6 }, infoHashesFrom(0));
  const { torrents = 0, peers: count = 0 } = peers.status() ?? {};
  t.ok(count <= 130, `${count} peers of ${torrents} torrents`);
  t.equal(peers.known(infoHashesFrom(0)[0] as InfoHash).length, 4, 'those that were heard of last');
});

t.test('an address that says a new port each time is believed a few of them', async (t) => {
  const { peers, told, say } = await lab(t, { localPortsOfPeer: 3 });
  const [infoHash] = infoHashesFrom(0) as [InfoHash];
  for (let port = 1; port <= 10; port++) await say({ host: '127.0.0.1', port }, [infoHash]);
  await say({ host: '127.0.0.2', port: 1 }, [infoHash]);
  await say({ host: '127.0.0.1', port: 2 }, [infoHash]);
  t.same(
    peers.known(infoHash).map(({ host, port }) => `${host}:${port}`),
    ['127.0.0.1:2', '127.0.0.2:1', '127.0.0.1:3', '127.0.0.1:1'],
  );
  t.same(told, ['127.0.0.1:1', '127.0.0.1:2', '127.0.0.1:3', '127.0.0.2:1', '127.0.0.1:2']);
});
