/** Store paths and their parts. Source: Nix, libstore `path.cc`. */

import { NarswarmError } from './errors.ts';

declare const brand: unique symbol;

/** `<store directory>/<store hash>-<name>`. */
export type StorePath = string & { readonly [brand]: 'StorePath' };
/** `<store hash>-<name>`, the last component of a store path. */
export type StorePathName = string & { readonly [brand]: 'StorePathName' };
/** 32 nix32 digits. */
export type StoreHash = string & { readonly [brand]: 'StoreHash' };

/** Nix allows names of 211 characters, so that `<hash>-<name>.lock` and the like stay within 255 bytes. */
export const storeNameMaxCharacters = 211;
/** No file system allows longer paths. */
export const storeDirMaxCharacters = 4096;

export const storeHashCharacters = 32;
const storeHash = /^[0-9a-df-np-sv-z]{32}$/;
/** Hash and name; not `.`, `..` and what begins with one of them and a dash. */
const storePathNameText = /^[0-9a-df-np-sv-z]{32}-(?!\.\.?(?:-|$))[0-9a-zA-Z+\-._?=]+$/;

/** Throws `store-path-invalid`. */
export function parseStoreHash(text: string): StoreHash {
  if (!storeHash.test(text)) throw invalid(text, 'a store hash is 32 nix32 digits');
  return text as StoreHash;
}

/** Throws `store-path-invalid`. */
export function parseStorePathName(text: string): StorePathName {
  if (text.length > storeHashCharacters + 1 + storeNameMaxCharacters)
    throw invalid(text, 'its name is too long');
  // One expression, as a narinfo may have thousands of references.
  if (!storePathNameText.test(text)) {
    parseStoreHash(text.slice(0, storeHashCharacters));
    throw invalid(text, 'it is not <hash>-<name>');
  }
  return text as StorePathName;
}

/** A path in any store directory. Throws `store-path-invalid`. */
export function parseStorePath(text: string): StorePath {
  if (text.length > storeDirMaxCharacters) throw invalid(text, 'it is too long');
  const slash = text.lastIndexOf('/');
  if (!text.startsWith('/') || slash < 1)
    throw invalid(text, 'it is not an absolute path in a store directory');
  const storeDir = text.slice(1, slash);
  // A zero byte ends a path for the kernel, and no tool prints control characters as they are.
  if (hasControlCharacter(storeDir) || storeDir.split('/').some((part) => ['', '.', '..'].includes(part))) {
    throw invalid(text, 'its store directory is not in plain form');
  }
  parseStorePathName(text.slice(slash + 1));
  return text as StorePath;
}

export function storePathName(path: StorePath): StorePathName {
  return path.slice(path.lastIndexOf('/') + 1) as StorePathName;
}

export function storeDirOf(path: StorePath): string {
  return path.slice(0, path.lastIndexOf('/'));
}

export function storeHashOf(path: StorePath | StorePathName): StoreHash {
  const start = path.lastIndexOf('/') + 1;
  return path.slice(start, start + storeHashCharacters) as StoreHash;
}

function hasControlCharacter(text: string): boolean {
  for (let i = 0; i < text.length; i++)
    if (text.charCodeAt(i) < 0x20 || text.charCodeAt(i) === 0x7f) return true;
  return false;
}

function invalid(text: string, why: string): NarswarmError {
  return new NarswarmError(
    'store-path-invalid',
    `${JSON.stringify(text.slice(0, 256))} is not a store path: ${why}`,
  );
}
