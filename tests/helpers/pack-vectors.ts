/** The golden vectors of packs. */

import { readFileSync } from 'node:fs';
import type { Compression } from '../../nar/compression.ts';
import type { Sha256 } from '../../nar/hash.ts';

export interface PackVector {
  what: string;
  manifest: string;
  cacheInfo: string;
  /** Texts by store hash. */
  narInfos: Record<string, string>;
  name: string;
  length: number;
  pieceCount: number;
  infoHash: string;
  infoDictionary: string;
}

interface Vectors {
  key: { name: string; seed: string; secretKey: string; publicKey: string };
  narInfos: {
    what: string;
    text: string;
    fileHash: Sha256;
    fileSize: number;
    compression: Compression;
    packed: string;
  }[];
  packs: PackVector[];
  untrusted: { why: string; text: string }[];
  refused: { why: string; text: string }[];
  refusedInfo: { why: string; infoDictionary: string }[];
}

const file = new URL('../../docs/vectors/packs.json', import.meta.url);
export const packVectors = JSON.parse(readFileSync(file, 'utf8')) as Vectors;
