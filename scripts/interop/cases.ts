/** One case of the interoperation table: real programs, a real seeder, files compared byte for byte. */

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { BittorrentProgram, Download, Progress } from '../../tests/helpers/bittorrent/program.ts';
import { finished, startDownload } from '../../tests/helpers/bittorrent/programs.ts';
import { type Published, type SwarmLab, sameFiles } from '../../tests/helpers/bittorrent/swarm-lab.ts';

export interface Row {
  program: string;
  version: string;
  how: string;
  size: string;
  /** From the start of the program. */
  seconds?: number;
  /** `ok` and what else there is to know, or why not. */
  result: string;
  ok: boolean;
}

export interface Participant {
  program: BittorrentProgram;
  address: string;
}

const caseTimeoutMs = 120_000;
/** Of a copy, what a pair has to exchange at least: how much it is depends on who asks whom first. */
const sharedLeast = 0.1;

/** A program downloads a file from the seeder, alone. */
export async function downloadCase(
  lab: SwarmLab,
  { program, address }: Participant,
  how: '.torrent' | 'magnet',
  file: Published,
): Promise<Row> {
  const home = join(lab.dir, 'home');
  const row = { program: program.name, version: program.version(), how, size: printSize(file.sizeBytes) };
  const beforeBytes = await lab.uploadedBytes();
  const startedMs = performance.now();
  let download: Download | undefined;
  try {
    const from = how === 'magnet' ? { magnet: file.magnet } : { torrent: file.torrent };
    download = await startDownload(program, { home, address, from });
    await finished(download, caseTimeoutMs);
    const seconds = (performance.now() - startedMs) / 1_000;
    await download.stop();
    const ok = await sameFiles(file.path, join(home, 'out', file.name));
    const overBittorrent = ((await lab.uploadedBytes()) - beforeBytes) / file.sizeBytes;
    const share = overBittorrent >= 1 ? '' : `, ${Math.round(overBittorrent * 100)} % of it over BitTorrent`;
    return { ...row, seconds, ok, result: ok ? `ok${share}` : 'other bytes' };
  } catch (error) {
    return { ...row, ok: false, result: message(error) };
  } finally {
    await download?.stop();
    await rm(home, { recursive: true, force: true });
  }
}

/** Two programs download the same file while the seeder gives each byte of it about once. */
export async function exchangeCase(
  lab: SwarmLab,
  participants: readonly [Participant, Participant],
  file: Published,
): Promise<Row[]> {
  const size = printSize(file.sizeBytes);
  const beforeBytes = await lab.uploadedBytes();
  const startedMs = performance.now();
  const homes = participants.map((_each, index) => join(lab.dir, `home-${index}`));
  const downloads: (Download | undefined)[] = [];
  const rows = participants.map(({ program }, index) => ({
    program: program.name,
    version: program.version(),
    how: `with ${participants[1 - index]?.program.name}`,
    size,
  }));
  try {
    const started = await Promise.all(
      participants.map(async ({ program, address }, index) => {
        const home = homes[index] ?? '';
        const download = await startDownload(program, { home, address, from: { torrent: file.torrent } });
        downloads[index] = download;
        return download;
      }),
    );
    const seconds = await Promise.all(
      started.map(async (download) => {
        await finished(download, caseTimeoutMs);
        return (performance.now() - startedMs) / 1_000;
      }),
    );
    const fromSeeder = (await lab.uploadedBytes()) - beforeBytes;
    const figures: Progress[] = [];
    for (const download of started) figures.push(await download.stop());
    const exchanged = figures.reduce((sum, { uploadedBytes }) => sum + uploadedBytes, 0);
    return await Promise.all(
      rows.map(async (row, index) => {
        const same = await sameFiles(file.path, join(homes[index] ?? '', 'out', file.name));
        const shared = exchanged >= file.sizeBytes * sharedLeast;
        const gave = `gave the other ${percent(figures[index]?.uploadedBytes ?? 0, file)}`;
        const left = `the seeder gave ${percent(fromSeeder, file)} to both`;
        const verdict = same ? (shared ? 'ok' : 'too little exchanged') : 'other bytes';
        const result = `${verdict}: ${gave}, ${left}`;
        return { ...row, seconds: seconds[index] ?? 0, ok: same && shared, result };
      }),
    );
  } catch (error) {
    return rows.map((row) => ({ ...row, ok: false, result: message(error) }));
  } finally {
    for (const download of downloads) await download?.stop();
    for (const home of homes) await rm(home, { recursive: true, force: true });
  }
}

function percent(bytes: number, file: Published): string {
  return `${Math.round((bytes / file.sizeBytes) * 100)} %`;
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function printSize(bytes: number): string {
  const mebibytes = bytes / 1_048_576;
  if (Number.isInteger(mebibytes)) return `${mebibytes} MiB`;
  return bytes > 10_000_000 ? `${mebibytes.toFixed(1)} MiB` : `${bytes} B`;
}
