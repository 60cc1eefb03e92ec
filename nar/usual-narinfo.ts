/**
 * The narinfo as Nix's own writers make it, told from one pattern in a tenth of the time that reading its lines takes: who follows a
 * catalog reads millions, and Nix asks for those of a whole closure at once. What the pattern takes, the reader of lines takes, and finds the
 * same in it; a test compares them.
 */

import type { Sha256 } from './hash.ts';
import type { NarInfo } from './narinfo.ts';
import type { StoreHash, StorePath, StorePathName } from './store-path.ts';

export interface UsualNarInfo {
  readonly storeDir: string;
  readonly storeHash: StoreHash;
  /** If there is one in it. */
  readonly fileHash: Sha256 | undefined;
}

/** No more references than a narinfo may have fit in this. */
export const usualMaxCharacters = 32 * 1024;

const digit = '[0-9a-df-np-sv-z]';
/** For a class. */
const nameCharacters = '0-9a-zA-Z+\\-._?=';
const name = `(?!\\.\\.?[-\\n ])[${nameCharacters}]{1,211}`;
const storePathName = `${digit}{32}-${name}`;

/** Patterns of parts of the lines. */
export const usual = {
  storeDir: '(?:/[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}){1,16}',
  digit,
  nameCharacters,
  url: '[\\x21-\\x7e]{1,2000}',
  compression: '[a-z0-9]{0,16}',
  /** The hash itself is a group. */
  sha256: `sha256:([01]${digit}{51})`,
  size: '[1-9][0-9]{0,14}',
} as const;
const anything = '[\\x20-\\x7e]*';

const pattern = new RegExp(
  [
    `^StorePath: ((${usual.storeDir})/(${digit}{32})-${name})`,
    `URL: (${usual.url})`,
    `Compression: (${usual.compression})`,
    `(?:FileHash: ${usual.sha256}`,
    `)?(?:FileSize: (${usual.size})`,
    `)?NarHash: ${usual.sha256}`,
    `NarSize: (${usual.size})`,
    `References: (${storePathName}(?: ${storePathName})*)?`,
    `(?:Deriver: (${anything})`,
    `)?(?:System: (${anything})`,
    `)?((?:Sig: ${anything}`,
    `){0,64})(?:CA: (${anything})`,
    ')?$',
  ].join('\\n'),
);

/** `undefined` when it is none, or one in another form. */
export function usualNarInfo(text: string): UsualNarInfo | undefined {
  const [, , storeDir, storeHash, , , fileHash] = match(text) ?? [];
  if (storeDir === undefined || storeHash === undefined) return undefined;
  return { storeDir, storeHash: storeHash as StoreHash, fileHash: fileHash as Sha256 | undefined };
}

/** All that is in it; as `usualNarInfo`. */
export function readUsualNarInfo(text: string): NarInfo | undefined {
  const found = match(text);
  if (found === null) return undefined;
  const [, storePath, , , url, compression, fileHash, fileSize, narHash, narSize, references] = found;
  const [deriver, system, sigs, ca] = found.slice(11);
  const narInfo: { -readonly [Key in keyof NarInfo]: NarInfo[Key] } = {
    storePath: storePath as StorePath,
    url: url ?? '',
    compression: compression || 'bzip2',
    narHash: narHash as Sha256,
    narSize: Number(narSize),
    references: references === undefined ? [] : (references.split(' ') as StorePathName[]),
    sigs: sigs ? sigs.slice('Sig: '.length, -1).split('\nSig: ') : [],
    text,
  };
  if (fileHash !== undefined) narInfo.fileHash = fileHash as Sha256;
  if (fileSize !== undefined) narInfo.fileSize = Number(fileSize);
  if (deriver !== undefined) narInfo.deriver = deriver;
  if (system !== undefined) narInfo.system = system;
  if (ca) narInfo.ca = ca;
  return narInfo;
}

function match(text: string): RegExpExecArray | null {
  return text.length > usualMaxCharacters ? null : pattern.exec(text);
}
