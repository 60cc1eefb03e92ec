/** Compressions of NAR files, and the names that follow from them. */

import { isNarswarmError } from './errors.ts';
import { parseSha256, type Sha256 } from './hash.ts';

/** Those of Nix's compressions that are found in today's caches. */
export const compressions = ['none', 'xz', 'bzip2', 'zstd', 'br', 'gzip'] as const;
export type Compression = (typeof compressions)[number];

const extensions = { none: '', xz: '.xz', bzip2: '.bz2', zstd: '.zst', br: '.br', gzip: '.gz' } as const;

export function isCompression(text: string): text is Compression {
  return (compressions as readonly string[]).includes(text);
}

export function narFileExtension(compression: Compression): string {
  return extensions[compression];
}

/** The canonical name of a NAR file: `<FileHash>.nar` and the extension of its compression. */
export function narFileName(fileHash: Sha256, compression: Compression): string {
  return `${fileHash}.nar${extensions[compression]}`;
}

/** Reads a canonical name back; `undefined` for any other text. */
export function parseNarFileName(name: string): { fileHash: Sha256; compression: Compression } | undefined {
  const match = /^([0-9a-df-np-sv-z]{52})\.nar(\.[a-z0-9]+)?$/.exec(name);
  const compression = compressions.find((each) => extensions[each] === (match?.[2] ?? ''));
  if (match?.[1] === undefined || compression === undefined) return undefined;
  try {
    return { fileHash: parseSha256(match[1]), compression };
  } catch (error) {
    if (isNarswarmError(error, 'hash-invalid')) return undefined;
    throw error;
  }
}
