/** The checks of a torrentinfo, and of its NAR file when that lies beside it. */

import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import {
  parseTorrentInfo,
  type TorrentInfo,
  torrentInfoName,
  verifyTorrentInfo,
} from '../../catalog/torrentinfo.ts';
import { narFileName } from '../../nar/compression.ts';
import type { PublicKey } from '../../nar/signature.ts';
import { verifyNarFile } from '../../parts/verify.ts';
import { attempt, type Check, compare, fails, holds, unknown } from './check.ts';

export async function checkTorrentInfo(
  file: string,
  bytes: Buffer,
  keys: readonly PublicKey[],
  signal: AbortSignal,
): Promise<Check[]> {
  const parsed = await attempt('format', () => parseTorrentInfo(bytes));
  if ('failure' in parsed) return [parsed.failure];
  const info = parsed.value;
  const expected = torrentInfoName(info.fileHash);
  const name = basename(file);
  return [
    holds('format', info.infoHash),
    name.endsWith('.torrentinfo') ? compare('name', name, expected) : unknown('name', `usually ${expected}`),
    signatureCheck(info, keys),
    ...(await narFileChecks(file, info, signal)),
  ];
}

function signatureCheck(info: TorrentInfo, keys: readonly PublicKey[]): Check {
  const names = info.sigs.map((sig) => sig.slice(0, Math.max(0, sig.indexOf(':')))).join(', ');
  const claimed = names === '' ? 'it has none' : `it claims ${names}`;
  if (keys.length === 0) return unknown('signature', `no --catalog-key was given; ${claimed}`);
  const signer = verifyTorrentInfo(info, keys);
  return signer === undefined
    ? fails('signature', `none by a --catalog-key; ${claimed}`)
    : holds('signature', signer);
}

async function narFileChecks(file: string, info: TorrentInfo, signal: AbortSignal): Promise<Check[]> {
  const { compression, fileHash, fileSize, narHash, narSize } = info;
  const name = narFileName(fileHash, compression);
  const path = [join(dirname(file), name), join(dirname(file), 'nar', name)].find((each) => existsSync(each));
  if (path === undefined) return [unknown('NAR file', `${name} is not beside the torrentinfo`)];
  const verified = await attempt('NAR file', () => {
    return verifyNarFile({ path, compression, fileHash, fileSize, narHash, narSize }, { signal });
  });
  if ('failure' in verified) return [verified.failure];
  return [
    holds('NAR file', 'FileHash, FileSize, NarHash, NarSize and the NAR itself'),
    compare('InfoHash', info.infoHash, verified.value.file.infoHash),
    compare('NarInfoHash', info.narInfoHash, verified.value.nar.infoHash),
  ];
}
