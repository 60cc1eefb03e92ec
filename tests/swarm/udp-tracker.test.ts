/** The tracker over UDP: what BEP 15 asks for, and that it is of no use to those who hide who they are. */

import t from 'tap';
import { parseCompactPeers, printPeer } from '../../swarm/address/peer-address.ts';
import { openUdpTracker } from '../../swarm/tracker/udp-tracker.ts';
import { announcePacket, connectPacket, known, scrapePacket, UdpClient, udpLab, unknown } from './udp-lab.ts';

/** Peers of an announce answer. */
function named(answer: Buffer, version: 4 | 6 = 4): string[] {
  return parseCompactPeers(answer.subarray(20), version).map(printPeer);
}

function failure(answer: Buffer): string | undefined {
  return answer.readUInt32BE(0) === 3 ? answer.toString('latin1', 8) : undefined;
}

t.test('connect, announce, and the peers that announced before', async (t) => {
  const lab = await udpLab(t);
  const [one, two] = [await UdpClient.open(t, lab, '127.0.0.2'), await UdpClient.open(t, lab, '127.0.0.3')];
  const connected = await one.ask(connectPacket(0x01020304));
  t.equal(connected.length, 16);
  t.equal(connected.toString('hex', 0, 8), '0000000001020304', 'action and transaction');
  const first = await one.ask(announcePacket(connected.subarray(8), { transaction: 9, port: 2000 }));
  t.equal(first.toString('hex', 0, 8), '0000000100000009');
  t.equal(first.readUInt32BE(8), 1_800);
  t.same(
    [first.readUInt32BE(12), first.readUInt32BE(16)],
    [1, 2],
    'one that downloads, and the permanent peers',
  );
  t.same(named(first), ['192.0.2.1:1'], 'not itself');
  const second = await two.ask(announcePacket(await two.connect(), { left: 0n, event: 0, port: 3000 }));
  t.same(named(second), ['192.0.2.1:1', '127.0.0.2:2000']);
  const stopped = await one.ask(announcePacket(connected.subarray(8), { event: 3, port: 2000 }));
  t.same(named(stopped), []);
  t.same(lab.tracker.peersOf(known, 9), [{ host: '127.0.0.3', port: 3000 }]);
  t.equal(lab.tracker.seedsOf(known), 1);
});

t.test('over IPv6 it names IPv6 peers, 18 bytes each', async (t) => {
  const lab = await udpLab(t, {}, '::1');
  const client = await UdpClient.open(t, lab, '::1');
  const id = await client.connect();
  await client.ask(announcePacket(id, { peerId: 'a', port: 2000 }));
  const answer = await client.ask(announcePacket(id, { peerId: 'b', port: 3000 }));
  t.same(named(answer, 6), ['[2001:db8::1]:2', '[::1]:2000']);
});

t.test('a socket for both families keeps them apart', async (t) => {
  const lab = await udpLab(t, {}, '::');
  const four = await UdpClient.open(t, {
    ...lab,
    udp: { ...lab.udp, port: lab.udp.port, host: '127.0.0.1' },
  });
  t.same(named(await four.ask(announcePacket(await four.connect()))), ['192.0.2.1:1']);
  t.same(lab.tracker.peersOf(known, 9), [{ host: '127.0.0.1', port: 6881 }]);
});

t.test('an address of its own choice, URL data and unknown events change nothing', async (t) => {
  const lab = await udpLab(t);
  const client = await UdpClient.open(t, lab);
  const options = Buffer.from([2, 9, ...Buffer.from('/announce'), 1, 0, 2, 255]);
  const answer = await client.ask(
    announcePacket(await client.connect(), { ip: 0x01020304, event: 77, options }),
  );
  t.equal(answer.readUInt32BE(0), 1);
  t.same(lab.tracker.peersOf(known, 9), [{ host: '127.0.0.1', port: 6881 }]);
});

t.test('what is left: more than a number can hold is not nothing', async (t) => {
  const lab = await udpLab(t);
  const client = await UdpClient.open(t, lab);
  const id = await client.connect();
  for (const left of [2n ** 64n - 1n, 2n ** 32n, 1n])
    await client.ask(announcePacket(id, { left, peerId: `${left}` }));
  t.equal(lab.tracker.seedsOf(known), 0);
  await client.ask(announcePacket(id, { left: 0n, peerId: 'seed' }));
  t.equal(lab.tracker.seedsOf(known), 1);
});

t.test('a scrape counts; unknown torrents are zeros; more than 74 are an error', async (t) => {
  const lab = await udpLab(t);
  const client = await UdpClient.open(t, lab);
  const id = await client.connect();
  await client.ask(announcePacket(id, { left: 0n }));
  const answer = await client.ask(scrapePacket(id, [known, unknown]));
  t.equal(answer.toString('hex'), `0000000200000007${'000000030000000000000000'}${'00'.repeat(12)}`);
  const most = scrapePacket(id, new Array(74).fill(known));
  t.equal((await client.ask(most)).length, 8 + 74 * 12);
  t.match(failure(await client.ask(scrapePacket(id, new Array(75).fill(known)))), /at most 74/);
});

t.test('what is refused is told why: unknown torrents, and too many requests of an address', async (t) => {
  const lab = await udpLab(t, { requestsPerAddressAndMinute: 3 });
  const client = await UdpClient.open(t, lab);
  const id = await client.connect();
  t.match(failure(await client.ask(announcePacket(id, { infoHash: unknown }))), /does not know/);
  for (const event of [2, 0]) t.equal(failure(await client.ask(announcePacket(id, { event }))), undefined);
  t.match(failure(await client.ask(announcePacket(id))), /too many/);
  const other = await UdpClient.open(t, lab, '127.0.0.9');
  t.equal(failure(await other.ask(announcePacket(await other.connect()))), undefined);
  t.match(lab.tracker.status(), { limited: 1, refused: 2 });
});

t.test('a connection id is good for two minutes, at one address, and only as it was given', async (t) => {
  const lab = await udpLab(t);
  const client = await UdpClient.open(t, lab);
  const id = await client.connect();
  const stranger = await UdpClient.open(t, lab, '127.0.0.2');
  const bad = async (from: UdpClient, packet: Buffer, why: string): Promise<void> => {
    const answer = await from.ask(packet);
    t.equal(failure(answer), 'connect again', why);
    t.ok(answer.length < packet.length, 'no longer than the request');
  };
  await bad(stranger, announcePacket(id), 'of another address');
  for (let byte = 0; byte < 8; byte++) {
    const changed = Buffer.from(id);
    changed[byte] = (changed[byte] ?? 0) ^ 1;
    await bad(client, announcePacket(changed), `byte ${byte} changed`);
  }
  await bad(client, announcePacket(connectPacket().subarray(0, 8)), 'the protocol id');
  await bad(client, scrapePacket(Buffer.alloc(8), [known]), 'nothing');
  lab.nowMs += 120_000;
  t.equal(failure(await client.ask(announcePacket(id))), undefined, 'good for two minutes');
  lab.nowMs += 8_000;
  await bad(client, announcePacket(id), 'too old');
  // The span's number is in the id, and comes round after 256 of them.
  lab.nowMs += 256 * 8_000 - 128_000;
  await bad(client, announcePacket(id), 'of an earlier round');
  t.equal(lab.udp.status().unconnected, 13);
  t.equal(lab.tracker.status().announces, 1, 'none of it reached the tracker');
  const other = await udpLab(t);
  other.nowMs = lab.nowMs;
  const elsewhere = await UdpClient.open(t, other);
  await bad(elsewhere, announcePacket(await client.connect()), 'of another process');
});

t.test('packets that are none are counted and get no answer', async (t) => {
  const lab = await udpLab(t);
  const client = await UdpClient.open(t, lab);
  const id = await client.connect();
  const packets = [
    Buffer.alloc(0),
    connectPacket().subarray(0, 15),
    Buffer.alloc(16),
    announcePacket(id).subarray(0, 97),
    scrapePacket(id, []),
    Buffer.concat([scrapePacket(id, [known]), Buffer.alloc(1)]),
    Buffer.concat([announcePacket(id), Buffer.alloc(2_000)]),
    Buffer.concat([id, Buffer.from('0000000300000007', 'hex'), Buffer.alloc(90)]),
    Buffer.alloc(60_000),
  ];
  for (const packet of packets) client.send(packet);
  // They arrive in order: the answer to this one is the first.
  const answer = await client.ask(connectPacket(99));
  t.equal(answer.readUInt32BE(4), 99);
  t.match(lab.udp.status(), { malformed: packets.length, connects: 2, unconnected: 0 });
});

t.test('a port that is taken is told; closing twice is closing once', async (t) => {
  const lab = await udpLab(t);
  const again = { host: '127.0.0.1', port: lab.udp.port, tracker: lab.tracker, permanentPeers: () => [] };
  await t.rejects(openUdpTracker(again), { code: 'config-invalid', message: /UDP port/ });
  await Promise.all([lab.udp.close(), lab.udp.close()]);
});
