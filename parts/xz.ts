/**
 * Decompresses xz, by liblzma in this process or, for large NARs, by the system's `xz` beside it.
 *
 * Both read what Nix (libarchive) reads: streams one after the other, padded with zeros to a multiple of four bytes.
 * `xz` is taken because the liblzma of lzma-native (5.2.3) has two thirds of its speed; docs/decisions/0003-decompression.md has the figures.
 */

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { NarswarmError } from '../nar/errors.ts';
import { unxz, xzMemoryMaxBytes } from '../upstream/xz.ts';

/** Below this NarSize, starting a process costs more than it gains. */
export const xzProcessMinBytes = 128 * 1024;

/** Characters of what `xz` says that go into an error. */
const messageMaxCharacters = 200;

/** A chunk of `input` is no longer needed when the next one is asked for. */
export async function* decompressXz(
  input: AsyncIterable<Buffer>,
  expectedBytes: number,
): AsyncGenerator<Buffer> {
  const process = expectedBytes >= xzProcessMinBytes ? await startXz() : undefined;
  yield* process === undefined ? unxz(input) : decodeIn(process, input);
}

type XzProcess = ChildProcessByStdio<Writable, Readable, Readable>;

/** Becomes false for good when this machine turns out to have no `xz`. */
let hasXz = true;

/** Starts `xz`, or gives `undefined` where there is none. */
export async function startXz(): Promise<XzProcess | undefined> {
  if (!hasXz) return undefined;
  const { PATH } = process.env;
  const child = spawn(
    'xz',
    ['--decompress', '--stdout', '--format=xz', '--quiet', `--memlimit-decompress=${xzMemoryMaxBytes}`],
    {
      // Nothing else of the environment: XZ_OPT would change what these flags mean.
      env: { ...(PATH === undefined ? {} : { PATH }), LC_ALL: 'C' },
      stdio: ['pipe', 'pipe', 'pipe'],
      // Ctrl-C is for the seeder, which ends it by closing its pipes.
      detached: true,
    },
  );
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
  let message = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    message = (message + text).slice(0, messageMaxCharacters);
  });
  // It closes its input when it has found an error; the exit code tells.
  child.stdin.on('error', () => undefined);
  let inputError: unknown;
  const feeding = feed(child.stdin, input).catch((error: unknown) => {
    inputError = error;
    child.kill('SIGKILL');
  });
  try {
    for await (const bytes of child.stdout) yield bytes;
    await feeding;
    const end = await exited;
    if (inputError !== undefined) throw inputError;
    // A signal, of an operator or of a machine that is out of memory, says nothing about the file.
    if (typeof end === 'string') throw new NarswarmError('verify-crashed', `xz was ended by ${end}`);
    if (end !== 0) throw failed(message.trim() || `xz ended with ${end}`);
  } finally {
    child.kill('SIGKILL');
    child.stdin.destroy();
    await Promise.all([feeding, exited]);
  }
}

async function feed(to: Writable, input: AsyncIterable<Buffer>): Promise<void> {
  const closed = new Promise<void>((resolve) => to.once('close', resolve));
  for await (const bytes of input) {
    // Waits until the bytes are written: the buffer may be filled again after that.
    const written = new Promise<void>((resolve) => to.write(bytes, () => resolve()));
    await Promise.race([written, closed]);
    if (to.destroyed) return;
  }
  to.end();
}

function failed(why: string): NarswarmError {
  return new NarswarmError('decompression-failed', `xz: ${why}`);
}
