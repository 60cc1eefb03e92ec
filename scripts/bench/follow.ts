/** How long a catalog takes to be followed: from nothing, and a day's news. */

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { z } from 'zod';
import { CatalogFiles } from '../../catalog/files.ts';
import { MadeFollowLog } from './follow-log.ts';
import type { Row } from './table.ts';

const allRecords = 1_000_000;
const dayRecords = 50_000;
const mib = 1024 * 1024;
const child = fileURLToPath(new URL('follow-process.ts', import.meta.url));
const answer = z.object({
  records: z.number(),
  seconds: z.number(),
  cpuSeconds: z.number(),
  maxRssBytes: z.number(),
});

export async function follow({ dir }: { dir: string }): Promise<Row[]> {
  const filesDir = join(dir, 'catalog');
  const database = join(dir, 'followed.sqlite');
  const log = new MadeFollowLog(await CatalogFiles.open(filesDir));
  await log.add(allRecords);
  const whole = await followOnce(filesDir, database);
  const megabytes = `${(log.bytes / mib).toFixed(0)} MiB, ${(log.fileBytes / mib).toFixed(0)} MiB compressed`;
  await log.add(dayRecords);
  const day = await followOnce(filesDir, database);
  return [
    row(`follow ${allRecords} records from nothing`, whole, 60, megabytes),
    row(`follow ${dayRecords} records more`, day, 5),
  ];
}

type Measured = z.infer<typeof answer>;

async function followOnce(filesDir: string, database: string): Promise<Measured> {
  const { stdout } = await promisify(execFile)(process.execPath, [child, filesDir, database]);
  return answer.parse(JSON.parse(stdout));
}

function row(what: string, measured: Measured, atMostSeconds: number, about?: string): Row {
  const { seconds, cpuSeconds, maxRssBytes, records } = measured;
  const goal = { text: `≤ ${atMostSeconds} s`, met: seconds <= atMostSeconds };
  const speed = `${(records / seconds).toFixed(0)} a second`;
  const cost = `${cpuSeconds.toFixed(1)} s of CPU, at most ${(maxRssBytes / mib).toFixed(0)} MiB resident`;
  const note = [about, speed, cost].filter((each) => each !== undefined).join('; ');
  return { what, ours: `${seconds.toFixed(1)} s`, theirs: '', goal, note };
}
