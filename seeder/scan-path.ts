/**
 * From a narinfo's URL to a file of a source directory, and no further.
 *
 * As in Nix's `file://` stores the URL is the name of a file below the directory, taken as it stands: nothing in it is
 * decoded, and a `?` is part of the name. But the same URL is also asked for over HTTP, where it may be decoded and
 * resolved; so one that would lead out of the directory in that reading is refused as well.
 */

import { realpathSync } from 'node:fs';
import { sep } from 'node:path';
import { NarswarmError } from '../nar/errors.ts';
import { diskError, errorCode } from '../store/disk-error.ts';

/** The path, relative to the directory, that a narinfo's URL names. Throws `path-escapes`. */
export function sourcePathOf(narUrl: string): string {
  if (/^[a-z][a-z0-9+.-]*:/i.test(narUrl)) throw escapes(narUrl, 'is absolute');
  for (const reading of readings(narUrl)) {
    if (reading.startsWith('/') || reading.startsWith('\\')) throw escapes(narUrl, 'is absolute');
    if (reading.includes('\0')) throw escapes(narUrl, 'holds a zero byte');
    if (reading.split(/[/\\]/).includes('..')) throw escapes(narUrl, 'leads upwards');
  }
  return narUrl;
}

/** The URL as it stands, and with its percent signs decoded, once and twice. */
function readings(narUrl: string): string[] {
  const all = [narUrl];
  for (let depth = 0; depth < 2; depth++) {
    all.push(
      (all.at(-1) ?? '').replace(/%([0-9a-f]{2})/gi, (_, hex: string) =>
        String.fromCharCode(Number.parseInt(hex, 16)),
      ),
    );
  }
  return all;
}

/**
 * Where a path leads when all symbolic links are followed; `undefined` when to nothing. Throws `path-escapes` when that is outside
 * `realDirectory`. Synchronous, for the worker threads.
 */
export function realPathWithin(realDirectory: string, path: string): string | undefined {
  let real: string;
  try {
    real = realpathSync.native(path);
  } catch (cause) {
    if (['ENOENT', 'ENOTDIR', 'ENAMETOOLONG'].includes(errorCode(cause) ?? '')) return undefined;
    throw diskError(`follow ${path}`, cause);
  }
  const root = realDirectory.endsWith(sep) ? realDirectory : realDirectory + sep;
  if (!real.startsWith(root))
    throw new NarswarmError('path-escapes', 'a symbolic link leads out of the directory');
  return real;
}

function escapes(narUrl: string, why: string): NarswarmError {
  return new NarswarmError('path-escapes', `the URL ${JSON.stringify(narUrl.slice(0, 200))} ${why}`);
}
