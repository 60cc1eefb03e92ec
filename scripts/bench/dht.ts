/** What the DHT costs: an announce in a network of many nodes, the child process, and the guard before the library. */

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'bittorrent-dht';
import { parseInfoHash } from '../../nar/hash.ts';
import { bencode } from '../../swarm/bencode.ts';
import { type Dht, openDht } from '../../swarm/dht/dht.ts';
import { DhtGuard } from '../../swarm/dht/dht-guard.ts';
import { dhtLimits } from '../../swarm/dht/dht-limits.ts';
import { parseDhtPacket, printDhtPacket } from '../../swarm/dht/dht-packets.ts';
import { DhtSocket } from '../../swarm/dht/dht-socket.ts';
import { median, type Row } from './table.ts';

/** Nodes of the network, all in this process, each with an address of its own on loopback. */
const nodesCount = 300;
const announcesCount = 20;
const packetsCount = 200_000;

export async function dht(): Promise<Row[]> {
  return [...guardRows(), ...(await networkRows())];
}

/** One thread, no sockets: what the validator itself takes. */
function guardRows(): Row[] {
  const id = Buffer.alloc(20, 1);
  const query = bencode({ t: 'aa', y: 'q', q: 'get_peers', a: { id, info_hash: id } });
  const answer = bencode({ t: 'aa', y: 'r', r: { id, token: id, nodes: Buffer.alloc(26 * 8, 9) } });
  const killing = bencode({ t: 'aa', y: 'q', q: 'get_peers', a: { id, info_hash: 7 } });
  const rubbish = Buffer.alloc(1_400, 'l');
  return Object.entries({ query, answer, killing, rubbish }).map(([name, packet]) => ({
    what: `DHT guard: packets a second, ${name} of ${packet.length} bytes`,
    ours: `${Math.round(perSecond(packet)).toLocaleString('en')}/s`,
    theirs: '',
  }));
}

function perSecond(packet: Buffer): number {
  let startMs = 0;
  for (let i = -packetsCount / 10; i < packetsCount; i++) {
    if (i === 0) startMs = performance.now();
    const parsed = parseDhtPacket(packet, false);
    if (typeof parsed !== 'string') printDhtPacket(parsed);
  }
  return packetsCount / ((performance.now() - startMs) / 1_000);
}

async function networkRows(): Promise<Row[]> {
  const nodes = await openNetwork();
  const [first] = nodes;
  if (first === undefined) throw new Error('a network without nodes');
  const startMs = performance.now();
  const dht = await openDht({
    ...{ host: '127.0.0.1', port: 0, peersPort: 6881 },
    bootstrap: [{ host: first.address().address, port: first.address().port }],
    limits: { tickMs: 5, heartbeatMs: 20, announcesPerMinute: 60_000, announcesUnderWayMax: 1 },
  });
  const readyMs = performance.now() - startMs;
  try {
    const packets: number[] = [];
    for (let i = 0; i < announcesCount; i++) packets.push(await packetsOfAnnounce(dht));
    return [
      row('DHT node: start of the child process, until it listens', `${readyMs.toFixed(0)} ms`),
      row('DHT node: memory of the child process, resident', await residentMemory(dht.pid ?? 0)),
      row(
        `DHT announce among ${nodesCount} nodes: answered questions, median of ${announcesCount} (least to most)`,
        `${median(packets)} (${Math.min(...packets)} to ${Math.max(...packets)})`,
      ),
    ];
  } finally {
    await dht.close();
    for (const node of nodes) node.destroy();
  }
}

function row(what: string, ours: string): Row {
  return { what, ours, theirs: '' };
}

async function openNetwork(): Promise<Client[]> {
  const nodes: Client[] = [];
  for (let i = 0; i < nodesCount; i++) {
    const entry = nodes[0]?.address();
    const guard = new DhtGuard({ limits: dhtLimits, clock: () => performance.now(), random: randomBytes });
    const node = new Client({
      nodeId: randomBytes(20).toString('hex'),
      bootstrap: entry === undefined ? false : [{ host: entry.address, port: entry.port }],
      socket: new DhtSocket(guard),
      ...{ maxTables: 100, maxPeers: 100, maxValues: 1, maxAge: 60_000 },
    });
    node.on('warning', () => {});
    const ready = once(node, 'ready');
    node.listen(0, `127.1.${Math.floor(i / 200)}.${(i % 200) + 1}`);
    await once(node, 'listening');
    await ready;
    nodes.push(node);
  }
  return nodes;
}

/** Answers to one announce; those to the first one include finding the network. */
async function packetsOfAnnounce(dht: Dht): Promise<number> {
  const before = dht.status();
  dht.noteDemand(parseInfoHash(randomBytes(20).toString('hex')));
  while (dht.status().announces === before.announces) {
    if (dht.status().announceFailures > 0) throw new Error('an announce failed');
    await delay(5);
  }
  // Until the child has said what it counted.
  await delay(100);
  const after = dht.status();
  return after.receivedPackets - before.receivedPackets;
}

async function residentMemory(pid: number): Promise<string> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return `${Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024)} MiB`;
}
