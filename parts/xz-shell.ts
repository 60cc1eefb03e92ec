/**
 * One small shell that starts an `xz` for each file.
 *
 * A process is started as a copy of the one that starts it: in a process of 200 MiB that takes 15 ms of CPU time, in one of 40 MiB two, and
 * decompressing 128 KiB takes no longer.
 *
 * The shell reads a line with the length of the input and a word that nobody can know, then the input, and writes what `xz` gives, then a line with that
 * word and how `xz` ended: so both ends are seen, whatever the bytes between them are.
 */

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { NarswarmError } from '../nar/errors.ts';
import { feed, MessageOf, xzCommand, xzEnvironment, xzFailed } from './xz-process.ts';

/** `head` reads no byte more than it is told to. */
const script = `
command -v xz >/dev/null && command -v head >/dev/null || exit 1
echo ready
while read -r bytes word; do
  head -c "$bytes" | ${xzCommand.join(' ')}
  printf '\\n%s %03d\\n' "$word" "$?"
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
   * Decompresses `input`, which has `inputBytes`; after `open`, and one after the other. Throws `decompression-failed`, `verify-crashed` when
   * somebody ended the shell or `xz`, and what `input` throws.
   */
  async *decode(input: AsyncIterable<Buffer>, inputBytes: number): AsyncGenerator<Buffer> {
    const running = this.#running;
    if (running === undefined) throw new Error('the shell does not run');
    const { child, output, message } = running;
    const word = randomBytes(16).toString('hex');
    let inputError: unknown;
    let whole = false;
    child.stdin.write(`${inputBytes} ${word}\n`);
    const feeding = feed(child.stdin, exactly(input, inputBytes)).catch((error: unknown) => {
      inputError = error;
      kill(child);
    });
    try {
      const end = new EndMark(word);
      while (end.status === undefined) {
        const { done, value } = await output.next();
        if (done === true) break;
        yield* end.before(value);
      }
      if (inputError !== undefined) throw inputError;
      if (end.status === undefined || end.status > signalled) {
        throw new NarswarmError('verify-crashed', 'xz was ended by somebody');
      }
      if (end.status !== 0) {
        await this.close();
        throw xzFailed(message.text, end.status);
      }
      await feeding;
      if (inputError !== undefined) throw inputError;
      whole = true;
    } finally {
      // What is left of the input, or of the output, would be taken for that of the next file.
      if (!whole) await this.close();
      await feeding;
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

/** Nothing else ends the input for `head`, which would wait for ever. */
async function* exactly(input: AsyncIterable<Buffer>, inputBytes: number): AsyncGenerator<Buffer> {
  let leftBytes = inputBytes;
  for await (const bytes of input) {
    leftBytes -= bytes.length;
    if (leftBytes < 0) break;
    yield bytes;
  }
  if (leftBytes !== 0) throw new NarswarmError('not-held', 'the NAR file has another length than it had');
}

function kill({ pid }: { pid?: number | undefined }): void {
  try {
    // With what it started.
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // It is gone already.
  }
}
