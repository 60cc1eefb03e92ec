/** The directories that a command line names, looked at before a program starts on them. */

import { mkdir, stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { NarswarmError } from '../nar/errors.ts';

/** Throws store-failed. */
export async function makeDataDir(directory: string): Promise<void> {
  try {
    await mkdir(directory, { recursive: true });
  } catch (cause) {
    throw new NarswarmError('store-failed', `cannot make the data directory ${directory}`, { cause });
  }
}

/**
 * Throws config-invalid for a `file:` source that is no directory. A source that goes away later is another matter: it
 * is logged, and read again at the next scan.
 */
export async function checkSourceDirs(sources: readonly string[]): Promise<void> {
  for (const source of sources) {
    if (!source.startsWith('file:')) continue;
    const directory = fileURLToPath(source);
    const found = await stat(directory).catch(() => undefined);
    if (found?.isDirectory() === true) continue;
    const why = found === undefined ? 'is not there, or may not be entered' : 'is no directory';
    throw new NarswarmError('config-invalid', `--source: ${directory} ${why}`);
  }
}
