/** Under which local URL a NAR file is served, and which request means it. docs/decisions/0002-absolute-urls.md. */

import { isIP } from 'node:net';
import { isCompression, narFileExtension } from '../nar/compression.ts';
import { NarswarmError } from '../nar/errors.ts';
import type { Sha256 } from '../nar/hash.ts';
import type { NarInfo } from '../nar/narinfo.ts';
import { parseStoreHash, type StoreHash, storeHashCharacters, storeHashOf } from '../nar/store-path.ts';
import { isPublicAddress } from '../upstream/public-address.ts';

/** Everything of our own that is not the binary cache protocol is below this. */
export const ownPrefix = '_narswarm/';

/** NAR files under names of our own making. */
const ownNarPrefix = `${ownPrefix}nar/`;

/** One that the URL parser leaves as it is: nearly all of them, and it takes longer than finding out so. */
const plainTarget = /^(?:\/[0-9A-Za-z_+=-][0-9A-Za-z._+=-]*)+$/;

/**
 * The path and query of a request, without the leading slash: what NAR URLs are looked up by.
 *
 * Dot segments are resolved and odd characters percent-encoded on both sides, as curl, and so Nix, does it before it
 * sends them. `undefined` when the target is no path.
 */
export function urlKeyOf(target: string): string | undefined {
  if (!target.startsWith('/')) return undefined;
  if (plainTarget.test(target)) return target.slice(1);
  try {
    const { pathname, search } = new URL(`http://narswarm.invalid${target}`);
    return pathname.slice(1) + search;
  } catch {
    return undefined;
  }
}

/** True for a URL that names its own server. Nix takes anything else as relative to the cache. */
export function isAbsoluteUrl(narUrl: string): boolean {
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(narUrl);
}

/**
 * True if the client would connect where an absolute URL of a cache leads: to a server that is configured, or to a public address.
 * A name that means a private address is only found out when it is connected to, and refused then.
 */
export function mayFollow(url: URL, caches: readonly { url: string }[]): boolean {
  if (caches.some((cache) => new URL(cache.url).origin === url.origin)) return true;
  const host = url.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
  if (isIP(host) !== 0) return isPublicAddress(host);
  return host !== 'localhost' && !host.endsWith('.localhost') && host.includes('.');
}

/** Begins with a slash or with what may be a scheme: some versions of Nix append it to the cache's URL, others resolve it, as browsers do. */
const readTwoWays = /^(?:\/|[a-z][a-z0-9+.-]*:)/i;

/** Of which all that is asked below is known: how nearly all caches name NAR files. */
const usualNarUrl = /^nar\/[0-9A-Za-z_+=-][0-9A-Za-z._+=-]*$/;

/** The key that Nix will ask for when it reads a relative URL in a narinfo of ours; `undefined` if we could not tell it apart. */
export function urlKeyOfNarUrl(narUrl: string): string | undefined {
  if (usualNarUrl.test(narUrl)) return narUrl;
  if (readTwoWays.test(narUrl)) return undefined;
  const key = urlKeyOf(`/${narUrl}`);
  if (key === undefined || key === '' || key === 'nix-cache-info' || key.startsWith(ownPrefix))
    return undefined;
  return storeHashOfNarInfoName(key) === undefined ? key : undefined;
}

/** The local URL for a NAR file whose own URL cannot be used here. */
export function ownUrlOf(narInfo: NarInfo): string {
  const extension = isCompression(narInfo.compression) ? narFileExtension(narInfo.compression) : '';
  const hash = narInfo.fileHash ?? narInfo.narHash;
  return `${ownNarPrefix}${storeHashOf(narInfo.storePath)}/${hash}.nar${extension}`;
}

/** True for keys that `ownUrlOf` makes. */
export function isOwnNarKey(key: string): boolean {
  return key.startsWith(ownNarPrefix);
}

/**
 * True for a key of which no other NAR file than this one can be meant, as long as all keys are such: it is named by the FileHash, as most caches
 * name theirs, or by us.
 */
export function isNamedByHash(key: string, fileHash: Sha256 | undefined): boolean {
  if (isOwnNarKey(key)) return true;
  return (
    fileHash !== undefined &&
    !key.includes('?') &&
    key.startsWith(`${fileHash}.nar`, key.lastIndexOf('/') + 1)
  );
}

const narInfoEnd = '.narinfo';

/** The store hash in `<store hash>.narinfo`. */
export function storeHashOfNarInfoName(name: string): StoreHash | undefined {
  if (name.length !== storeHashCharacters + narInfoEnd.length || !name.endsWith(narInfoEnd)) return undefined;
  try {
    return parseStoreHash(name.slice(0, storeHashCharacters));
  } catch (error) {
    if (error instanceof NarswarmError) return undefined;
    throw error;
  }
}
