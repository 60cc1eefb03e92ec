import { BlockList } from 'node:net';
import t from 'tap';
import { type LocalNetwork, LocalNetworks } from '../../swarm/local/local-networks.ts';

function network(name: string, address: string, prefix: number, internal = false): LocalNetwork {
  const family = address.includes(':') ? 'ipv6' : 'ipv4';
  const neighbours = new BlockList();
  neighbours.addSubnet(address.replace(/%.*/, ''), prefix, family);
  return { name, address, family, internal, neighbours };
}

const all = [
  network('lo', '127.0.0.1', 8, true),
  network('lo', '::1', 128, true),
  network('none-such-0', '192.168.7.20', 24),
  network('none-such-0', '203.0.113.20', 24),
  network('none-such-0', 'fe80::20%none-such-0', 64),
  network('none-such-0', '2001:db8::20', 64),
];
const networks = new LocalNetworks(
  () => 0,
  () => all,
);

t.test('neighbours by netmask are local, and only if their addresses are private', async (t) => {
  for (const address of [
    '127.0.0.1',
    '127.9.9.9',
    '192.168.7.255',
    '::ffff:192.168.7.3',
    '::1',
    'fe80::1',
    'fe80::1%none-such-0',
  ]) {
    t.ok(networks.has(address), address);
  }
  for (const address of [
    '192.168.8.1',
    '10.0.0.1',
    '203.0.113.21',
    '::ffff:203.0.113.21',
    '2001:db8::21',
    'fd00::1',
    '198.51.100.1',
    'seeder.example',
    '',
  ]) {
    t.notOk(networks.has(address), address);
  }
});

t.test(
  'a listener speaks to its own network, or with a wildcard to all but loopback and public ones',
  async (t) => {
    const addresses = (host: string): string[] => networks.of(host).map(({ address }) => address);
    t.same(addresses('0.0.0.0'), ['192.168.7.20']);
    t.same(addresses('::'), ['192.168.7.20', 'fe80::20%none-such-0']);
    t.same(addresses('127.0.0.1'), ['127.0.0.1']);
    t.same(addresses('192.168.7.20'), ['192.168.7.20']);
    t.same(addresses('203.0.113.20'), []);
  },
);

t.test('whoever is reached without a gateway is near, also in a public network', async (t) => {
  for (const address of ['192.168.7.3', '203.0.113.21', '2001:db8::21', '::ffff:203.0.113.21', '127.0.0.1'])
    t.ok(networks.reaches(address), address);
  for (const address of ['192.168.8.1', '198.51.100.1', '2001:db8:1::21', 'seeder.example', ''])
    t.notOk(networks.reaches(address), address);
});

t.test('networks are looked at again after a while', async (t) => {
  let nowMs = 0;
  let count = 0;
  const counted = new LocalNetworks(
    () => nowMs,
    () => {
      count++;
      return all;
    },
  );
  for (let times = 0; times < 3; times++) counted.has('127.0.0.1');
  t.equal(count, 1);
  nowMs += 60_000;
  t.ok(counted.has('127.0.0.1'));
  t.equal(count, 2);
});
