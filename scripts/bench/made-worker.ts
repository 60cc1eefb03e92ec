/** Makes the rows of a range of made NAR files, on a thread of its own. */
import { isMainThread, parentPort } from 'node:worker_threads';
import { infoHashToDigest, sha256ToDigest } from '../../nar/hash.ts';
import { nix32Decode } from '../../nar/nix32.ts';
import { storeHashOf } from '../../nar/store-path.ts';
import { MadeHasher } from './made-files.ts';
import { acceptedOf } from './made-rows.ts';

/** The values of one NAR file, by table, in the order of the statements in made-catalog.ts. */
export interface MadeRow {
  narFile: (number | string | Uint8Array)[];
  filePieces: Uint8Array;
  narPieces: Uint8Array;
  narInfo: (number | string | bigint | Uint8Array)[];
}

const hasher = new MadeHasher();

export function rowOf(number: number): MadeRow {
  const { narInfo, entry, narInfoName, fingerprint, filePieces, narPieces } = acceptedOf(number, hasher);
  return {
    narFile: [
      sha256ToDigest(entry.fileHash),
      entry.fileSize,
      entry.compression,
      sha256ToDigest(entry.narHash),
      entry.narSize,
      infoHashToDigest(entry.infoHash),
      infoHashToDigest(entry.narInfoHash),
      entry.sigs.join('\n'),
    ],
    filePieces,
    narPieces,
    narInfo: [
      narInfoName,
      nix32Decode(storeHashOf(narInfo.storePath)),
      narInfo.url,
      fingerprint,
      entry.location.path,
      entry.location.sizeBytes,
      entry.location.mtimeNs,
      narInfo.text,
    ],
  };
}

if (!isMainThread) {
  parentPort?.on('message', (numbers: readonly number[]) => parentPort?.postMessage(numbers.map(rowOf)));
}
