/** A `narswarm seeder` process whose ingest is measured: time, peak memory, and how long its event loop stood still. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));
const watch = new URL('./ingest-watch.ts', import.meta.url).href;
/** How often the peak of the process's memory is read; the kernel keeps it meanwhile. */
const memoryEveryMs = 20;

export interface IngestRun {
  /** From the start of the process until everything is in the catalog. */
  seconds: number;
  /** To its end, when packs are closed and the log is published as well. */
  wholeSeconds: number;
  /** Of the process alone, without any `xz` beside it. */
  peakMemoryBytes: number;
  /** Of the main thread, in milliseconds. */
  loopDelayMaxMs: number;
  loopDelayP99Ms: number;
}

export interface SeederArgs {
  dataDir: string;
  sourceDir: string;
  trustedKey: string;
}

/** One `seeder --once`, whose BitTorrent port is `peersPort`. */
export async function runSeeder(
  { dataDir, sourceDir, trustedKey }: SeederArgs,
  peersPort = 0,
): Promise<IngestRun> {
  const args = ['--source', `file://${sourceDir}`, '--data', dataDir, '--trusted-key', trustedKey];
  const startedMs = performance.now();
  const child = spawn(
    process.execPath,
    ['--import', watch, main, 'seeder', '--once', ...args, '--peers', `127.0.0.1:${peersPort}`],
    { stdio: ['ignore', 'ignore', 'pipe', 'pipe'] },
  );
  let errors = '';
  let doneMs: number | undefined;
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-2000);
    if (errors.includes('"ingest-done"')) doneMs ??= performance.now();
  });
  let peakMemoryBytes = 0;
  const timer = setInterval(() => {
    peakMemoryBytes = Math.max(peakMemoryBytes, peakOf(child));
  }, memoryEveryMs);
  try {
    const report = child.stdio[3];
    if (report === null || report === undefined || !('read' in report)) throw new Error('no pipe');
    const line = once(createInterface(report), 'line').then(([text]) => String(text));
    const [code] = await once(child, 'exit');
    const endedMs = performance.now();
    if (code !== 0) throw new Error(`the seeder ended with ${code}: ${errors}`);
    const delays: { maxMs: number; p99Ms: number } = JSON.parse(await line);
    const wholeSeconds = (endedMs - startedMs) / 1000;
    const seconds = ((doneMs ?? endedMs) - startedMs) / 1000;
    return {
      seconds,
      wholeSeconds,
      peakMemoryBytes,
      loopDelayMaxMs: delays.maxMs,
      loopDelayP99Ms: delays.p99Ms,
    };
  } finally {
    clearInterval(timer);
    child.kill('SIGKILL');
  }
}

function peakOf({ pid }: ChildProcess): number {
  try {
    const kibibytes = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
    return Number(kibibytes ?? 0) * 1024;
  } catch {
    return 0;
  }
}
