/** What a narinfo must say to be believed, before anything else is looked at. */

import { type Compression, isCompression } from './compression.ts';
import { storePathFollowsFromCa } from './content-address.ts';
import { NarswarmError } from './errors.ts';
import type { NarInfo } from './narinfo.ts';
import { type PublicKey, verifyNarInfo } from './signature.ts';
import { storeDirOf } from './store-path.ts';

/** Checks what the narinfo says by itself; returns its compression. Throws the reason to refuse it. */
export function checkNarInfo(
  narInfo: NarInfo,
  narInfoName: string,
  storeDir: string,
  trustedKeys: readonly PublicKey[],
): Compression {
  if (storeDirOf(narInfo.storePath) !== storeDir) {
    throw new NarswarmError('store-dir-mismatch', `${narInfo.storePath} is not below ${storeDir}`);
  }
  if (!narInfo.storePath.startsWith(`${storeDir}/${narInfoName.slice(0, -'.narinfo'.length)}-`)) {
    throw new NarswarmError('narinfo-corrupt', `${narInfoName} is about ${narInfo.storePath}`);
  }
  if (verifyNarInfo(narInfo, trustedKeys) === undefined && !storePathFollowsFromCa(narInfo)) {
    const names = narInfo.sigs.map((sig) => sig.slice(0, Math.max(0, sig.indexOf(':'))));
    const by = names.length === 0 ? 'it has none' : `it has those of ${names.join(', ')}`;
    throw new NarswarmError('signature-untrusted', `no valid signature by a trusted key; ${by}`);
  }
  if (!isCompression(narInfo.compression)) {
    throw new NarswarmError(
      'compression-unsupported',
      `Compression is ${JSON.stringify(narInfo.compression)}`,
    );
  }
  return narInfo.compression;
}
