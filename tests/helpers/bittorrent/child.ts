/** What the drivers of BitTorrent programs share: a process in a home of its own, and its last words. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** A clean end takes most programs under a second: they tell the tracker. */
const endTimeoutMs = 10_000;
/** Longest start until a program answers, on a busy machine. */
const answerTimeoutMs = 30_000;
const pollMs = 20;
const outputMaxCharacters = 4_000;

export function missingProgram(name: string): string | undefined {
  return spawnSync('which', [name]).status === 0 ? undefined : `${name} is not installed`;
}

export function missingPythonModule(module: string, debianPackage: string): string | undefined {
  return spawnSync('/usr/bin/python3', ['-c', `import ${module}`]).status === 0
    ? undefined
    : `${debianPackage} is not installed`;
}

/** The first version number in what a command prints. */
export function printedVersion(command: string, args: readonly string[]): string {
  const { stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', env: environment('/nonexistent') });
  return /\d+(?:\.\d+)+/.exec(`${stdout}${stderr}`)?.[0] ?? 'unknown';
}

export class Child {
  readonly #process: ChildProcess;
  readonly #command: string;
  readonly #closed: Promise<unknown>;
  #output = '';
  #ended = false;

  constructor(command: string, args: readonly string[], home: string) {
    this.#command = command;
    this.#process = spawn(command, args, {
      cwd: home,
      env: environment(home),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const hear = (chunk: Buffer): void => {
      this.#output = (this.#output + chunk.toString()).slice(-outputMaxCharacters);
    };
    this.#process.stdout?.on('data', hear);
    this.#process.stderr?.on('data', hear);
    this.#process.on('error', (error) => hear(Buffer.from(error.message)));
    this.#closed = once(this.#process, 'close').finally(() => {
      this.#ended = true;
    });
    this.#closed.catch(() => {});
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** The end of what it said. */
  get output(): string {
    return this.#output;
  }

  /** The status with which it ended. */
  get endedWith(): number | null {
    return this.#ended ? this.#process.exitCode : null;
  }

  /** Throws when the process is gone. */
  expectAlive(): void {
    if (this.#ended)
      throw new Error(`${this.#command} ended with ${this.#process.exitCode}: ${this.#output}`);
  }

  /** The last line that holds JSON, or nothing yet. */
  lastJsonLine(): unknown {
    this.expectAlive();
    const lines = this.#output.split('\n').slice(0, -1);
    const line = lines.findLast((text) => text.startsWith('{'));
    return line === undefined ? undefined : JSON.parse(line);
  }

  /** Waits until the program answers to `ask`, which throws until then. */
  async answers<T>(ask: () => Promise<T>): Promise<T> {
    const deadline = Date.now() + answerTimeoutMs;
    for (;;) {
      this.expectAlive();
      try {
        return await ask();
      } catch (error) {
        if (Date.now() > deadline) throw new Error(`${this.#command} does not answer`, { cause: error });
      }
      await sleep(pollMs);
    }
  }

  /** SIGTERM, and SIGKILL if that does not help. May be called twice. */
  async end(): Promise<void> {
    if (this.#ended) return;
    this.#process.kill('SIGTERM');
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), endTimeoutMs);
    await this.#closed.catch(() => {});
    clearTimeout(timer);
  }
}

/** Without the proxies of the outside, since everything here is on loopback; and without anyone's settings. */
function environment(home: string): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH ?? '', HOME: home, TERM: 'dumb', LC_ALL: 'C.UTF-8' };
}

/** A port that was free a moment ago, for programs that do not tell which one they chose. */
export async function freePort(host: string): Promise<number> {
  const server = createServer().listen({ host, port: 0 });
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address !== 'object') throw new Error('a TCP server has an address');
  return address.port;
}
