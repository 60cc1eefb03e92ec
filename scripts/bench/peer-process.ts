/**
 * A program under measurement, in a process of its own. What all of them have in common: one JSON line on standard output once they are
 * ready; a downloader begins when it reads a line, and says in another one how long it took; all end when their input ends.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { cpuSecondsOf } from './process-cost.ts';

/** The slowest thing measured takes a few seconds. */
const answerTimeoutMs = 120_000;
const endTimeoutMs = 5_000;

export class PeerProcess {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: Interface;
  readonly #exited: Promise<unknown>;
  readonly #name: string;
  #ended = false;

  private constructor(command: readonly string[]) {
    const [program = '', ...args] = command;
    this.#name = command.slice(0, 3).join(' ');
    this.#child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface(this.#child.stdout);
    this.#exited = once(this.#child, 'exit').then(() => {
      this.#ended = true;
    });
    this.#child.stdin.on('error', () => {});
  }

  /** Resolves once the program says that it is ready, with what it says: for a seed `port`. */
  static async start(command: readonly string[]): Promise<{ process: PeerProcess; port: number }> {
    const started = new PeerProcess(command);
    const { port = 0 } = await started.#answer<{ port?: number }>();
    return { process: started, port };
  }

  /** Tells a downloader to begin; resolves with the seconds that it took. */
  async run(): Promise<number> {
    const { seconds } = await this.ask<{ seconds?: number }>('go');
    if (seconds === undefined) throw new Error(`${this.#name} did not say how long it took`);
    return seconds;
  }

  /** Sends a line; resolves with what the program answers. */
  ask<T>(line: string): Promise<T> {
    this.#child.stdin.write(`${line}\n`);
    return this.#answer<T>();
  }

  /** CPU seconds that it has used, of all threads; 0 where the system does not tell. */
  cpuSeconds(): number {
    return cpuSecondsOf(this.#child.pid);
  }

  async end(): Promise<void> {
    this.#child.stdin.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), endTimeoutMs);
    await this.#exited;
    clearTimeout(timer);
  }

  async #answer<T>(): Promise<T> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), answerTimeoutMs);
    try {
      const line = await Promise.race([
        once(this.#lines, 'line').then(([text]) => String(text)),
        this.#exited.then(() => undefined),
      ]);
      if (line === undefined || this.#ended) throw new Error(`${this.#name} ended, or took too long`);
      const answer: T = JSON.parse(line);
      return answer;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** A downloader's life: tells that it is ready, waits for the word, does `work`, tells how long it took, waits for the end. */
export async function measureOnDemand(work: () => Promise<void>): Promise<void> {
  console.log('{}');
  await once(process.stdin, 'data');
  const startedMs = performance.now();
  await work();
  console.log(JSON.stringify({ seconds: (performance.now() - startedMs) / 1_000 }));
  await inputEnd();
}

/** A seed's life after it said where it is. */
export async function inputEnd(): Promise<void> {
  process.stdin.resume();
  if (!process.stdin.readableEnded) await once(process.stdin, 'end');
}
