/** The real BitTorrent programs, and how to let one of them download a file. */

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { aria2 } from './aria2.ts';
import { deluge } from './deluge.ts';
import { libtorrent } from './libtorrent.ts';
import type { BittorrentProgram, Download, Progress } from './program.ts';
import { qbittorrent } from './qbittorrent.ts';
import { rtorrent } from './rtorrent.ts';
import { transmission } from './transmission.ts';
import { webtorrent } from './webtorrent.ts';

export const bittorrentPrograms: readonly BittorrentProgram[] = [
  aria2,
  transmission,
  qbittorrent,
  rtorrent,
  deluge,
  libtorrent,
  webtorrent,
];

/** Those that `npm test` installs: they are small, and quick. */
export const programsOfTests = [aria2, transmission, rtorrent, libtorrent, webtorrent];

/** Some programs wait for timers of their own, and for others when the machine is busy. */
const deadlineMs = 110_000;
const pollMs = 20;

export type From = { torrent: Buffer } | { magnet: string };

/** Starts a download with everything that it writes below `home`, which must not exist yet; the file goes into `home/out`. */
export async function startDownload(
  program: BittorrentProgram,
  options: { home: string; address: string; from: From },
): Promise<Download> {
  const { home, address, from } = options;
  const dir = join(home, 'out');
  const own = join(home, 'own');
  await mkdir(dir, { recursive: true });
  await mkdir(own);
  const file = join(home, 'it.torrent');
  if ('torrent' in from) await writeFile(file, from.torrent);
  return program.start({ what: 'magnet' in from ? from.magnet : file, dir, home: own, address });
}

/** Waits until a download is done; rejects with what the program said when it fails. */
export async function finished(download: Download, timeoutMs = deadlineMs): Promise<Progress> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const progress = await download.progress();
    if (progress.done) return progress;
    if (Date.now() > deadline) throw new Error(`not done after ${timeoutMs / 1_000} s`);
    await sleep(pollMs);
  }
}
