/** On loopback, each test at a port of its own: other tests run beside it. */

import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { BlockList } from 'node:net';
import t, { type Test } from 'tap';
import { type InfoHash, parseInfoHash } from '../../nar/hash.ts';
import { type Heard, LocalDiscovery, type LocalDiscoveryLimits } from '../../swarm/local/local-discovery.ts';
import { type LocalNetwork, LocalNetworks } from '../../swarm/local/local-networks.ts';
import {
  localPacketMaxInfoHashes,
  parseLocalAnnounce,
  printLocalAnnounce,
} from '../../swarm/local/local-packets.ts';
import type { LocalShares } from '../../swarm/local/local-repeats.ts';
import { until } from '../client/lab.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

const group = '239.192.152.143';
const infoHashes = Array.from({ length: 400 }, (_, index) =>
  parseInfoHash((index + 1).toString(16).padStart(40, '0')),
);
const [wanted = '' as InfoHash, other = '' as InfoHash] = infoHashes;

class Lab {
  readonly #t: Test;
  readonly groupPort: number;
  /** Everything that was sent to the group. */
  readonly sent: Heard[] = [];

  private constructor(t: Test, groupPort: number) {
    this.#t = t;
    this.groupPort = groupPort;
  }

  static async open(t: Test): Promise<Lab> {
    provesNothingStaysOpen(t);
    const socket = createSocket({ type: 'udp4', reuseAddr: true });
    socket.bind({ address: group, port: 0 });
    await once(socket, 'listening');
    socket.addMembership(group, '127.0.0.1');
    t.teardown(() => socket.close());
    const lab = new Lab(t, socket.address().port);
    socket.on('message', (packet, { address }) => {
      const found = parseLocalAnnounce(packet);
      if (found === undefined) return;
      const asks = !found.cookie?.endsWith('-have');
      lab.sent.push({ infoHashes: found.infoHashes, peer: { host: address, port: found.port }, asks });
    });
    return lab;
  }

  async discovery(
    options: {
      port?: number;
      has?: readonly InfoHash[];
      crowded?: boolean;
      networks?: LocalNetworks;
      limits?: Partial<LocalDiscoveryLimits>;
      clock?: () => number;
      shares?: () => LocalShares;
      onFault?: (error: unknown) => void;
    } = {},
  ): Promise<{ discovery: LocalDiscovery; heard: Heard[] }> {
    const { port = 6882, has = [], crowded = false, networks, limits, clock } = options;
    const { shares = () => ({ fetched: [], kept: [] }) } = options;
    const heard: Heard[] = [];
    const discovery: LocalDiscovery = await LocalDiscovery.open({
      networks: networks ?? new LocalNetworks(() => performance.now()),
      host: '127.0.0.1',
      port,
      groupPort: this.groupPort,
      onHeard(each) {
        heard.push(each);
        if (!each.asks) return;
        for (const infoHash of each.infoHashes) if (has.includes(infoHash)) discovery.announce(infoHash);
      },
      mayAnnounce: () => !crowded,
      shares,
      onFault: options.onFault ?? ((error) => this.#t.fail(String(error))),
      ...(limits && { limits }),
      ...(clock && { clock }),
    });
    this.#t.teardown(() => discovery.close());
    return { discovery, heard };
  }

  async stranger(): Promise<{ send(packet: Buffer | string): void }> {
    const socket: Socket = createSocket('udp4');
    socket.bind({ address: '127.0.0.1', port: 0 });
    await once(socket, 'listening');
    socket.setMulticastInterface('127.0.0.1');
    this.#t.teardown(() => socket.close());
    return { send: (packet) => socket.send(packet, this.groupPort, group) };
  }
}

t.test('whoever asks hears who has it, and with which port; nobody hears himself', async (t) => {
  const lab = await Lab.open(t);
  const asker = await lab.discovery({ port: 1001 });
  const holder = await lab.discovery({ port: 1002, has: [wanted] });
  const another = await lab.discovery({ port: 1003 });
  t.same(asker.discovery.status().networks, ['127.0.0.1']);
  asker.discovery.ask(wanted);
  await until(() => asker.heard.length === 1);
  t.same(asker.heard, [{ infoHashes: [wanted], peer: { host: '127.0.0.1', port: 1002 }, asks: false }]);
  t.same(holder.heard, [{ infoHashes: [wanted], peer: { host: '127.0.0.1', port: 1001 }, asks: true }]);
  await until(() => another.heard.length === 2);
  t.same(
    lab.sent.map(({ peer, asks }) => [peer.port, asks]),
    [
      [1001, true],
      [1002, false],
    ],
    'and that is all that was said',
  );
});

t.test('an announce of another program is a question, too, and many infohashes go together', async (t) => {
  const lab = await Lab.open(t);
  const has = infoHashes.slice(0, localPacketMaxInfoHashes);
  const { discovery } = await lab.discovery({ has });
  const stranger = await lab.stranger();
  stranger.send(printLocalAnnounce(group, { port: 5, infoHashes: has, cookie: 'other program' }));
  await until(() => lab.sent.some(({ asks }) => !asks));
  t.same(new Set(lab.sent.find(({ asks }) => !asks)?.infoHashes), new Set(has));
  t.equal(discovery.status().answered, has.length);
});

t.test('nothing is said that enough others have said', async (t) => {
  const lab = await Lab.open(t);
  const { discovery } = await lab.discovery({ has: [wanted], crowded: true });
  const asker = await lab.discovery({ port: 2 });
  asker.discovery.ask(wanted);
  await until(() => lab.sent.length === 1);
  const second = await lab.discovery({ has: [other], port: 3 });
  asker.discovery.ask(other);
  await until(() => lab.sent.length === 3);
  t.equal(discovery.status().answered, 0);
  t.equal(second.discovery.status().answered, 1);
});

t.test('the same is not said again at once, and no more packets than the limit allows', async (t) => {
  const lab = await Lab.open(t);
  let nowMs = 0;
  const clock = (): number => nowMs;
  const limits = { sentPerSecond: 100, sentBurstSeconds: 0.02 };
  const { discovery } = await lab.discovery({ limits, clock });
  discovery.ask(wanted);
  await until(() => lab.sent.length === 1);
  discovery.ask(wanted);
  discovery.ask(other);
  await until(() => lab.sent.length === 2);
  t.same(lab.sent[1]?.infoHashes, [other], 'the first was not asked for twice');
  for (const infoHash of infoHashes.slice(2)) discovery.ask(infoHash);
  const asked = (): number => discovery.status().asked;
  t.ok(asked() <= 2, 'the two packets of this moment are spent');
  nowMs += 10_000;
  await until(() => asked() === 2 + 2 * localPacketMaxInfoHashes);
  nowMs += 10_000;
  await until(() => asked() === 2 + 4 * localPacketMaxInfoHashes);
});

t.test(
  'what is shared is said again when its time comes: what is fetched as a question, and a packet at a time',
  async (t) => {
    const lab = await Lab.open(t);
    let nowMs = 0;
    let looks = 0;
    const { discovery } = await lab.discovery({
      limits: { repeatMs: 300, repeatPacketMs: 60, askAgainMs: 200 },
      clock: () => nowMs,
      shares() {
        looks++;
        return { fetched: [wanted], kept: [other] };
      },
    });
    discovery.ask(wanted);
    await until(() => lab.sent.length === 1);
    for (const [atMs, sent] of [
      [60, 1],
      [359, 1],
      [419, 2],
      [479, 3],
      [700, 3],
    ] as const) {
      const before = looks;
      nowMs = atMs;
      await until(() => looks > before && lab.sent.length >= sent);
      t.equal(lab.sent.length, sent, `at ${atMs}`);
    }
    t.same(
      lab.sent.map(({ infoHashes, asks }) => [...infoHashes, asks]),
      [
        [wanted, true],
        [wanted, true],
        [other, false],
      ],
    );
  },
);

t.test('what is no announce, and more of it than anybody needs, is ignored', async (t) => {
  const lab = await Lab.open(t);
  const nowMs = 0;
  const limits = { heardPerAddress: 5 };
  const { discovery, heard } = await lab.discovery({ limits, clock: () => nowMs, has: [wanted] });
  const stranger = await lab.stranger();
  for (const packet of ['', 'BT-SEARCH * HTTP/1.1\r\n', Buffer.alloc(9_000, 0x61)]) stranger.send(packet);
  await until(() => discovery.status().ignored === 3);
  for (let count = 0; count < 10; count++) {
    stranger.send(printLocalAnnounce(group, { port: 5, infoHashes: [other], cookie: undefined }));
  }
  await until(() => discovery.status().ignored === 11);
  t.equal(heard.length, 2, 'five packets from there in this second, three of them no announces');
});

t.test('nothing is listened to for a while when packets come by the thousand', async (t) => {
  const lab = await Lab.open(t);
  let nowMs = 0;
  const faults: unknown[] = [];
  const { discovery, heard } = await lab.discovery({
    limits: { floodPerSecond: 50, floodMs: 60_000 },
    clock: () => nowMs,
    onFault: (error) => faults.push(error),
  });
  const stranger = await lab.stranger();
  const packet = printLocalAnnounce(group, { port: 5, infoHashes: [wanted], cookie: undefined });
  for (let count = 0; count < 60; count++) stranger.send(packet);
  await until(() => discovery.status().floods === 1);
  await until(() => discovery.status().networks.length === 0);
  const { length } = heard;
  for (let count = 0; count < 60; count++) stranger.send(packet);
  nowMs += 59_000;
  await discovery.refresh();
  t.same(discovery.status().networks, []);
  t.match(discovery.status(), { floods: 1, ignored: 51 - 1 - length });
  nowMs += 2_000;
  await discovery.refresh();
  t.same(discovery.status().networks, ['127.0.0.1']);
  stranger.send(packet);
  await until(() => heard.length === length + 1);
  t.match(faults, [/more than 50 packets/]);
});

t.test('what comes from no local address is ignored', async (t) => {
  const lab = await Lab.open(t);
  const neighbours = new BlockList();
  neighbours.addSubnet('127.77.0.0', 16, 'ipv4');
  const own: LocalNetwork = {
    name: 'lo',
    address: '127.0.0.1',
    family: 'ipv4',
    internal: true,
    neighbours,
  };
  const { discovery, heard } = await lab.discovery({
    networks: new LocalNetworks(
      () => 0,
      () => [own],
    ),
  });
  const stranger = await lab.stranger();
  stranger.send(printLocalAnnounce(group, { port: 5, infoHashes: [wanted], cookie: undefined }));
  await until(() => discovery.status().ignored === 1);
  t.same(heard, []);
});

t.test('a network that comes is spoken to, and one that goes is not', async (t) => {
  const lab = await Lab.open(t);
  let nowMs = 0;
  const here = new LocalNetworks(() => performance.now())
    .all()
    .filter(({ address }) => address === '127.0.0.1');
  let now: LocalNetwork[] = [];
  const networks = new LocalNetworks(
    () => nowMs,
    () => now,
  );
  const { discovery } = await lab.discovery({ networks });
  t.same(discovery.status().networks, []);
  now = here;
  nowMs += 60_000;
  await discovery.refresh();
  t.same(discovery.status().networks, ['127.0.0.1']);
  discovery.ask(wanted);
  await until(() => lab.sent.length === 1);
  now = [];
  nowMs += 60_000;
  await discovery.refresh();
  t.same(discovery.status().networks, []);
});
