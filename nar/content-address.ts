/**
 * Content-addressed store paths: those whose store hash follows from their contents, so that they need no signature.
 * Source: Nix, libstore `store-api.cc` (`makeStorePath`, `makeFixedOutputPath`, `makeTextPath`).
 */

import { createHash } from 'node:crypto';
import { isNarswarmError } from './errors.ts';
import { type Hash, parseHash, type Sha256, sha256FromDigest, sha256ToDigest } from './hash.ts';
import type { NarInfo } from './narinfo.ts';
import { nix32Encode } from './nix32.ts';
import {
  parseStorePath,
  type StorePath,
  type StorePathName,
  storeDirOf,
  storePathName,
} from './store-path.ts';

const storeHashBytes = 20;

/**
 * True if the store path is the one that Nix computes from the CA line and the references: what `nix` checks before it
 * takes a path without a signature. For `fixed:r:sha256` of a path without a reference to itself the CA line must also
 * hold the NarHash; text and flat hashes are of the contents inside the NAR, which Nix does not compare either.
 */
export function storePathFollowsFromCa(narInfo: NarInfo): boolean {
  if (narInfo.ca === undefined) return false;
  try {
    return expectedPath(narInfo, narInfo.ca) === narInfo.storePath;
  } catch (error) {
    // A CA line that cannot be read vouches for nothing.
    if (isNarswarmError(error, 'hash-invalid', 'store-path-invalid')) return false;
    throw error;
  }
}

/** The path of a directory added with `nix store add-path`: CA `fixed:r:sha256:<narHash>`. */
export function storePathForSource(source: {
  storeDir: string;
  name: string;
  narHash: Sha256;
  references: readonly StorePathName[];
  selfReference?: boolean;
}): StorePath {
  const { storeDir, name, narHash, references, selfReference = false } = source;
  const type = withReferences('source', references, storeDir, selfReference);
  return storePathOf(type, sha256ToDigest(narHash), storeDir, name);
}

function expectedPath(narInfo: NarInfo, ca: string): StorePath | undefined {
  const storeDir = storeDirOf(narInfo.storePath);
  const self = storePathName(narInfo.storePath);
  const name = self.slice(self.indexOf('-') + 1);
  const references = narInfo.references.filter((reference) => reference !== self);
  const selfReference = references.length < narInfo.references.length;
  const match = /^(text|fixed):(r:)?(.*)$/s.exec(ca);
  if (match?.[3] === undefined) return undefined;
  const hash = parseHash(match[3]);
  const recursive = match[2] !== undefined;
  if (match[1] === 'text') {
    if (recursive || selfReference || hash.algorithm !== 'sha256') return undefined;
    return storePathOf(withReferences('text', references, storeDir, false), hash.digest, storeDir, name);
  }
  if (recursive && hash.algorithm === 'sha256') {
    const narHash = sha256FromDigest(hash.digest);
    // The hash of a path that holds its own path leaves that out, and differs from the NarHash.
    if (!selfReference && narHash !== narInfo.narHash) return undefined;
    return storePathForSource({ storeDir, name, narHash, references, selfReference });
  }
  // Other fixed outputs cannot have references.
  if (narInfo.references.length > 0) return undefined;
  return storePathOf('output:out', fixedOutputDigest(recursive, hash), storeDir, name);
}

function fixedOutputDigest(recursive: boolean, hash: Hash): Buffer {
  const text = `fixed:out:${recursive ? 'r:' : ''}${hash.algorithm}:${hash.digest.toString('hex')}:`;
  return createHash('sha256').update(text).digest();
}

function withReferences(
  type: string,
  references: readonly StorePathName[],
  storeDir: string,
  selfReference: boolean,
): string {
  const paths = [...references].sort().map((name) => `:${storeDir}/${name}`);
  return `${type}${paths.join('')}${selfReference ? ':self' : ''}`;
}

/** `digest`: a SHA-256. */
function storePathOf(type: string, digest: Buffer, storeDir: string, name: string): StorePath {
  const text = `${type}:sha256:${digest.toString('hex')}:${storeDir}:${name}`;
  const hash = createHash('sha256').update(text).digest();
  return parseStorePath(`${storeDir}/${nix32Encode(fold(hash))}-${name}`);
}

/** Nix's `compressHash`: the bytes of a digest folded over each other. */
function fold(digest: Buffer): Buffer {
  const folded = Buffer.alloc(storeHashBytes);
  for (const [index, byte] of digest.entries()) {
    const at = index % storeHashBytes;
    folded[at] = (folded[at] ?? 0) ^ byte;
  }
  return folded;
}
