/** Trackers beside each other: announces a second, and what one of them costs the server. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { IpAddress } from '../../swarm/address/ip-address.ts';
import { Tracker } from '../../swarm/tracker/tracker.ts';
import { row } from '../../tests/catalog/made-rows.ts';
import { freePort } from '../../tests/helpers/bittorrent/child.ts';
import { median, type Row } from './table.ts';
import { type Load, loadHttp, loadUdp } from './tracker-load.ts';

const torrents = 1_000;
const peers = 50;
const endTimeoutMs = 5_000;
const ticksPerSecond = 100;
const infoHashes = Array.from({ length: torrents }, (_, number) => row(number).entry.infoHash);

interface TrackerServer {
  http: number;
  udp: number;
  process: ChildProcess;
}

interface Rate {
  perSecond: number;
  /** CPU of the server for one announce. */
  microseconds: number;
}

type Name = 'own' | 'bittorrent-tracker' | 'opentracker';
type Way = 'UDP' | 'HTTP, connections kept' | 'HTTP, a connection each';

const loads: Record<Way, (load: Load) => Promise<number>> = {
  UDP: loadUdp,
  'HTTP, connections kept': (load) => loadHttp(load, true),
  'HTTP, a connection each': (load) => loadHttp(load, false),
};

export async function trackerRows({ dir, runs }: { dir: string; runs: number }): Promise<Row[]> {
  const hasOpentracker = spawnSync('opentracker', ['-h']).status === 0;
  const names: Name[] = ['own', 'bittorrent-tracker', ...(hasOpentracker ? (['opentracker'] as const) : [])];
  const rates = new Map<string, Rate[]>();
  // Servers take turns, so that what else the machine does falls on all of them.
  for (let run = 0; run < runs; run++) {
    for (const name of names) {
      const server = await start(name, join(dir, `tracker-${name}-${run}`));
      try {
        for (const way of Object.keys(loads) as Way[]) {
          // opentracker closes the connection after each answer.
          if (name === 'opentracker' && way === 'HTTP, connections kept') continue;
          const key = `${name} ${way}`;
          rates.set(key, [...(rates.get(key) ?? []), await measure(server, way)]);
        }
      } finally {
        await end(server);
      }
    }
  }
  const of = (name: Name, way: Way): Rate | undefined => {
    const all = rates.get(`${name} ${way}`);
    if (all === undefined) return undefined;
    return {
      perSecond: median(all.map(({ perSecond }) => perSecond)),
      microseconds: median(all.map(({ microseconds }) => microseconds)),
    };
  };
  const rows = (Object.keys(loads) as Way[]).flatMap((way) =>
    names.slice(1).flatMap((name) => rowOf(way, name, of('own', way), of(name, way))),
  );
  return [...rows, ...memoryRows()];
}

function rowOf(way: Way, name: Name, own: Rate | undefined, other: Rate | undefined): Row[] {
  if (own === undefined || other === undefined) return [];
  const ratio = own.perSecond / other.perSecond;
  return [
    {
      what: `announces/s, ${way}: ${name}`,
      ours: own.perSecond.toFixed(0),
      theirs: other.perSecond.toFixed(0),
      ratio,
      ...(name === 'bittorrent-tracker' ? { reach: 2 } : {}),
      note: `CPU ${own.microseconds.toFixed(0)} µs to ${other.microseconds.toFixed(0)} µs`,
    },
  ];
}

async function measure(server: TrackerServer, way: Way): Promise<Rate> {
  let cpuSeconds = 0;
  let wallMs = 0;
  const perSecond = await loads[way]({
    port: way === 'UDP' ? server.udp : server.http,
    infoHashes,
    peers,
    begins() {
      cpuSeconds = -cpuOf(server);
      wallMs = -performance.now();
    },
    ends() {
      cpuSeconds += cpuOf(server);
      wallMs += performance.now();
    },
  });
  return { perSecond, microseconds: (cpuSeconds * 1e6) / ((perSecond * wallMs) / 1_000) };
}

async function start(name: Name, dir: string): Promise<TrackerServer> {
  await mkdir(dir);
  if (name === 'opentracker') return startOpentracker(dir);
  const script = join(import.meta.dirname, 'tracker-server.ts');
  const child = spawn(process.execPath, [script, name, dir, `${torrents}`], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [line] = await Promise.race([
    once(createInterface(child.stdout), 'line'),
    once(child, 'exit').then(() => ['{}']),
  ]);
  return { ...(JSON.parse(String(line)) as { http: number; udp: number }), process: child };
}

async function startOpentracker(dir: string): Promise<TrackerServer> {
  const port = await freePort('127.0.0.1');
  await writeFile(join(dir, 'whitelist.txt'), `${infoHashes.join('\n')}\n`);
  // It reads its whitelist as another user, after it has made `dir` its root.
  await chmod(join(dir, '..'), 0o755);
  await chmod(dir, 0o755);
  const address = ['-i', '127.0.0.1', '-p', `${port}`, '-P', `${port}`];
  const child = spawn('opentracker', [...address, '-d', dir, '-u', 'nobody', '-w', 'whitelist.txt'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  for (;;) {
    const url = `http://127.0.0.1:${port}/announce?info_hash=${infoHashes[0]?.replace(/../g, '%$&')}&port=1`;
    const answer = await fetch(url).then(
      (response) => response.text(),
      () => '',
    );
    if (answer.includes('8:interval')) return { http: port, udp: port, process: child };
    if (child.exitCode !== null) throw new Error('opentracker ended');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function end({ process: child }: TrackerServer): Promise<void> {
  const exited = once(child, 'exit');
  if (child.stdin) child.stdin.end();
  else child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), endTimeoutMs);
  await exited;
  clearTimeout(timer);
}

function cpuOf({ process: child }: TrackerServer): number {
  const text = readFileSync(`/proc/${child.pid}/stat`, 'latin1');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

/** 500,000 peers of 200,000 torrents, each at an address of its own. */
function memoryRows(): Row[] {
  const count = 500_000;
  const tracker = new Tracker({ known: () => 'tracked', clock: () => 0 });
  const from = new IpAddress();
  const peerId = Buffer.alloc(20);
  const hashes = Array.from({ length: 200_000 }, (_, number) => row(number).entry.infoHash);
  const startMs = performance.now();
  for (let number = 0; number < count; number++) {
    from.read(`10.${number >> 16}.${(number >> 8) & 255}.${number & 255}`);
    peerId.writeUInt32BE(number);
    const infoHash = hashes[number % hashes.length];
    if (infoHash === undefined) continue;
    const query = { infoHash, peerId, port: 6881, left: 0, event: undefined, numWant: 30 };
    tracker.announce(query, { from, permanentPeers: () => [] });
  }
  const perAnnounce = ((performance.now() - startMs) * 1_000) / count;
  const { tableBytes } = tracker.status();
  return [
    {
      what: '500,000 peers of 200,000 torrents',
      ours: `${(tableBytes / 2 ** 20).toFixed(0)} MiB`,
      theirs: '',
      note: `${(tableBytes / count).toFixed(0)} B a peer; ${perAnnounce.toFixed(1)} µs an announce without the network`,
    },
  ];
}
