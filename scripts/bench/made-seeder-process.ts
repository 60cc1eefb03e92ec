/** Starts made-seeder.ts and looks at it from outside. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

/** A start that takes longer is a failure, not a figure. */
const startTimeoutMs = 60_000;

/** Of the kernel's accounting, in MiB. */
export interface Memory {
  resident: number;
  /** Of those, what the process itself made: heap, stacks, SQLite's cache. */
  anonymous: number;
  /** Of those, pages of files: the program, its libraries. */
  ofFiles: number;
}

export class MadeSeederProcess {
  readonly url: string;
  readonly port: number;
  /** From the start of the process to its ready line. */
  readonly startMs: number;
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: Interface;

  private constructor(
    child: ChildProcessByStdio<Writable, Readable, null>,
    lines: Interface,
    ready: { url: string; port: number; startMs: number },
  ) {
    this.#child = child;
    this.#lines = lines;
    this.url = ready.url;
    this.port = ready.port;
    this.startMs = ready.startMs;
  }

  static async start(dataDir: string, options: { sourceDir?: string; nodeFlags?: string[] } = {}) {
    const { sourceDir, nodeFlags = [] } = options;
    const script = new URL('made-seeder.ts', import.meta.url).pathname;
    const started = performance.now();
    const args = [...nodeFlags, script, dataDir, ...(sourceDir === undefined ? [] : [sourceDir])];
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const timer = setTimeout(() => child.kill('SIGKILL'), startTimeoutMs);
    const lines = createInterface(child.stdout);
    const line = await Promise.race([
      once(lines, 'line').then(([text]) => String(text)),
      once(child, 'exit').then(() => ''),
    ]);
    clearTimeout(timer);
    const [, url, port] = /^ready seeder (\S+) peers \S+:(\d+)/.exec(line) ?? [];
    if (url === undefined || port === undefined) throw new Error(`the seeder did not start: ${line}`);
    return new MadeSeederProcess(child, lines, {
      url,
      port: Number(port),
      startMs: performance.now() - started,
    });
  }

  memory(): Memory {
    const text = readFileSync(`/proc/${this.#child.pid}/status`, 'latin1');
    const read = (name: string): number =>
      Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1]) / 1024;
    return { resident: read('VmRSS'), anonymous: read('RssAnon'), ofFiles: read('RssFile') };
  }

  /** CPU seconds so far, of all threads. */
  cpuSeconds(): number {
    const text = readFileSync(`/proc/${this.#child.pid}/stat`, 'latin1');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  }

  /** Bytes that it has read from files so far, wherever they came from. */
  bytesRead(): number {
    return Number(/^rchar: (\d+)$/m.exec(readFileSync(`/proc/${this.#child.pid}/io`, 'latin1'))?.[1]);
  }

  /** How long its event loop stood still at most since this was last asked. */
  async eventLoopDelay(): Promise<{ maxMs: number; p99Ms: number }> {
    const answer = once(this.#lines, 'line');
    this.#child.stdin.write('delay\n');
    const [line] = await answer;
    return JSON.parse(String(line)) as { maxMs: number; p99Ms: number };
  }

  async status(): Promise<SeederFigures> {
    const response = await fetch(`${this.url}/status`);
    return (await response.json()) as SeederFigures;
  }

  async stop(): Promise<void> {
    const exited = once(this.#child, 'exit');
    this.#child.stdin.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), startTimeoutMs);
    await exited;
    clearTimeout(timer);
  }
}

/** What is looked at in the seeder's status. */
export interface SeederFigures {
  catalog: { nars: number; narinfos: number };
  ingest: { running: boolean; done: number; refused: number };
  swarm: {
    connections: number;
    openTorrents: number;
    handshakes: number;
    unknownInfoHashes: number;
    refusedConnections: number;
    unsentBytes: number;
  };
}
