/** Starts `narswarm` commands as processes of their own, the way a user does, and reads their ready line. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));

/** Longest start until the ready line. */
const readyTimeoutMs = 30_000;
/** Longest clean shutdown: the command line promises two seconds, a busy machine gets some more. */
const stopTimeoutMs = 8_000;
/** Longest wait for a condition of another process, and how often it is looked at. */
const conditionTimeoutMs = 150_000;
const pollMs = 10;

export interface Program {
  readonly process: ChildProcess;
  /** The ready line. */
  readonly ready: string;
  readonly url: string;
  /** `host:port` of the BitTorrent listener, when there is one. */
  readonly peers: string | undefined;
  readonly tracker: string | undefined;
  /** Standard error so far. */
  log(): string;
  status(): Promise<Record<string, unknown>>;
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>;
  /** SIGKILL. */
  kill(): Promise<void>;
}

/** `through`: a command that runs the program, as `nsenter` does. */
export async function startProgram(args: string[], through: readonly string[] = []): Promise<Program> {
  const [command = '', ...rest] = [...through, process.execPath, main, ...args];
  const child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
  let errors = '';
  let output = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const exited = once(child, 'exit');
  const ready = await new Promise<string>((resolve, reject) => {
    const fail = (why: string): void => reject(new Error(`${args[0]}: ${why}\n${output}${errors}`));
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      fail('no ready line');
    }, readyTimeoutMs);
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      const line = /^ready .*$/m.exec(output);
      if (line && output.indexOf('\n', line.index) >= 0) {
        clearTimeout(timer);
        resolve(line[0]);
      }
    });
    child.once('exit', (code) => {
      clearTimeout(timer);
      fail(`ended with ${code} before it was ready`);
    });
  });
  const words = ready.split(' ');
  const after = (name: string): string | undefined => {
    const at = words.indexOf(name);
    return at < 0 ? undefined : words[at + 1];
  };
  const role = words[1];
  const url = words[2] ?? '';
  return {
    process: child,
    ready,
    url,
    peers: after('peers'),
    tracker: after('tracker'),
    log: () => errors,
    async status() {
      const answer = await fetch(role === 'client' ? `${url}/_narswarm/status` : `${url}/status`);
      return (await answer.json()) as Record<string, unknown>;
    },
    async stop() {
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs);
      await exited;
      clearTimeout(timer);
      return child.exitCode;
    },
    async kill() {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/** Waits until a seeder has that many NAR files in its catalog. */
export async function untilIngested(seeder: Program, nars: number): Promise<void> {
  await until(async () => {
    const { catalog } = (await seeder.status()) as { catalog: { nars: number } };
    return catalog.nars === nars;
  });
}

/** Polls a condition of another process. */
export async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + conditionTimeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error('the condition did not come true in time');
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}
