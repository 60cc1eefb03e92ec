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
import { median, printTable, type Row } from './table.ts';

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
  clients: SwarmClientResult[];
  /** Of all clients together, over the size. */
  exchangedCopies: number;
  /** Of all clients. */
  cpuSeconds: number;
  /** Of the processors' time, what anybody used meanwhile. */
  machineShare: number;
  cores: number;
}

export interface SwarmClientResult {
  /** Else the time was up. */
  whole: boolean;
  seconds: number;
  receivedBytes: number;
  uploadedBytes: number;
  cpuSeconds: number;
}

const lab = join(import.meta.dirname, 'swarm-lab.ts');

/** At most this many copies may leave, and the last client may take so many times what one copy takes over its link. */
const copiesMax = 1.5;
const timeMax = 2.5;
/** After so many times what one copy takes, it is said how far they came. */
const deadlineTimes = 5;
/** From here on the processors, which all clients share, decide how fast a swarm is that would have one for each. */
const machineFull = 0.9;

export async function swarm(options: Partial<SwarmOptions> & { dir: string }): Promise<Row[]> {
  const all: SwarmOptions = { mib: 256, clients: 20, mibPerSecond: 4, ...options };
  const what = `${all.clients} clients, one NAR file of ${all.mib} MiB, links of ${all.mibPerSecond} MiB/s`;
  const missing = namespacesMissing();
  if (missing !== undefined) return [{ what, ours: '', theirs: '', note: `skipped: ${missing}` }];
  const oneSeconds = all.mib / all.mibPerSecond;
  return swarmRows(all, what, oneSeconds, await measureSwarm(all, deadlineTimes * oneSeconds));
}

function swarmRows(
  { clients: count, mib }: SwarmOptions,
  what: string,
  oneSeconds: number,
  { copies, clients, exchangedCopies, cpuSeconds, machineShare, cores }: SwarmResult,
): Row[] {
  const last = Math.max(...clients.map(({ seconds }) => seconds));
  const late = clients.filter(({ whole }) => !whole);
  const lateMib = median(late.map(({ receivedBytes }) => receivedBytes / 2 ** 20));
  const full = machineShare >= machineFull;
  return [
    {
      what: `copies that leave the seeder: ${what}`,
      ours: copies.toFixed(2),
      theirs: `${count} over HTTP`,
      goal: { text: `≤ ${copiesMax}`, met: copies <= copiesMax },
    },
    {
      what: 'the last of them, to one copy over its link',
      ours:
        late.length === 0
          ? `${last.toFixed(1)} s`
          : `${count - late.length} of ${count} in ${last.toFixed(0)} s`,
      theirs: `${oneSeconds.toFixed(1)} s`,
      goal: { text: `≤ ${timeMax}×`, met: late.length === 0 && last / oneSeconds <= timeMax },
      note:
        late.length === 0
          ? `${(last / oneSeconds).toFixed(2)}×`
          : `the others had ${lateMib.toFixed(0)} of ${mib} MiB (median)`,
    },
    {
      what: 'the clients gave each other',
      ours: `${exchangedCopies.toFixed(2)} copies`,
      theirs: '',
      note: `median ${median(clients.map(({ seconds }) => seconds)).toFixed(1)} s`,
    },
    {
      what: 'CPU of the machine meanwhile',
      ours: `${(machineShare * 100).toFixed(0)} % of ${cores} cores`,
      theirs: '',
      note: `${cpuSeconds.toFixed(0)} CPU seconds of all clients${full ? '; the machine was the limit, not the swarm' : ''}`,
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
async function measureSwarm(
  { dir, mib, clients, mibPerSecond }: SwarmOptions,
  seconds: number,
): Promise<SwarmResult> {
  const args = [dir, mib, clients, mibPerSecond, seconds].map(String);
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
