/**
 * What leaves a seeder when many clients that share fetch one NAR file at the same time, and how long the last one takes.
 *
 * Real programs: a seeder and the clients, each client behind a link of its own (a network namespace on a bridge), which the kernel keeps
 * to a rate in both directions. On its own: node scripts/bench/swarm.ts [--mib 256] [--clients 20] [--rate 4]
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { printTable, type Row } from './table.ts';

export interface SwarmOptions {
  dir: string;
  mib: number;
  clients: number;
  /** Of each client's link, up and down, in MiB/s: low enough that two cores carry all of them. */
  mibPerSecond: number;
}

export interface SwarmResult {
  /** Bytes that left the seeder, over the size. */
  copies: number;
  /** For each client. */
  seconds: number[];
  /** Of all clients together, over the size. */
  exchangedCopies: number;
  cpuSeconds: number;
}

const lab = join(import.meta.dirname, 'swarm-lab.ts');

/** At most this many copies may leave, and the last client may take so many times what one copy takes over its link. */
const copiesMax = 1.5;
const timeMax = 2.5;

export async function swarm(options: Partial<SwarmOptions> & { dir: string }): Promise<Row[]> {
  const all: SwarmOptions = { mib: 256, clients: 20, mibPerSecond: 4, ...options };
  const what = `${all.clients} clients, one NAR file of ${all.mib} MiB, links of ${all.mibPerSecond} MiB/s`;
  const missing = namespacesMissing();
  if (missing !== undefined) return [{ what, ours: '', theirs: '', note: `skipped: ${missing}` }];
  const { copies, seconds, exchangedCopies, cpuSeconds } = await measureSwarm(all);
  const oneSeconds = all.mib / all.mibPerSecond;
  const last = Math.max(...seconds);
  const median = seconds.toSorted((a, b) => a - b)[Math.floor(seconds.length / 2)] ?? Number.NaN;
  const missed = (value: number, most: number): string => (value > most ? 'missed' : '');
  return [
    {
      what: `copies that leave the seeder: ${what}`,
      ours: copies.toFixed(2),
      theirs: `${all.clients} over HTTP`,
      note: `at most ${copiesMax} ${missed(copies, copiesMax)}`,
    },
    {
      what: 'the last of them, to one copy over its link',
      ours: `${last.toFixed(1)} s`,
      theirs: `${oneSeconds.toFixed(1)} s`,
      note: `${(last / oneSeconds).toFixed(2)}×, at most ${timeMax}× ${missed(last / oneSeconds, timeMax)}`,
    },
    {
      what: 'the clients gave each other',
      ours: `${exchangedCopies.toFixed(2)} copies`,
      theirs: '',
      note: `median ${median.toFixed(1)} s, ${cpuSeconds.toFixed(0)} CPU seconds in all`,
    },
  ];
}

function namespacesMissing(): string | undefined {
  const setUp =
    'ip link add br0 type bridge && tc qdisc add dev br0 root tbf rate 1mbit burst 64kb latency 50ms';
  return spawnSync('unshare', ['-rn', 'sh', '-c', setUp]).status === 0
    ? undefined
    : 'there are no network namespaces, or no rates for them, here';
}

/** Runs the laboratory in a network namespace, where nothing leads outside. */
async function measureSwarm({ dir, mib, clients, mibPerSecond }: SwarmOptions): Promise<SwarmResult> {
  const args = [dir, `${mib}`, `${clients}`, `${mibPerSecond}`];
  const child = spawn('unshare', ['-rn', process.execPath, lab, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`the laboratory ended with ${code}`);
  const result: SwarmResult = JSON.parse(output);
  return result;
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      mib: { type: 'string', default: '256' },
      clients: { type: 'string', default: '20' },
      rate: { type: 'string', default: '4' },
    },
  });
  const dir = await mkdtemp(join('/dev/shm', 'narswarm-bench-')).catch(() =>
    mkdtemp(join(tmpdir(), 'narswarm-bench-')),
  );
  try {
    const numbers = {
      mib: Number(values.mib),
      clients: Number(values.clients),
      mibPerSecond: Number(values.rate),
    };
    console.log(printTable(await swarm({ dir, ...numbers })));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
