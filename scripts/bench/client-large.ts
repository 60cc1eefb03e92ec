/**
 * One large NAR through the client from one peer, beside nginx to the same reader: speed, first byte, memory, CPU. Real processes: a seeder,
 * a client for each run, nginx, a reader; also with a delay on the way to the seeder and to nginx.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { printPublicKey } from '../../nar/signature.ts';
import { storeHashOf } from '../../nar/store-path.ts';
import { type Built, CacheBuilder } from '../../tests/helpers/cache-builder.ts';
import { nginxMissing, startNginx } from '../../tests/helpers/nginx.ts';
import { type Program, startProgram, untilIngested } from '../../tests/helpers/program.ts';
import { narOfSize } from '../../tests/helpers/sized-nar.ts';
import { PeerProcess } from './peer-process.ts';
import { cpuSecondsOf, forgetPeak, memoryOf } from './process-cost.ts';
import type { SectionOptions } from './sections.ts';
import { median, type Row } from './table.ts';

const mebibyte = 1024 * 1024;
const largeBytes = 1024 * mebibyte;
/** What a daemon has fetched before, so that what loads when it is first used is not measured. */
const otherBytes = 2 * mebibyte;
const farRoundTripMs = 50;

/** What is to be reached: the share of nginx's speed, later first bytes in milliseconds, and bytes above an idle client. */
const speedReach = 0.6;
const laterMaxMs = 100;
const memoryMaxBytes = 150 * mebibyte;

const file = (name: string): string => join(import.meta.dirname, name);

interface Run {
  seconds: number;
  firstByteSeconds: number;
}

interface ClientRun extends Run {
  cpuSeconds: number;
  seederCpuSeconds: number;
  aboveIdleBytes: number;
}

/** Where things are reached: directly, or over a path that takes time. */
interface Place {
  name: string;
  catalog: string;
  nginx: { host: string; port: number };
  seeder: Program;
}

interface Lab {
  into: string;
  reader: PeerProcess;
  cache: CacheBuilder;
  large: Names;
  other: Names;
  /** Ends what was started, the last first. */
  closers: (() => Promise<unknown>)[];
}

/** How a NAR is asked for. */
interface Names {
  storeHash: string;
  url: string;
}

export async function clientLarge({ dir, runs }: SectionOptions): Promise<Row[]> {
  const missing = nginxMissing();
  if (missing !== false) return [{ what: 'client', ours: '', theirs: '', note: `skipped: ${missing}` }];
  const into = join(dir, 'client-large');
  await mkdir(into);
  const closers: Lab['closers'] = [];
  try {
    const cache = await new CacheBuilder(join(into, 'cache')).open();
    const large = namesOf(await cache.add({ name: 'large', ...narOfSize(largeBytes) }));
    const other = namesOf(await cache.add({ name: 'other', ...narOfSize(otherBytes) }));
    const { process: reader } = await PeerProcess.start([process.execPath, file('http-reader.ts')]);
    closers.push(() => reader.end());
    const lab = { into, reader, cache, large, other, closers };
    const nginx = await startNginx(cache.directory);
    closers.push(() => nginx.stop());
    const rows: Row[] = [];
    for (const place of [await here(lab, nginx.port), await farAway(lab, nginx.port)]) {
      for (const into of [join(lab.into, 'read'), undefined]) {
        const nginxRuns: Run[] = [];
        const clientRuns: ClientRun[] = [];
        for (let run = 0; run < runs; run++) {
          const { host, port } = place.nginx;
          nginxRuns.push(await ask(reader, { host, port, into }, large));
          clientRuns.push(await throughClient(lab, place, into));
        }
        rows.push(...rowsOf(place.name, into !== undefined, nginxRuns, clientRuns));
      }
    }
    return rows;
  } finally {
    for (const close of closers.reverse()) await close();
    await rm(into, { recursive: true, force: true });
  }
}

async function here(lab: Lab, nginxPort: number): Promise<Place> {
  const seeder = await startSeeder(lab, 'seeder', '127.0.0.1');
  return { name: '', catalog: seeder.url, seeder, nginx: { host: '127.0.0.1', port: nginxPort } };
}

/** Another address of loopback is the far end of each path, so that the seeder can name it to its clients. */
async function farAway(lab: Lab, nginxPort: number): Promise<Place> {
  const host = '127.0.0.2';
  const seeder = await startSeeder(lab, 'far-seeder', host);
  const path = async (target: number, port = 0): Promise<number> => {
    const command = [process.execPath, file('slow-path-process.ts'), `${target}`, host, `${port}`];
    const slow = await PeerProcess.start([...command, `${farRoundTripMs / 2}`]);
    lab.closers.push(() => slow.process.end());
    return slow.port;
  };
  const peers = Number(seeder.peers?.split(':').at(-1));
  await path(peers, peers);
  const catalog = `http://${host}:${await path(Number(new URL(seeder.url).port))}`;
  return {
    name: `, ${farRoundTripMs} ms away`,
    catalog,
    seeder,
    nginx: { host, port: await path(nginxPort) },
  };
}

async function startSeeder(
  { into, cache, closers }: Lab,
  name: string,
  publicHost: string,
): Promise<Program> {
  const seeder = await startProgram([
    'seeder',
    ...['--data', join(into, name), '--source', cache.url, '--public-host', publicHost],
    ...['--trusted-key', printPublicKey(cache.publicKey), '--initial-copies', '1000'],
    ...['--http', '127.0.0.1:0', '--peers', '127.0.0.1:0'],
  ]);
  closers.push(() => seeder.stop());
  await untilIngested(seeder, 2);
  return seeder;
}

/** A new client, which has fetched something small before. */
async function throughClient(
  { into, cache, reader, large, other }: Lab,
  place: Place,
  readInto: string | undefined,
): Promise<ClientRun> {
  const { catalog: about } = (await place.seeder.status()) as { catalog: { publicKey: string } };
  const data = join(into, 'client');
  const client = await startProgram([
    'client',
    ...['--data', data, '--no-upstream', '--http', '127.0.0.1:0'],
    ...['--catalog', place.catalog, '--catalog-key', about.publicKey],
    ...['--trusted-key', printPublicKey(cache.publicKey)],
  ]);
  try {
    const { hostname, port } = new URL(client.url);
    for (const { storeHash } of [other, large]) {
      const narInfo = await fetch(`${client.url}/${storeHash}.narinfo`);
      if (!narInfo.ok) throw new Error(`a narinfo through the client: ${narInfo.status}`);
    }
    const from = { host: hostname, port: Number(port), into: readInto };
    await ask(reader, from, other);
    const { pid } = client.process;
    forgetPeak(pid);
    const idleBytes = memoryOf(pid).residentBytes;
    const before = { own: cpuSecondsOf(pid), seeder: cpuSecondsOf(place.seeder.process.pid) };
    const run = await ask(reader, from, large);
    return {
      ...run,
      cpuSeconds: cpuSecondsOf(pid) - before.own,
      seederCpuSeconds: cpuSecondsOf(place.seeder.process.pid) - before.seeder,
      aboveIdleBytes: memoryOf(pid).peakBytes - idleBytes,
    };
  } finally {
    await client.stop();
    await rm(data, { recursive: true });
  }
}

/** Where a NAR is read from, and into which file; thrown away without one. */
interface Reading {
  host: string;
  port: number;
  into: string | undefined;
}

async function ask(reader: PeerProcess, { host, port, into }: Reading, { url }: Names): Promise<Run> {
  const line = `${host} ${port} /${url}${into === undefined ? '' : ` ${into}`}`;
  const result = await reader.ask<Run & { error?: string }>(line);
  if (result.error !== undefined) throw new Error(`the reader: ${result.error}`);
  return result;
}

function rowsOf(
  where: string,
  written: boolean,
  nginxRuns: readonly Run[],
  clientRuns: readonly ClientRun[],
): Row[] {
  const of = (key: keyof ClientRun): number => median(clientRuns.map((run) => run[key]));
  const nginx = (key: keyof Run): number => median(nginxRuns.map((run) => run[key]));
  const speed = (seconds: number): string => `${(largeBytes / seconds / 1e6).toFixed(0)} MB/s`;
  const ms = (seconds: number): string => `${(seconds * 1_000).toFixed(1)} ms`;
  const perGib = (seconds: number): string => (seconds / (largeBytes / 2 ** 30)).toFixed(2);
  const laterMs = (of('firstByteSeconds') - nginx('firstByteSeconds')) * 1_000;
  const above = of('aboveIdleBytes');
  const what = `${largeBytes / mebibyte} MiB through the client${where}`;
  const bulk: Row = {
    what: `${what}: nginx, to a reader that ${written ? 'hashes and writes it' : 'throws it away'}`,
    ours: speed(of('seconds')),
    theirs: speed(nginx('seconds')),
    ratio: nginx('seconds') / of('seconds'),
  };
  // The kernel gives nginx's bytes without touching them; only who uses them pays for them.
  if (!written) return [{ ...bulk, note: 'for orientation' }];
  return [
    { ...bulk, reach: speedReach },
    {
      what: `${what}: first byte`,
      ours: ms(of('firstByteSeconds')),
      theirs: ms(nginx('firstByteSeconds')),
      goal: { text: `≤ ${laterMaxMs} ms later`, met: laterMs <= laterMaxMs },
    },
    {
      what: `${what}: memory above idle`,
      ours: `${(above / mebibyte).toFixed(0)} MiB`,
      theirs: '',
      goal: { text: `≤ ${memoryMaxBytes / mebibyte} MiB`, met: above <= memoryMaxBytes },
    },
    {
      what: `${what}: CPU seconds per GiB`,
      ours: `${perGib(of('cpuSeconds'))} client, ${perGib(of('seederCpuSeconds'))} seeder`,
      theirs: '',
    },
  ];
}

function namesOf({ narInfo }: Built): Names {
  return { storeHash: storeHashOf(narInfo.storePath), url: narInfo.url };
}
