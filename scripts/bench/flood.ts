/** What handshakes for unknown torrents do to peers that want known ones. Each side is a process of its own, and so is the seeder. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KnownPeersResult, KnownPeersTask } from './known-peers.ts';
import type { MadeSeederProcess } from './made-seeder-process.ts';
import type { Row } from './table.ts';

/** Runs the flood. */
export const python = '/usr/bin/python3';

export interface FloodOptions {
  /** Of whole NAR files, which the known peers ask for. */
  numbers: readonly number[];
  /** Where the flood comes from, in turn. */
  addresses: number;
  perSecond: number;
  /** For each of the two ways in which known peers come, with the flood and without. */
  seconds: number;
}

/** As many as two cores can serve, and as many as a busy seeder sees. */
const atOnce = 4;
const knownPerSecond = 200;
/** Before anything is measured: for the flood to begin, and for the peers' code to be compiled. */
const warmUpSeconds = 1;
/** Third byte of the known peers' addresses: the flood comes from 127.0.7.1 and those after it. */
let network = 100;

/** What the script prints. */
interface FloodFigures {
  answered: number;
  failed: number;
  perSecond: number;
  cpuShare: number;
}

export async function floodRows(seeder: MadeSeederProcess, options: FloodOptions): Promise<Row[]> {
  const { addresses, perSecond, seconds } = options;
  const peers = new KnownPeers(seeder.port, options.numbers);
  try {
    await peers.run({ seconds: warmUpSeconds, pace: { atOnce } });
    const quiet = await peers.both(seconds);
    const before = (await seeder.status()).swarm;
    const cpuBefore = seeder.cpuSeconds();
    const floodSeconds = 2 * seconds + 2 * warmUpSeconds;
    const flood = startFlood(seeder.port, { perSecond, addresses, seconds: floodSeconds });
    await sleep(warmUpSeconds * 1000);
    const flooded = await peers.both(seconds);
    const figures = await flood;
    const cpu = seeder.cpuSeconds() - cpuBefore;
    if (figures.answered > 0) throw new Error(`${figures.answered} unknown handshakes were answered`);
    const after = (await seeder.status()).swarm;
    const from = addresses === 1 ? 'one address' : `${addresses} addresses`;
    const share = (value: number): string => `${(value * 100).toFixed(0)} %`;
    const cores = `of a core: seeder ${share(cpu / floodSeconds)}, flood ${share(figures.cpuShare)}, peers ${share(flooded.most.cpuShare)} (${share(quiet.most.cpuShare)} without)`;
    const known = (after.handshakes - before.handshakes) / floodSeconds;
    const failed = figures.failed === 0 ? '' : `, ${figures.failed} of the flood did not connect`;
    const notLetIn = flooded.most.failed + flooded.paced.failed;
    return [
      {
        what: `known handshakes/s, ${atOnce} at a time, during ${figures.perSecond.toFixed(0)} unknown ones/s from ${from}, and without`,
        ours: flooded.most.perSecond.toFixed(0),
        theirs: quiet.most.perSecond.toFixed(0),
        ratio: flooded.most.perSecond / quiet.most.perSecond,
        reach: 0.5,
        note: `${after.unknownInfoHashes - before.unknownInfoHashes} refused, ${after.refusedConnections - before.refusedConnections} not let in${failed}; ${cores}; ${known.toFixed(0)} known/s on the average`,
      },
      {
        what: `connect to first block, ${knownPerSecond} known peers a second meanwhile, p50`,
        ours: `${flooded.paced.p50Ms.toFixed(2)} ms`,
        theirs: `${quiet.paced.p50Ms.toFixed(2)} ms`,
        ratio: quiet.paced.p50Ms / flooded.paced.p50Ms,
        reach: 0.5,
        note: `p99 ${flooded.paced.p99Ms.toFixed(2)} and ${quiet.paced.p99Ms.toFixed(2)} ms; ${notLetIn} known peers not let in`,
      },
    ];
  } finally {
    await peers.close();
  }
}

async function startFlood(
  port: number,
  { perSecond, seconds, addresses }: { perSecond: number; seconds: number; addresses: number },
): Promise<FloodFigures> {
  const script = new URL('unknown-flood.py', import.meta.url).pathname;
  const args = [script, port, perSecond, seconds, '127.0.7.1', addresses].map(String);
  const child = spawn(python, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(createInterface(child.stdout), 'line');
  return JSON.parse(String(line)) as FloodFigures;
}

class KnownPeers {
  readonly #child;
  readonly #answers;

  constructor(port: number, numbers: readonly number[]) {
    const script = new URL('known-peers.ts', import.meta.url).pathname;
    const args = [script, port, `127.0.${network++}`, ...numbers].map(String);
    this.#child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#answers = createInterface(this.#child.stdout);
  }

  async both(seconds: number): Promise<{ most: KnownPeersResult; paced: KnownPeersResult }> {
    const most = await this.run({ seconds, pace: { atOnce } });
    const paced = await this.run({ seconds, pace: { everyMs: 1000 / knownPerSecond } });
    return { most, paced };
  }

  async run(task: KnownPeersTask): Promise<KnownPeersResult> {
    const answer = once(this.#answers, 'line');
    this.#child.stdin.write(`${JSON.stringify(task)}\n`);
    const [line] = await answer;
    return JSON.parse(String(line)) as KnownPeersResult;
  }

  async close(): Promise<void> {
    const exited = once(this.#child, 'exit');
    this.#child.stdin.end();
    await exited;
  }
}
