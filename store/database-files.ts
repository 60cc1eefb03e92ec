/** The files that a SQLite database consists of. */

import { rmSync } from 'node:fs';

/** Its own, and those beside it, which are there at times. */
export function databaseFiles(path: string): string[] {
  return ['', '-wal', '-shm', '-journal'].map((end) => path + end);
}

/** Nobody may have it open. */
export function removeDatabase(path: string): void {
  for (const file of databaseFiles(path)) rmSync(file, { force: true });
}
