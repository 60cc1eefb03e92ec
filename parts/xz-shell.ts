/**
 * One small shell that starts an `xz` for each file.
 *
 * A process is started as a copy of the one that starts it: in a process of 200 MiB that takes 15 ms of CPU time, in one of 40 MiB two, and
 * decompressing 128 KiB takes no longer.
 *
 * The shell reads two lines, a word that nobody can know and the path of a file, and writes what `xz` gives, then a line with that word and how `xz`
 * ended: so the end is seen, whatever the bytes before it are.
 */

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { NarswarmError } from '../nar/errors.ts';
import { MessageOf, xzCommand, xzEnvironment, xzFailed } from './xz-process.ts';

/** From this size on it pays to gather what `xz` writes, 8 KiB at a time: who reads is woken less often. */
const gatherMinBytes = 1024 * 1024;

/**
 * A mark that did not come would be waited for in vain: all of this ends with whoever could not pass it on. An `xz` that is killed, for one, leaves
 * its output as one that does not wait, and a full pipe then takes no mark.
 */
const script = `
decode() {
  ${xzCommand.join(' ')} <"$path"
  printf '\\n%s %03d\\n' "$word" "$?" || kill -KILL 0
}
gather() {
  dd bs=256k iflag=fullblock 2>/dev/null
}
command -v xz >/dev/null && gather </dev/null || exit 1
echo ready
while read -r way word && IFS= read -r path; do
  case $way in
    gathered) decode | gather || exit 1 ;;
    *) decode ;;
  esac
done`;

/** What a shell gives as the end of a process that was ended by a signal is this and the signal's number. */
const signalled = 128;
const statusDigits = 3;

interface Running {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly output: AsyncIterator<Buffer>;
  readonly message: MessageOf;
  readonly closed: Promise<unknown>;
}

export class XzShell {
  #running: Running | undefined;
  #missing = false;

  /** Starts it, if it does not run. False where this machine has no `xz`, for good. */
  async open(): Promise<boolean> {
    if (this.#running !== undefined) return true;
    if (this.#missing) return false;
    const child = spawn('sh', ['-c', script], {
      env: xzEnvironment(),
      stdio: ['pipe', 'pipe', 'pipe'],
      // Ctrl-C is for the seeder, which ends it by closing its pipes.
      detached: true,
    });
    child.on('error', () => undefined);
    // It closes its input when it ends; what it last said tells why.
    child.stdin.on('error', () => undefined);
    const output = child.stdout.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>;
    const running = { child, output, message: new MessageOf(child.stderr), closed: once(child, 'close') };
    running.closed.catch(() => undefined);
    const { done } = await output.next();
    this.#missing = done === true;
    if (!this.#missing) this.#running = running;
    return !this.#missing;
  }

  /**
   * Decompresses the file at `path`, which should give `expectedBytes`; after `open`, and one after the other. Throws `decompression-failed`,
   * also for a file that cannot be read, and `verify-crashed` when somebody ended the shell or `xz`.
   */
  async *decode(path: string, expectedBytes: number): AsyncGenerator<Buffer> {
    const running = this.#running;
    if (running === undefined) throw new Error('the shell does not run');
    const { child, output, message } = running;
    const word = randomBytes(16).toString('hex');
    const way = expectedBytes < gatherMinBytes ? 'plain' : 'gathered';
    child.stdin.write(`${way} ${word}\n${path}\n`);
    let whole = false;
    try {
      const end = new EndMark(word);
      while (end.status === undefined) {
        const { done, value } = await output.next();
        if (done === true) break;
        yield* end.before(value);
      }
      if (end.status === undefined || end.status > signalled) {
        throw new NarswarmError('verify-crashed', 'xz was ended by somebody');
      }
      if (end.status !== 0) {
        await this.close();
        throw xzFailed(message.text, end.status);
      }
      whole = true;
    } finally {
      // What is left of the output would be taken for that of the next file.
      if (!whole) await this.close();
    }
  }

  /** Ends it at once, what it gave and nobody took is lost; `open` starts another one. May be called twice. */
  async close(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    if (running === undefined) return;
    kill(running.child);
    running.child.stdin.destroy();
    running.child.stdout.destroy();
    await running.closed;
  }
}

/** Finds the line at the end. It comes last, and its word is in nothing that came before. */
class EndMark {
  readonly #mark: Buffer;
  readonly #lengthBytes: number;
  /** May be the beginning of it. */
  #held: Buffer | undefined;
  /** How `xz` ended. */
  status: number | undefined;

  constructor(word: string) {
    this.#mark = Buffer.from(`\n${word} `);
    this.#lengthBytes = this.#mark.length + statusDigits + 1;
  }

  /** What of the output is surely no part of it. */
  *before(chunk: Buffer): Generator<Buffer> {
    const bytes = this.#held === undefined ? chunk : Buffer.concat([this.#held, chunk]);
    const start = this.#startIn(bytes);
    if (start > 0) yield bytes.subarray(0, start);
    this.#held = start === bytes.length ? undefined : Buffer.from(bytes.subarray(start));
    if (this.#held?.length !== this.#lengthBytes) return;
    this.status = Number(this.#held.toString('latin1', this.#mark.length, this.#mark.length + statusDigits));
  }

  #startIn(bytes: Buffer): number {
    const newline = 0x0a;
    const first = Math.max(0, bytes.length - this.#lengthBytes);
    for (let at = bytes.indexOf(newline, first); at !== -1; at = bytes.indexOf(newline, at + 1)) {
      const begun = bytes.subarray(at, at + this.#mark.length);
      if (begun.equals(this.#mark.subarray(0, begun.length))) return at;
    }
    return bytes.length;
  }
}

function kill({ pid }: { pid?: number | undefined }): void {
  try {
    // With what it started.
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // It is gone already.
  }
}
