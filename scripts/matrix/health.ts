/** What a client process holds: file descriptors by what they are, and memory. From /proc. */

import { readdir, readFile, readlink } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Program } from '../../tests/helpers/program.ts';

export interface Health {
  readonly sockets: number;
  /** Open files of its data directory. */
  readonly files: number;
  readonly residentBytes: number;
}

/** Fetches linger, idle connections time out: after this they must be gone. */
const settleMs = 15_000;
const pollMs = 100;
/** The status request itself has a connection, which may be kept for the next. */
const socketsMore = 2;
const filesMore = 0;
/** What V8 keeps for later, and the caches of SQLite, beyond what a fresh process has. */
const residentMoreBytes = 200 * 1024 * 1024;

export async function healthOf({ process: { pid } }: Program): Promise<Health> {
  let sockets = 0;
  let files = 0;
  for (const descriptor of await readdir(`/proc/${pid}/fd`)) {
    const target = await readlink(`/proc/${pid}/fd/${descriptor}`).catch(() => '');
    if (target.startsWith('socket:')) sockets++;
    else if (target.startsWith('/') && !target.startsWith('/dev/') && !target.startsWith('/proc/')) files++;
  }
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const resident = Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
  return { sockets, files, residentBytes: resident };
}

/** Waits until the process holds no more than before; what it still holds too much of otherwise, in words. */
export async function settled(client: Program, before: Health): Promise<string | undefined> {
  const deadline = performance.now() + settleMs;
  for (;;) {
    const wrong = await tooMuch(client, before);
    if (wrong === undefined || performance.now() > deadline) return wrong;
    await sleep(pollMs);
  }
}

async function tooMuch(client: Program, before: Health): Promise<string | undefined> {
  if (client.process.exitCode !== null || client.process.signalCode !== null) return 'the client is gone';
  const status = (await client.status()) as { transfers: { running: unknown[] } };
  const running = status.transfers.running.length;
  if (running > 0) return `${running} fetches still run`;
  const now = await healthOf(client);
  if (now.sockets > before.sockets + socketsMore) return `${now.sockets} sockets, ${before.sockets} before`;
  if (now.files > before.files + filesMore) return `${now.files} open files, ${before.files} before`;
  const more = now.residentBytes - before.residentBytes;
  if (more > residentMoreBytes) return `${Math.round(more / 2 ** 20)} MiB more memory than at first`;
  return undefined;
}
