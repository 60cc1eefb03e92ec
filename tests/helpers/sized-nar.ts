/** NAR files of an exact size, whose content is random: no two are alike. */

import { randomBytes } from 'node:crypto';
import type { Compression } from '../../nar/compression.ts';
import { compressNar, makeNar } from './cache-builder.ts';

export interface SizedNar {
  compression: Compression;
  nar: Buffer;
  narFile: Buffer;
}

/** About one try in ten hits the size. */
const triesMax = 1_000;
/** Without anything to compress, gzip would keep the end of the NAR as it is, and its size would grow by 8 bytes. */
const zeros = Buffer.alloc(4_096);

/**
 * NARs are padded to 8 bytes, so a size that 8 divides is that of a NAR as it is. For the others the NAR is compressed: what gzip makes of
 * random bytes that end in zeros grows with them by a byte or so, more or less, so that every size is hit in the end.
 */
export function narOfSize(fileBytes: number): SizedNar {
  const aroundBytes = makeNar(Buffer.alloc(0)).length;
  if (fileBytes % 8 === 0) {
    const nar = makeNar(randomBytes(fileBytes - aroundBytes));
    return { compression: 'none', nar, narFile: nar };
  }
  let contentBytes = fileBytes - aroundBytes;
  for (let tries = 0; tries < triesMax; tries++) {
    const nar = makeNar(Buffer.concat([randomBytes(contentBytes), zeros]));
    const narFile = compressNar(nar, 'gzip');
    if (narFile.length === fileBytes) return { compression: 'gzip', nar, narFile };
    contentBytes += fileBytes - narFile.length;
  }
  throw new Error(`no NAR file of ${fileBytes} bytes was found`);
}
