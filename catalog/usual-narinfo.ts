/**
 * The narinfo as Nix's own writers make it, told from one pattern in a tenth of the time that parsing takes: who follows a
 * catalog reads millions. What the pattern takes, `parseNarInfo` takes, and finds the same in it; a test compares them.
 */

import type { Sha256 } from '../nar/hash.ts';
import type { StoreHash } from '../nar/store-path.ts';

export interface UsualNarInfo {
  readonly storeDir: string;
  readonly storeHash: StoreHash;
  /** If there is one in it. */
  readonly fileHash: Sha256 | undefined;
}

/** No more references than a narinfo may have fit in this. */
const maxCharacters = 32 * 1024;

const digit = '[0-9a-df-np-sv-z]';
const hash = `sha256:[01]${digit}{51}`;
const name = '(?!\\.\\.?[-\\n ])[0-9a-zA-Z+\\-._?=]{1,211}';
const storePathName = `${digit}{32}-${name}`;
const anything = '[\\x20-\\x7e]*';

const pattern = new RegExp(
  [
    `^StorePath: ((?:/[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}){1,16})/(${digit}{32})-${name}`,
    'URL: [\\x21-\\x7e]{1,2000}',
    'Compression: [a-z0-9]{0,16}',
    `(?:FileHash: (${hash})`,
    ')?(?:FileSize: [0-9]{1,15}',
    `)?NarHash: ${hash}`,
    'NarSize: [1-9][0-9]{0,14}',
    `References: (?:${storePathName}(?: ${storePathName})*)?`,
    `(?:Deriver: ${anything}`,
    `)?(?:System: ${anything}`,
    `)?(?:Sig: ${anything}`,
    `){0,64}(?:CA: ${anything}`,
    ')?$',
  ].join('\\n'),
);

/** `undefined` when it is none, or one in another form. */
export function usualNarInfo(text: string): UsualNarInfo | undefined {
  if (text.length > maxCharacters) return undefined;
  const [, storeDir, storeHash, fileHash] = pattern.exec(text) ?? [];
  if (storeDir === undefined || storeHash === undefined) return undefined;
  return {
    storeDir,
    storeHash: storeHash as StoreHash,
    fileHash: fileHash?.slice('sha256:'.length) as Sha256 | undefined,
  };
}
