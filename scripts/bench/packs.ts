/** A pack of 256 MiB: what closing it costs a seeder, and how fast it leaves, beside one file of the same size. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { TorrentFetch } from '../../swarm/fetch/fetcher.ts';
import { parseInfo } from '../../swarm/torrent/torrent-file.ts';
import type { PacksReport } from './packs-process.ts';
import type { SectionOptions } from './sections.ts';
import type { Row } from './table.ts';
import { median } from './table.ts';

const narFiles = 8_000;
const bytesEach = 33 * 1024;
const child = fileURLToPath(new URL('./packs-process.ts', import.meta.url));

export async function packs({ dir, runs }: SectionOptions): Promise<Row[]> {
  const rows: Row[] = [];
  const speeds: number[] = [];
  for (const [count, size] of [
    [narFiles, bytesEach],
    [(narFiles * bytesEach) / 2 ** 20, 2 ** 20],
  ] as const) {
    const home = join(dir, `packs-${size}`);
    await mkdir(home);
    const { report, speed } = await closeAndFetch(home, Math.floor(count), size, runs);
    speeds.push(speed);
    const { seconds, cpuSeconds, loopDelayMaxMs, loopDelayP99Ms, memoryBytes, openMs } = report;
    const loop = `event loop p99 ${loopDelayP99Ms.toFixed(1)} ms, at most ${loopDelayMaxMs.toFixed(0)} ms`;
    const memory = `${Math.round(memoryBytes / 2 ** 20)} MiB more`;
    rows.push({
      what: `closing a pack: ${Math.floor(count)} NAR files of ${size / 1024} KiB`,
      ours: `${seconds.toFixed(1)} s, ${cpuSeconds.toFixed(1)} s CPU`,
      theirs: '',
      note: `${loop}; ${memory}; first opening after a start ${openMs.toFixed(0)} ms`,
    });
    await rm(home, { recursive: true });
  }
  const [small = 0, large = 0] = speeds;
  rows.push({
    what: `a pack of ${narFiles} NAR files to one peer, beside one with files of 1 MiB`,
    ours: `${Math.round(small)} MB/s`,
    theirs: `${Math.round(large)} MB/s`,
    ratio: small / large,
  });
  return rows;
}

async function closeAndFetch(
  home: string,
  count: number,
  size: number,
  runs: number,
): Promise<{ report: PacksReport; speed: number }> {
  const bench = spawn(process.execPath, [child, home, `${count}`, `${size}`], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exit = once(bench, 'exit');
  try {
    const [line] = await Promise.race([
      once(createInterface(bench.stdout), 'line'),
      exit.then(() => Promise.reject(new Error('the process ended'))),
    ]);
    const report: PacksReport = JSON.parse(String(line));
    const torrent = parseInfo(Buffer.from(report.infoBytes, 'base64'));
    const speeds: number[] = [];
    for (let run = 0; run < runs; run++) {
      const startMs = performance.now();
      const fetching = new TorrentFetch({ torrent, stallMs: 5_000 });
      fetching.addPeers([{ host: '127.0.0.1', port: report.port }]);
      fetching.noMorePeers();
      let bytes = 0;
      for await (const piece of fetching) bytes += piece.bytes.length;
      speeds.push(bytes / 1e6 / ((performance.now() - startMs) / 1000));
    }
    return { report, speed: median(speeds) };
  } finally {
    bench.stdin.end('end\n');
    await exit;
  }
}
