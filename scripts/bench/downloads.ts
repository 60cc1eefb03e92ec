/** Downloads, ours and other programs', side by side: seed and downloader in two processes on loopback, files in memory. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { narFileName } from '../../nar/compression.ts';
import { sha256FromDigest } from '../../nar/hash.ts';
import { TorrentHasher } from '../../swarm/torrent/torrent.ts';
import { torrentFile } from '../../swarm/torrent/torrent-file.ts';
import { type ContenderName, contenders, type Measured, measure } from './contenders.ts';
import type { SectionOptions } from './sections.ts';
import type { Row } from './table.ts';

const mebibyte = 1024 * 1024;
const largeMebibytes = 1024;
const largeBytes = largeMebibytes * mebibyte;
const smallBytes = 33 * 1024;
const smallFiles = 300;
const smallJobs = 16;

/** One large file from one peer to one peer, and what it costs either side. */
export async function large({ dir, runs }: SectionOptions): Promise<Row[]> {
  const into = join(dir, 'large');
  await mkdir(into);
  await makeFile(into, largeBytes);
  const names: ContenderName[] = [
    'own',
    'libtorrent',
    'libtorrentFromOurs',
    'webtorrent',
    'nginx',
    'ownUnwritten',
    'nginxUnwritten',
  ];
  const results = await measureAll(names, into, 1, runs);
  await rm(into, { recursive: true });
  const title = `${largeMebibytes} MiB, one to one`;
  const show = (seconds: number): string => `${(largeBytes / seconds / 1e6).toFixed(0)} MB/s`;
  const perGib = (cpuSeconds: number): string => `${(cpuSeconds / (largeBytes / 2 ** 30)).toFixed(2)}`;
  const cpu = names.flatMap((name): Row[] => {
    const result = results.get(name);
    if (result === undefined || typeof result === 'string' || name.startsWith('nginx')) return [];
    const text = `${perGib(result.seedCpuSeconds)} seed, ${perGib(result.downloaderCpuSeconds)} downloader`;
    const own = name.startsWith('own');
    const note = own && !contenders[name].writes ? 'not written' : '';
    const what = `CPU seconds per GiB${own ? '' : `: ${contenders[name].name}`}`;
    return [{ what, ours: own ? text : '', theirs: own ? '' : text, note }];
  });
  return [
    ...compare(title, results, show, [
      { ours: 'own', other: 'libtorrent', reach: 1.5 },
      { ours: 'own', other: 'webtorrent', reach: 2 },
      { ours: 'own', other: 'nginx', reach: 0.8 },
      { ours: 'libtorrentFromOurs', other: 'libtorrent', reach: 1 },
      { ours: 'ownUnwritten', other: 'nginxUnwritten' },
    ]),
    ...cpu,
  ];
}

/** Many small files, each a torrent. */
export async function small({ dir, runs }: SectionOptions): Promise<Row[]> {
  const into = join(dir, 'small');
  await mkdir(into);
  for (let made = 0; made < smallFiles; made++) await makeFile(into, smallBytes);
  const results = await measureAll(['own', 'webtorrentFromOurs', 'nginx'], into, smallJobs, runs);
  await rm(into, { recursive: true });
  const title = `${smallFiles} files of 33 KiB, ${smallJobs} at a time`;
  return compare(title, results, (seconds) => `${seconds.toFixed(2)} s`, [
    { ours: 'own', other: 'webtorrentFromOurs' },
    { ours: 'own', other: 'nginx' },
  ]);
}

/** A file of random bytes and its torrent, in `into`. */
async function makeFile(into: string, lengthBytes: number): Promise<void> {
  const hasher = new TorrentHasher(lengthBytes);
  const digest = createHash('sha256');
  const content = randomBytes(Math.min(lengthBytes, mebibyte));
  const name = narFileName(sha256FromDigest(digest.update(content).digest()), 'none');
  const file = await open(join(into, name), 'w');
  for (let at = 0; at < lengthBytes; at += content.length) {
    // No two pieces alike.
    content.writeUInt32LE(at / content.length, 0);
    const chunk = content.subarray(0, lengthBytes - at);
    hasher.write(chunk);
    await file.write(chunk);
  }
  await file.close();
  await writeFile(join(into, `${name}.torrent`), torrentFile(hasher.finish(name)));
}

async function measureAll(
  names: readonly ContenderName[],
  into: string,
  jobs: number,
  runs: number,
): Promise<Map<ContenderName, Measured | string>> {
  const results = new Map<ContenderName, Measured | string>();
  for (const name of names) {
    const contender = contenders[name];
    if (contender.missing !== false) {
      results.set(name, contender.missing);
      continue;
    }
    process.stderr.write(`${contender.name} … `);
    const result = await measure(contender, into, jobs, runs).catch((error: Error) => error.message);
    process.stderr.write(`${typeof result === 'string' ? result : `${result.seconds.toFixed(2)} s`}\n`);
    results.set(name, result);
  }
  return results;
}

interface Comparison {
  ours: ContenderName;
  other: ContenderName;
  reach?: number;
}

function compare(
  title: string,
  results: Map<ContenderName, Measured | string>,
  show: (seconds: number) => string,
  comparisons: readonly Comparison[],
): Row[] {
  return comparisons.map(({ ours, other, reach }): Row => {
    const own = results.get(ours) ?? 'not measured';
    const others = results.get(other) ?? 'not measured';
    const { name } = contenders[other];
    if (typeof own === 'string') return { what: title, ours: '', theirs: '', note: own };
    const what = `${title}: ${ours === 'own' ? '' : `${contenders[ours].name} beside `}${name}`;
    if (typeof others === 'string')
      return { what, ours: show(own.seconds), theirs: '', note: `skipped: ${others}` };
    const ratio = others.seconds / own.seconds;
    return {
      what,
      ours: show(own.seconds),
      theirs: show(others.seconds),
      ratio,
      ...(reach === undefined ? {} : { reach }),
    };
  });
}
