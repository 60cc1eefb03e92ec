/** The checks of a narinfo, and of its NAR file when that lies beside it. */

import { existsSync } from 'node:fs';
import { basename, dirname, resolve, sep } from 'node:path';
import { isCompression } from '../../nar/compression.ts';
import { storePathFollowsFromCa } from '../../nar/content-address.ts';
import { type NarInfo, parseNarInfo } from '../../nar/narinfo.ts';
import { type PublicKey, verifyNarInfo } from '../../nar/signature.ts';
import { storeHashOf } from '../../nar/store-path.ts';
import { verifyNarFile } from '../../parts/verify.ts';
import { attempt, type Check, compare, fails, holds, unknown } from './check.ts';

export async function checkNarInfo(
  file: string,
  bytes: Buffer,
  keys: readonly PublicKey[],
  signal: AbortSignal,
): Promise<Check[]> {
  const parsed = await attempt('format', () => parseNarInfo(bytes));
  if ('failure' in parsed) return [parsed.failure];
  const narInfo = parsed.value;
  return [
    holds('format', narInfo.storePath),
    nameCheck(file, narInfo),
    ...trustChecks(narInfo, keys),
    ...(await narFileChecks(file, narInfo, signal)),
  ];
}

function nameCheck(file: string, narInfo: NarInfo): Check {
  const expected = `${storeHashOf(narInfo.storePath)}.narinfo`;
  const name = basename(file);
  return name.endsWith('.narinfo') ? compare('name', name, expected) : unknown('name', `usually ${expected}`);
}

/** Either a signature or a content address is enough for Nix, so one that fails beside one that holds is no failure. */
function trustChecks(narInfo: NarInfo, keys: readonly PublicKey[]): Check[] {
  const signer = verifyNarInfo(narInfo, keys);
  const addressed = storePathFollowsFromCa(narInfo);
  const names = narInfo.sigs.map((sig) => sig.slice(0, Math.max(0, sig.indexOf(':'))));
  const claimed = names.length === 0 ? 'it has none' : `it claims ${names.join(', ')}`;
  const checks: Check[] = [];
  if (signer !== undefined) checks.push(holds('signature', signer));
  else if (forged(narInfo, keys)) checks.push(fails('signature', `not made by the key it names; ${claimed}`));
  else if (addressed) checks.push(unknown('signature', `none by a --trusted-key; ${claimed}`));
  else checks.push(fails('signature', `none by a --trusted-key; ${claimed}`));
  if (addressed) checks.push(holds('content address', narInfo.ca));
  else if (narInfo.ca !== undefined)
    checks.push(fails('content address', `the store path does not follow from ${narInfo.ca}`));
  return checks;
}

/** True if a signature bears the name of a key that we have and is not by it, and none is. */
function forged(narInfo: NarInfo, keys: readonly PublicKey[]): boolean {
  return narInfo.sigs.some((sig) => keys.some((key) => sig.startsWith(`${key.name}:`)));
}

async function narFileChecks(file: string, narInfo: NarInfo, signal: AbortSignal): Promise<Check[]> {
  const { compression, fileHash, fileSize, narHash, narSize } = narInfo;
  const path = pathOfUrl(dirname(resolve(file)), narInfo.url);
  if (path === undefined) return [unknown('NAR file', `${narInfo.url} is not beside the narinfo`)];
  if (!isCompression(compression)) return [unknown('NAR file', `compression ${compression} cannot be read`)];
  const verified = await attempt('NAR file', () => {
    return verifyNarFile({ path, compression, fileHash, fileSize, narHash, narSize }, { signal });
  });
  if ('failure' in verified) return [verified.failure];
  const said = [
    ...(fileHash === undefined ? [] : ['FileHash']),
    ...(fileSize === undefined ? [] : ['FileSize']),
    'NarHash, NarSize and the NAR itself',
  ];
  return [holds('NAR file', said.join(', ')), holds('infohash', verified.value.file.infoHash)];
}

/** The file that a relative URL names, if it is there and in the directory. */
export function pathOfUrl(dir: string, url: string): string | undefined {
  if (/^[a-z][a-z0-9+.-]*:/i.test(url)) return undefined;
  try {
    const path = resolve(dir, decodeURIComponent(url.replace(/[?#].*$/s, '')));
    return path.startsWith(dir.endsWith(sep) ? dir : dir + sep) && existsSync(path) ? path : undefined;
  } catch {
    return undefined;
  }
}
