/** Under which address a seeder is named to others. */

import type { IncomingMessage } from 'node:http';
import { BlockList } from 'node:net';
import t from 'tap';
import { LocalAddresses } from '../../parts/local-address.ts';
import { PublicAddress } from '../../parts/public-address.ts';
import type { LocalNetwork } from '../../swarm/local/local-networks.ts';

function network(address: string, prefix: number, internal = false): LocalNetwork {
  const family = address.includes(':') ? 'ipv6' : 'ipv4';
  const neighbours = new BlockList();
  neighbours.addSubnet(address, prefix, family);
  return { name: 'eth0', address, family, internal, neighbours };
}

/** A request as far as addresses go. */
function request(host: string | undefined, localAddress = '192.0.2.9'): IncomingMessage {
  return { headers: { host }, socket: { localAddress } } as unknown as IncomingMessage;
}

t.test('the address in the network of whoever asks, or else the first that is not loopback', async (t) => {
  let read = 0;
  let nowMs = 0;
  const networks = [
    network('127.0.0.1', 8, true),
    network('198.51.100.1', 24),
    network('10.0.0.1', 8),
    network('::1', 128, true),
    network('2001:db8::1', 64),
  ];
  const addresses = new LocalAddresses(
    () => nowMs,
    () => {
      read++;
      return networks;
    },
  );
  t.equal(addresses.towards('127.0.0.2'), '127.0.0.1');
  t.equal(addresses.towards('10.9.9.9'), '10.0.0.1');
  t.equal(addresses.towards('::ffff:10.9.9.9'), '10.0.0.1');
  t.equal(addresses.towards('203.0.113.5'), '198.51.100.1');
  t.equal(addresses.towards('::1'), '::1');
  t.equal(addresses.towards('2001:db8:9::5'), '2001:db8::1');
  t.equal(read, 1);
  nowMs += 60_000;
  networks.splice(1, 4);
  t.equal(addresses.towards('203.0.113.5'), undefined, 'a machine without a network');
  t.equal(read, 2);
  t.equal(new LocalAddresses(() => 0).towards('127.0.0.2'), '127.0.0.1', 'on this machine');
});

t.test('a configured address is the address, for HTTP and for UDP', async (t) => {
  const address = await PublicAddress.open('2001:db8::5', '0.0.0.0');
  t.same(address.addresses('192.0.2.9'), ['2001:db8::5']);
  t.same(address.addressesTowards('203.0.113.5', '0.0.0.0'), ['2001:db8::5']);
  t.equal(address.url(request('seeder.example:80'), 8421), 'http://[2001:db8::5]:8421');
  const bound = { host: '0.0.0.0', port: 8422 };
  t.equal(address.udpUrl(request('seeder.example:80'), bound), 'udp://[2001:db8::5]:8422/announce');
});

t.test('without one: the address listened on, or the one that was reached', async (t) => {
  const fixed = await PublicAddress.open(undefined, '192.0.2.1');
  t.same(fixed.addresses('127.0.0.1'), ['192.0.2.1']);
  t.same(fixed.addressesTowards('127.0.0.1', '::'), ['192.0.2.1']);
  const any = await PublicAddress.open(undefined, '::');
  t.same(any.addresses('::ffff:192.0.2.9'), ['192.0.2.9']);
  t.same(any.addressesTowards('127.0.0.7', '0.0.0.0'), ['127.0.0.1']);
  t.same(any.addressesTowards('203.0.113.5', '192.0.2.3'), ['192.0.2.3']);
});

t.test(
  'the URL of the UDP tracker has the host that the requester calls us, unless it listens on one address',
  async (t) => {
    const address = await PublicAddress.open(undefined, '0.0.0.0');
    const any = { host: '::', port: 1 };
    t.equal(address.udpUrl(request('seeder.example:8421'), any), 'udp://seeder.example:1/announce');
    t.equal(address.udpUrl(request('[2001:db8::5]:8421'), any), 'udp://[2001:db8::5]:1/announce');
    for (const hostile of ['a b', 'x/../', 'h:1:2', '', undefined])
      t.equal(address.udpUrl(request(hostile), any), 'udp://192.0.2.9:1/announce');
    const one = { host: '192.0.2.3', port: 1 };
    t.equal(address.udpUrl(request('seeder.example'), one), 'udp://192.0.2.3:1/announce');
  },
);
