/**
 * Peers that each want the first block of a torrent that is held, in a process of their own, so that what else the benchmark does is not
 * counted against them:
 *
 *   known-peers.ts PORT NETWORK NUMBER…
 *
 * NETWORK is the first three bytes of their addresses, the NUMBERs are those of made NAR files. Each line on standard input is a
 * `KnownPeersTask`; the answer is a line with `KnownPeersResult`. Ends with the input.
 */
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fetchFirstBlock } from './first-block.ts';
import { MadeHasher } from './made-files.ts';
import { madeTorrent } from './made-rows.ts';
import { percentile } from './table.ts';

export interface KnownPeersTask {
  seconds: number;
  /** So many at a time, each as soon as the one before is done; or a new one every so often, whatever became of the others. */
  pace: { atOnce: number } | { everyMs: number };
}

export interface KnownPeersResult {
  perSecond: number;
  /** From connect to the last byte of the block. */
  p50Ms: number;
  p99Ms: number;
  /** Those that were not let in. */
  failed: number;
  /** Of one core. */
  cpuShare: number;
}

/**
 * The ports of one address run out: each rests for a minute after its connection, and the search for a free one takes milliseconds long before.
 */
const addresses = 250;

const [port, network = '', ...numbers] = process.argv.slice(2);
const hasher = new MadeHasher();
const torrents = numbers.map((number) => madeTorrent(Number(number), hasher));
let count = 0;

async function one(times: number[]): Promise<void> {
  const index = count++;
  const torrent = torrents[index % torrents.length];
  if (torrent === undefined) throw new Error('no torrents');
  const localAddress = `${network}.${1 + (index % addresses)}`;
  try {
    const { fromConnectMs, socket } = await fetchFirstBlock({ port: Number(port), torrent, localAddress });
    times.push(fromConnectMs);
    socket.destroy();
  } catch {
    // Counted as one that has no time.
  }
}

async function run({ seconds, pace }: KnownPeersTask): Promise<KnownPeersResult> {
  const times: number[] = [];
  const began = count;
  const cpu = process.cpuUsage();
  const startedMs = performance.now();
  const endMs = startedMs + seconds * 1000;
  if ('atOnce' in pace) {
    const work = async (): Promise<void> => {
      while (performance.now() < endMs) await one(times);
    };
    await Promise.all(Array.from({ length: pace.atOnce }, work));
  } else {
    const peers: Promise<void>[] = [];
    for (let dueMs = startedMs; dueMs < endMs; dueMs += pace.everyMs) {
      const earlyMs = dueMs - performance.now();
      if (earlyMs > 0) await sleep(earlyMs);
      peers.push(one(times));
    }
    await Promise.all(peers);
  }
  const { user, system } = process.cpuUsage(cpu);
  const tookSeconds = (performance.now() - startedMs) / 1000;
  return {
    perSecond: times.length / tookSeconds,
    p50Ms: percentile(times, 0.5),
    p99Ms: percentile(times, 0.99),
    failed: count - began - times.length,
    cpuShare: (user + system) / 1e6 / tookSeconds,
  };
}

for await (const line of createInterface({ input: process.stdin }))
  console.log(JSON.stringify(await run(JSON.parse(line) as KnownPeersTask)));
