/** A pack's manifest, and its files in a directory: the downloaded pack, or a cache that has its NAR files. */

import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Pack, packManifestMaxBytes, packName, parsePack } from '../catalog/pack.ts';
import { narFileName } from '../nar/compression.ts';
import { NarswarmError } from '../nar/errors.ts';
import { type Sha256, sha256FromDigest } from '../nar/hash.ts';
import { narInfoMaxBytes, parseNarInfo } from '../nar/narinfo.ts';
import type { PackParts } from '../parts/remake-pack.ts';
import { pathOfUrl } from './verify/narinfo-checks.ts';

/** Bytes read at once. */
const readBytes = 1024 * 1024;

export function isPackInfo(file: string, start: Buffer): boolean {
  return (
    file.endsWith('.packinfo') ||
    start.subarray(0, 64).toString('latin1').startsWith('Format: narswarm-pack-')
  );
}

/** Throws pack-corrupt, and store-failed when it cannot be read. */
export async function readPackInfo(file: string): Promise<Pack> {
  try {
    if ((await stat(file)).size > packManifestMaxBytes)
      throw new NarswarmError('pack-corrupt', `${file} is longer than any manifest`);
    return parsePack(await readFile(file));
  } catch (cause) {
    if (cause instanceof NarswarmError) throw cause;
    throw new NarswarmError('store-failed', `${file} cannot be read`, { cause });
  }
}

/** Where the files of a pack lie: where the user says, or beside its manifest under its name, or right there. */
export function packDirectory(file: string, pack: Pack, said: string | undefined): string {
  const named = join(dirname(file), packName(pack));
  return said ?? (existsSync(named) ? named : dirname(file));
}

/** NAR files are taken by their names in the pack, or from where the narinfos of a cache say. */
export function directoryParts(dir: string): PackParts {
  const paths = new Map<Sha256, string>();
  return {
    async narInfo(storeHash) {
      const text = await readOr(join(dir, `${storeHash}.narinfo`), narInfoMaxBytes);
      if (text === undefined) return undefined;
      const path = pathOf(dir, text);
      const fileHash = fileHashIn(text) ?? (path === undefined ? undefined : await hashOf(path));
      if (fileHash !== undefined && path !== undefined) paths.set(fileHash, path);
      return { text, ...(fileHash && { fileHash }) };
    },
    async narFile({ fileHash, compression }) {
      const named = join(dir, 'nar', narFileName(fileHash, compression));
      const path = existsSync(named) ? named : paths.get(fileHash);
      return path === undefined ? undefined : createReadStream(path, { highWaterMark: readBytes });
    },
  };
}

async function readOr(path: string, maxBytes: number): Promise<string | undefined> {
  if (!existsSync(path) || (await stat(path)).size > maxBytes) return undefined;
  return readFile(path, 'utf8');
}

function pathOf(dir: string, text: string): string | undefined {
  return attempt(() => pathOfUrl(dir, parseNarInfo(text).url));
}

function fileHashIn(text: string): Sha256 | undefined {
  return attempt(() => parseNarInfo(text).fileHash);
}

/** What is no narinfo is not the one that was packed: its hash will say so. */
function attempt<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch (error) {
    if (error instanceof NarswarmError) return undefined;
    throw error;
  }
}

async function hashOf(path: string): Promise<Sha256> {
  const hasher = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: readBytes })) hasher.update(chunk);
  return sha256FromDigest(hasher.digest());
}
