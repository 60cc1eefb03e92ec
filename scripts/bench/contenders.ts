/** Who is measured: pairs of a seed and a downloader, each with how to start it. */
import { spawnSync } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { nginxMissing, startNginx } from '../../tests/helpers/nginx.ts';
import { PeerProcess } from './peer-process.ts';
import { median } from './table.ts';

export interface Contender {
  name: string;
  /** Why it cannot be measured here, or false. */
  missing: string | false;
  seed: 'own' | 'libtorrent' | 'webtorrent' | 'nginx';
  downloader: 'own' | 'libtorrent' | 'webtorrent' | 'http';
  /** Whether what comes is written to a file or thrown away. */
  writes: boolean;
}

export interface Measured {
  seconds: number;
  /** CPU seconds on either side while it ran. */
  seedCpuSeconds: number;
  downloaderCpuSeconds: number;
}

const python = '/usr/bin/python3';
const file = (name: string): string => join(import.meta.dirname, name);
const commands = {
  own: [process.execPath, file('own-peer.ts')],
  http: [process.execPath, file('own-peer.ts')],
  webtorrent: [process.execPath, file('webtorrent-peer.mjs')],
  libtorrent: [python, file('libtorrent-peer.py')],
} as const;

const libtorrentMissing =
  spawnSync(python, ['-c', 'import libtorrent']).status === 0 ? false : 'python3-libtorrent is not installed';

export const contenders = {
  own: { name: 'ours', missing: false, seed: 'own', downloader: 'own', writes: true },
  ownUnwritten: { name: 'ours, not written', missing: false, seed: 'own', downloader: 'own', writes: false },
  libtorrent: {
    name: 'libtorrent',
    missing: libtorrentMissing,
    seed: 'libtorrent',
    downloader: 'libtorrent',
    writes: true,
  },
  libtorrentFromOurs: {
    name: 'libtorrent from our seed',
    missing: libtorrentMissing,
    seed: 'own',
    downloader: 'libtorrent',
    writes: true,
  },
  webtorrent: {
    name: 'webtorrent',
    missing: false,
    seed: 'webtorrent',
    downloader: 'webtorrent',
    writes: true,
  },
  webtorrentFromOurs: {
    name: 'webtorrent from our seed',
    missing: false,
    seed: 'own',
    downloader: 'webtorrent',
    writes: true,
  },
  nginx: {
    name: 'nginx to node:http',
    missing: nginxMissing(),
    seed: 'nginx',
    downloader: 'http',
    writes: true,
  },
  nginxUnwritten: {
    name: 'nginx to node:http, not written',
    missing: nginxMissing(),
    seed: 'nginx',
    downloader: 'http',
    writes: false,
  },
} as const satisfies Record<string, Contender>;

export type ContenderName = keyof typeof contenders;

/**
 * The medians of `runs` downloads of all torrents in `dir`, `jobs` at a time. One seed serves all runs, each downloader is a new process.
 */
export async function measure(
  contender: Contender,
  dir: string,
  jobs: number,
  runs: number,
): Promise<Measured> {
  const seed = await startSeed(contender, dir);
  const results: Measured[] = [];
  try {
    for (let run = 0; run < runs; run++) results.push(await download(contender, dir, jobs, seed));
  } finally {
    await seed.end();
  }
  const of = (key: keyof Measured): number => median(results.map((result) => result[key]));
  return {
    seconds: of('seconds'),
    seedCpuSeconds: of('seedCpuSeconds'),
    downloaderCpuSeconds: of('downloaderCpuSeconds'),
  };
}

interface Seed {
  port: number;
  cpuSeconds(): number;
  end(): Promise<void>;
}

async function startSeed({ seed }: Contender, dir: string): Promise<Seed> {
  if (seed === 'nginx') {
    const nginx = await startNginx(dir);
    return { port: nginx.port, cpuSeconds: () => 0, end: () => nginx.stop() };
  }
  const { process, port } = await PeerProcess.start([...commands[seed], 'seed', dir]);
  return { port, cpuSeconds: () => process.cpuSeconds(), end: () => process.end() };
}

async function download(contender: Contender, dir: string, jobs: number, seed: Seed): Promise<Measured> {
  const { downloader, writes } = contender;
  const out = join(dir, 'out');
  await mkdir(out);
  const role = downloader === 'http' ? 'http' : 'get';
  const args = [role, dir, `${seed.port}`, `${jobs}`, ...(writes ? [out] : [])];
  const { process } = await PeerProcess.start([...commands[downloader], ...args]);
  try {
    const before = { seed: seed.cpuSeconds(), own: process.cpuSeconds() };
    const seconds = await process.run();
    return {
      seconds,
      seedCpuSeconds: seed.cpuSeconds() - before.seed,
      downloaderCpuSeconds: process.cpuSeconds() - before.own,
    };
  } finally {
    await process.end();
    await rm(out, { recursive: true });
  }
}
