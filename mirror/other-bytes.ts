/** What the data directory takes besides the NAR files: databases, and the files of the catalogs. */

import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { diskError, errorCode } from '../store/disk-error.ts';

/** Bytes of all files in `dataDir` but those below `storeName`. Throws store-failed. */
export async function otherBytesIn(dataDir: string, storeName: string): Promise<number> {
  return bytesIn(dataDir, storeName);
}

async function bytesIn(dir: string, except: string | undefined): Promise<number> {
  let bytes = 0;
  try {
    for (const entry of await readdir(dir, { withFileTypes: true })) {
      if (entry.name === except) continue;
      const path = join(dir, entry.name);
      if (entry.isDirectory()) bytes += await bytesIn(path, undefined);
      else if (entry.isFile()) bytes += await sizeOf(path);
    }
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return bytes;
    throw diskError(`look at ${dir}`, cause);
  }
  return bytes;
}

/** Files come and go while it is looked. */
async function sizeOf(path: string): Promise<number> {
  try {
    return (await lstat(path)).size;
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return 0;
    throw cause;
  }
}
