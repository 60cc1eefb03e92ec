/** The checks of a pack: of its manifest, with its files where they are there, and of a downloaded pack as a binary cache. */

import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type Pack, packInfoName, packName, verifyPack } from '../../catalog/pack.ts';
import { parseCacheInfo } from '../../nar/cache-info.ts';
import { NarswarmError } from '../../nar/errors.ts';
import { parseNarInfo } from '../../nar/narinfo.ts';
import type { PublicKey } from '../../nar/signature.ts';
import { remakePack } from '../../parts/remake-pack.ts';
import { directoryParts, packDirectory, readPackInfo } from '../pack-directory.ts';
import { attempt, type Check, compare, fails, holds, unknown } from './check.ts';
import { checkNarInfo } from './narinfo-checks.ts';

/** Files named of those that fail; all of them are counted. */
const faultsShown = 20;

export async function checkPackInfo(
  file: string,
  filesDir: string | undefined,
  keys: readonly PublicKey[],
  signal: AbortSignal,
): Promise<Check[]> {
  const parsed = await attempt('format', () => readPackInfo(file));
  if ('failure' in parsed) return [parsed.failure];
  const pack = parsed.value;
  const expected = packInfoName(pack.infoHash);
  const name = basename(file);
  return [
    holds('format', pack.infoHash),
    name.endsWith('.packinfo') ? compare('name', name, expected) : unknown('name', `usually ${expected}`),
    signatureCheck(pack, keys),
    ...(await filesChecks(pack, packDirectory(file, pack, filesDir), signal)),
  ];
}

function signatureCheck(pack: Pack, keys: readonly PublicKey[]): Check {
  const names = pack.sigs.map((sig) => sig.slice(0, Math.max(0, sig.indexOf(':')))).join(', ');
  const claimed = names === '' ? 'it has none' : `it claims ${names}`;
  if (keys.length === 0) return unknown('signature', `no --catalog-key was given; ${claimed}`);
  const signer = verifyPack(pack, keys);
  return signer === undefined
    ? fails('signature', `none by a --catalog-key; ${claimed}`)
    : holds('signature', signer);
}

async function filesChecks(pack: Pack, dir: string, signal: AbortSignal): Promise<Check[]> {
  const count = pack.narInfos.length + pack.narFiles.length;
  const made = await remakePack(pack, directoryParts(dir), signal);
  if ('torrent' in made)
    return [
      holds('files', `${pack.narInfos.length} narinfos, ${pack.narFiles.length} NAR files`),
      compare('infohash', pack.infoHash, made.torrent.infoHash),
    ];
  const { faults } = made;
  if (faults.length >= count && faults.every(({ why }) => why === 'missing'))
    return [unknown('files', `${packName(pack)} is not beside the manifest; say --files DIR`)];
  return [
    ...faults.slice(0, faultsShown).map(({ path, why }) => fails('file', `${path}: ${why}`)),
    fails('files', `${faults.length} of ${count} are not what the manifest says`),
  ];
}

/** A directory with nix-cache-info: whether every narinfo in it can be trusted and has its NAR file, and every NAR file its narinfo. */
export async function checkPackDirectory(
  dir: string,
  keys: readonly PublicKey[],
  signal: AbortSignal,
): Promise<Check[]> {
  const names = await readdir(dir);
  const cacheInfo = await attempt('nix-cache-info', async () => {
    if (!names.includes('nix-cache-info')) throw new NarswarmError('cache-info-corrupt', 'it is not there');
    return parseCacheInfo(await readFile(join(dir, 'nix-cache-info'), 'utf8'));
  });
  const checks: Check[] = [
    'failure' in cacheInfo ? cacheInfo.failure : holds('nix-cache-info', cacheInfo.value.storeDir),
  ];
  const narInfos = names.filter((name) => name.endsWith('.narinfo'));
  const named = new Set<string>();
  const failed: Check[] = [];
  let good = 0;
  for (const name of narInfos) {
    signal.throwIfAborted();
    const bytes = await readFile(join(dir, name));
    const bad = (await checkNarInfo(join(dir, name), bytes, keys, signal)).filter(isBad);
    if (bad.length === 0) good++;
    failed.push(...bad.map(({ what, detail }) => fails(what, `${name}: ${detail}`)));
    const parsed = await attempt('format', () => parseNarInfo(bytes));
    if ('value' in parsed) named.add(parsed.value.url);
  }
  const narFiles = await readdir(join(dir, 'nar')).catch(() => []);
  const stray = narFiles.filter((name) => !named.has(`nar/${name}`));
  const all = `${good} of ${narInfos.length}: format, name, signature, NAR file`;
  return [
    ...checks,
    ...failed.slice(0, faultsShown),
    good === narInfos.length && good > 0 ? holds('narinfos', all) : fails('narinfos', all),
    ...stray.slice(0, faultsShown).map((name) => unknown('NAR file', `no narinfo names nar/${name}`)),
    unknown('infohash', 'follows from the manifest: verify the .packinfo beside this directory'),
  ];
}

/** In a pack every NAR file is there. */
function isBad({ result, what }: Check): boolean {
  return result === 'fails' || (result === 'unknown' && what === 'NAR file');
}
