/** Reading a directory of NAR files into the catalog, beside what merely decompresses and hashes them. */
import { spawnSync } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { printPublicKey, publicKeyOf, secretKeyFromSeed } from '../../nar/signature.ts';
import {
  type BenchCache,
  compressCache,
  copies,
  makePlainNars,
  makeSmallCache,
  planSizes,
  shell,
} from './ingest-cache.ts';
import { freePort, probePeer } from './ingest-probe.ts';
import { type IngestRun, runSeeder } from './ingest-seeder.ts';
import type { SectionOptions } from './sections.ts';
import { median, percentile, type Row } from './table.ts';

const mebibyte = 1024 * 1024;
const totalBytes = 1024 * mebibyte;
const largeBytes = 16 * mebibyte;
const smallFiles = 100_000;
const smallBytes = 20_000;
const smallReach = 1_000;
const reach = 0.8;
const secretKey = secretKeyFromSeed('bench-1', Buffer.alloc(32, 1));
const trustedKey = printPublicKey(publicKeyOf(secretKey));

const programs = { xz: 'xz -dc', zstd: 'zstd -dcq' } as const;

/** A gibibyte of NARs of real files, as xz and as zstd: of all sizes, and of large ones only. */
export async function compressed({ dir, runs }: SectionOptions): Promise<Row[]> {
  const rows: Row[] = [];
  const mixes = [
    { name: 'all sizes', sizes: planSizes(totalBytes / copies) },
    { name: '16 MiB each', sizes: planSizes(totalBytes / copies, largeBytes) },
  ];
  for (const { name, sizes } of mixes) {
    const plainDir = join(dir, 'plain');
    await makePlainNars(plainDir, sizes);
    for (const compression of ['xz', 'zstd'] as const) {
      if (spawnSync(compression, ['--version']).status !== 0) {
        rows.push({
          what: `ingest, ${compression}, ${name}`,
          ours: '',
          theirs: '',
          note: 'skipped: not installed',
        });
        continue;
      }
      const cache = await compressCache(plainDir, join(dir, 'cache'), compression, secretKey);
      rows.push(await compare(dir, cache, compression, name, runs));
      await rm(cache.dir, { recursive: true });
    }
    await rm(plainDir, { recursive: true });
  }
  return rows;
}

/** 100,000 NAR files of 20 KB, Compression none; then once more, when nothing is new. */
export async function small({ dir }: SectionOptions): Promise<Row[]> {
  const cache = await makeSmallCache(join(dir, 'small'), smallFiles, smallBytes, secretKey);
  const dataDir = join(dir, 'data');
  await mkdir(dataDir);
  const args = { dataDir, sourceDir: cache.dir, trustedKey };
  const port = await freePort();
  const probe = probePeer(cache.lastNar, port);
  const first = await runSeeder(args, port).finally(() => probe.stop());
  const waits = await probe.waitsMs;
  const second = await runSeeder(args);
  await rm(dataDir, { recursive: true });
  await rm(cache.dir, { recursive: true });
  const perSecond = smallFiles / first.seconds;
  return [
    {
      what: `ingest, ${smallFiles} NARs of 20 KB, none`,
      ours: `${perSecond.toFixed(0)}/s`,
      theirs: `${smallReach}/s wanted`,
      ratio: perSecond / smallReach,
      reach: 1,
      note: `${notes(first)}; with packs and log ${first.wholeSeconds.toFixed(0)} s`,
    },
    {
      what: 'a peer meanwhile, connection to whole file',
      ours: `p50 ${percentile(waits, 0.5).toFixed(0)} ms, p99 ${percentile(waits, 0.99).toFixed(0)} ms`,
      theirs: '',
      note: `${waits.length} times`,
    },
    {
      what: 'the same again, nothing new',
      ours: `${second.seconds.toFixed(1)} s`,
      theirs: '',
      note: notes(second),
    },
  ];
}

async function compare(
  dir: string,
  cache: BenchCache,
  compression: 'xz' | 'zstd',
  name: string,
  runs: number,
): Promise<Row> {
  const own: IngestRun[] = [];
  const others: number[] = [];
  const script =
    `cd '${cache.dir}/nar' && ls | xargs -P ${availableParallelism()} -n 1 ` +
    `sh -c '${programs[compression]} "$0" | sha256sum'`;
  for (let run = 0; run < runs; run++) {
    const startedMs = performance.now();
    await shell(script);
    others.push((performance.now() - startedMs) / 1000);
    const dataDir = join(dir, 'data');
    await mkdir(dataDir);
    own.push(await runSeeder({ dataDir, sourceDir: cache.dir, trustedKey }));
    await rm(dataDir, { recursive: true });
  }
  const ours = median(own.map(({ seconds }) => seconds));
  const theirs = median(others);
  const speed = (seconds: number): string => `${(cache.narBytes / seconds / 1e6).toFixed(0)} MB/s`;
  const last = own.at(-1);
  return {
    what: `ingest, ${cache.narFiles} ${compression} files, ${name}: ${programs[compression]} | sha256sum`,
    ours: speed(ours),
    theirs: speed(theirs),
    ratio: theirs / ours,
    ...(compression === 'xz' ? { reach } : {}),
    ...(last === undefined ? {} : { note: notes(last) }),
  };
}

function notes({ peakMemoryBytes, loopDelayMaxMs, loopDelayP99Ms }: IngestRun): string {
  const mib = (peakMemoryBytes / mebibyte).toFixed(0);
  return `peak ${mib} MiB; loop p99 ${loopDelayP99Ms.toFixed(0)} ms, max ${loopDelayMaxMs.toFixed(0)} ms`;
}
