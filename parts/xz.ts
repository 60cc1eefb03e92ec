/**
 * Decompresses xz, by liblzma in this process or, for all but small NARs, by the system's `xz` beside it.
 *
 * Both read what Nix (libarchive) reads: streams one after the other, padded with zeros to a multiple of four bytes.
 * `xz` is taken because the liblzma of lzma-native (5.2.3) has two thirds of its speed; docs/decisions/0003-decompression.md has the figures.
 */

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { NarswarmError } from '../nar/errors.ts';
import { unxz } from '../upstream/xz.ts';
import { feed, MessageOf, xzCommand, xzEnvironment, xzFailed } from './xz-process.ts';
import type { XzShell } from './xz-shell.ts';

/** Below this NarSize, starting a process costs more than it gains. */
export const xzProcessMinBytes = 128 * 1024;
/** The same where a shell starts it. */
export const xzShellMinBytes = 32 * 1024;

/** Whoever decompresses many files one after the other has a shell for it. */
export interface XzWays {
  readonly shell: XzShell;
  /** Of the file that `input` is read from, without a newline. */
  readonly path: string;
  /** Bytes of it. */
  readonly inputBytes: number;
}

/** A chunk of `input` is no longer needed when the next one is asked for. */
export async function* decompressXz(
  input: AsyncIterable<Buffer>,
  expectedBytes: number,
  ways?: XzWays,
): AsyncGenerator<Buffer> {
  if (ways !== undefined && expectedBytes >= xzShellMinBytes && (await ways.shell.open())) {
    yield* decodeBeside(input, expectedBytes, ways);
    return;
  }
  const process = expectedBytes >= xzProcessMinBytes ? await startXz() : undefined;
  yield* process === undefined ? unxz(input) : decodeIn(process, input);
}

/** `xz` reads the file itself; `input` is read as far as it must have come by then, so that the disk gives each byte once. */
async function* decodeBeside(
  input: AsyncIterable<Buffer>,
  expectedBytes: number,
  { shell, path, inputBytes }: XzWays,
): AsyncGenerator<Buffer> {
  const chunks = input[Symbol.asyncIterator]();
  let [readBytes, givenBytes] = [0, 0];
  for await (const bytes of shell.decode(path, expectedBytes)) {
    givenBytes += bytes.length;
    while (readBytes < inputBytes && readBytes * expectedBytes < givenBytes * inputBytes) {
      const { done, value } = await chunks.next();
      readBytes += done === true ? inputBytes : value.length;
    }
    yield bytes;
  }
}

type XzProcess = ChildProcessByStdio<Writable, Readable, Readable>;

/** Becomes false for good when this machine turns out to have no `xz`. */
let hasXz = true;

/** Starts `xz`, or gives `undefined` where there is none. */
export async function startXz(): Promise<XzProcess | undefined> {
  if (!hasXz) return undefined;
  const [program, ...args] = xzCommand;
  const child = spawn(program, args, {
    env: xzEnvironment(),
    stdio: ['pipe', 'pipe', 'pipe'],
    // Ctrl-C is for the seeder, which ends it by closing its pipes.
    detached: true,
  });
  try {
    await once(child, 'spawn');
    return child;
  } catch {
    hasXz = false;
    return undefined;
  }
}

export async function* decodeIn(child: XzProcess, input: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const exited = new Promise<number | string>((resolve) => {
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'nobody knows what'));
  });
  const message = new MessageOf(child.stderr);
  // It closes its input when it has found an error; the exit code tells.
  child.stdin.on('error', () => undefined);
  let inputError: unknown;
  const feeding = feed(child.stdin, input).then(
    () => void child.stdin.end(),
    (error: unknown) => {
      inputError = error;
      child.kill('SIGKILL');
    },
  );
  try {
    for await (const bytes of child.stdout) yield bytes;
    await feeding;
    const end = await exited;
    if (inputError !== undefined) throw inputError;
    // A signal, of an operator or of a machine that is out of memory, says nothing about the file.
    if (typeof end === 'string') throw new NarswarmError('verify-crashed', `xz was ended by ${end}`);
    if (end !== 0) throw xzFailed(message.text, end);
  } finally {
    child.kill('SIGKILL');
    child.stdin.destroy();
    await Promise.all([feeding, exited]);
  }
}
