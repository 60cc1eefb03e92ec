/** The DHT node with its real child process, on loopback. */

import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { EventEmitter, once } from 'node:events';
import { join } from 'node:path';
import { Client } from 'bittorrent-dht';
import t from 'tap';
import { parseInfoHash } from '../../nar/hash.ts';
import type { DhtEnded } from '../../swarm/dht/dht.ts';
import { dhtLimits, dhtPacketMaxBytes } from '../../swarm/dht/dht-limits.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';
import { until } from '../helpers/program.ts';
import {
  Asker,
  answer,
  killingPackets,
  openNode,
  query,
  someHash,
  someId,
  statusWith,
} from './dht-fixture.ts';

const infoHash = parseInfoHash('5a'.repeat(20));

/** It takes half a second at most; a busy machine gets more. */
const closedWithinMs = 5_000;

/** The peers that the node knows for `hash`. */
async function peersAt(asker: Asker, node: { host: string; port: number }, hash: Buffer): Promise<Buffer[]> {
  const reply = (await asker.ask(query('get_peers', { id: someId, info_hash: hash }), node)).get('r');
  const values = reply instanceof Map ? reply.get('values') : undefined;
  return Array.isArray(values) ? values : [];
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

for (const [name, packet] of Object.entries(killingPackets)) {
  t.test(`unguarded, the library throws for this packet: ${name}`, async (t) => {
    const socket = Object.assign(new EventEmitter(), {
      bind() {},
      address: () => ({ address: '127.0.0.1', port: 1 }),
      send() {},
      close() {},
    });
    const dht = new Client({
      ...{ nodeId: 'ab'.repeat(20), bootstrap: false, socket },
      ...{ maxTables: 1, maxPeers: 1, maxValues: 1, maxAge: 60_000 },
    });
    dht.on('warning', () => {});
    t.teardown(() => dht.destroy());
    t.throws(() =>
      socket.emit('message', packet, { address: '127.0.0.1', port: 2, family: 'IPv4', size: 1 }),
    );
  });
}

t.test('packets that kill the library do not reach it, are counted, and the node goes on', async (t) => {
  provesNothingStaysOpen(t);
  const dht = await openNode(t);
  const { pid } = dht;
  const asker = await Asker.open(t);
  const packets = Object.values(killingPackets);
  for (const packet of packets) asker.send(packet, dht);
  asker.send(Buffer.alloc(dhtPacketMaxBytes + 1, 'd'), dht);
  asker.send(Buffer.from('rubbish'), dht);
  asker.send(answer({ id: someId }), dht);
  const status = await statusWith(dht, ({ droppedPackets }) => droppedPackets >= packets.length + 3);
  t.match(status.droppedByReason, { oversize: 1, 'not-bencode': 1, unasked: 1, unsupported: 1 });
  t.equal(status.droppedByReason['not-krpc'], packets.length - 1);
  const pong = await asker.ask(query('ping', { id: someId }), dht);
  t.equal(String(pong.get('y')), 'r', 'it still answers');
  t.equal(dht.pid, pid, 'and is the same process');
  t.equal(dht.status().restarts, 0);
});

t.test('a child that is killed comes back on its port and announces again', async (t) => {
  provesNothingStaysOpen(t);
  const other = await openNode(t);
  const ended: DhtEnded[] = [];
  const dht = await openNode(t, {
    bootstrap: [other],
    peersPort: 7_001,
    limits: { reannounceMs: 100 },
    onEnded: (end) => ended.push(end),
  });
  const { port, pid } = dht;
  dht.noteDemand(infoHash);
  const before = await statusWith(dht, ({ announces }) => announces > 0);
  t.ok(pid !== undefined && process.kill(pid, 'SIGKILL'));
  const after = await statusWith(
    dht,
    ({ state, restarts, announces }) => state === 'running' && restarts > 0 && announces > before.announces,
  );
  t.equal(after.restarts, 1);
  t.not(dht.pid, pid);
  t.equal(dht.port, port);
  t.match(ended, [{ signal: 'SIGKILL', restartInMs: 50 }]);
  const asker = await Asker.open(t);
  const [peer] = await peersAt(asker, other, Buffer.from(infoHash, 'hex'));
  t.equal(peer?.readUInt16BE(4), 7_001, 'the other node names the BitTorrent port');
});

t.test('a child that hangs is killed and replaced, and the back-off doubles up to its bound', async (t) => {
  provesNothingStaysOpen(t);
  const ended: DhtEnded[] = [];
  let skippedMs = 0;
  const dht = await openNode(t, {
    limits: { restartMinMs: 10, restartMaxMs: 25 },
    clock: () => performance.now() + skippedMs,
    onEnded: (end) => ended.push(end),
  });
  const first = dht.pid ?? 0;
  process.kill(first, 'SIGSTOP');
  await statusWith(dht, ({ state, restarts }) => {
    // What it said before it was stopped may still arrive, and counts from then on.
    if (dht.pid === first) skippedMs += dhtLimits.hangMs;
    return restarts === 1 && state === 'running';
  });
  t.notOk(isAlive(first), 'it is gone');
  for (const restart of [2, 3]) {
    process.kill(dht.pid ?? 0, 'SIGKILL');
    await statusWith(dht, ({ state, restarts }) => restarts === restart && state === 'running');
  }
  t.strictSame(
    ended.map(({ message, restartInMs }) => [message, restartInMs]),
    [
      ['it hung', 10],
      [undefined, 20],
      [undefined, 25],
    ],
  );
});

t.test('close ends the child soon, also one that hangs, and may be called twice', async (t) => {
  provesNothingStaysOpen(t);
  for (const signal of [undefined, 'SIGSTOP', 'SIGTERM'] as const) {
    const dht = await openNode(t);
    const pid = dht.pid ?? 0;
    if (signal !== undefined) process.kill(pid, signal);
    const began = performance.now();
    await Promise.all([dht.close(), dht.close()]);
    t.ok(performance.now() - began < closedWithinMs, `in time, after ${signal}`);
    t.notOk(isAlive(pid));
    t.equal(dht.status().state, 'closed');
  }
});

t.test('a parent that is killed leaves no child behind', async (t) => {
  const parent = spawn(process.execPath, [join(import.meta.dirname, 'dht-parent.ts')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = await once(parent.stdout, 'data');
  const pid = Number(String(line));
  t.ok(isAlive(pid), 'there is a child');
  const gone = once(parent, 'close');
  parent.kill('SIGKILL');
  await gone;
  await until(async () => !isAlive(pid));
});

t.test('a port that is taken is an error at the start', async (t) => {
  provesNothingStaysOpen(t);
  const taken = createSocket('udp4');
  taken.bind(0, '127.0.0.1');
  await once(taken, 'listening');
  t.teardown(() => new Promise<void>((resolve) => taken.close(() => resolve())));
  await t.rejects(openNode(t, { port: taken.address().port }), {
    code: 'dht-failed',
    message: /EADDRINUSE/,
  });
  await t.rejects(openNode(t, { host: '192.0.2.1' }), { code: 'dht-failed', message: /EADDRNOTAVAIL/ });
});

t.test('a node of its own names its own BitTorrent address', async (t) => {
  provesNothingStaysOpen(t);
  const dht = await openNode(t, { peersPort: 7_002, peersHost: '127.0.0.9' });
  dht.noteDemand(infoHash);
  await statusWith(dht, ({ announceFailures }) => announceFailures > 0);
  const asker = await Asker.open(t);
  const [peer] = await peersAt(asker, dht, Buffer.from(infoHash, 'hex'));
  t.equal(peer?.toString('hex'), `7f000009${(7_002).toString(16)}`);
});

t.test('an answer stays small, however many peers announced themselves', async (t) => {
  provesNothingStaysOpen(t);
  const dht = await openNode(t);
  const asker = await Asker.open(t);
  const reply = (await asker.ask(query('get_peers', { id: someId, info_hash: someHash }), dht)).get('r');
  const token = reply instanceof Map ? (reply.get('token') as Buffer) : Buffer.alloc(0);
  const announce = (port: number) =>
    asker.ask(query('announce_peer', { id: someId, info_hash: someHash, token, port }), dht);
  for (let port = 1; port <= 60; port++) await announce(port);
  t.equal((await peersAt(asker, dht, someHash)).length, 50);
});
