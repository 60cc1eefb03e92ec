/** Hashes as Nix and BitTorrent spell them. Everywhere inside narswarm a SHA-256 is its 52 nix32 digits. */

import { NarswarmError } from './errors.ts';
import { nix32Decode, nix32Encode, nix32Length } from './nix32.ts';

declare const brand: unique symbol;

/** 52 nix32 digits: a FileHash or a NarHash. */
export type Sha256 = string & { readonly [brand]: 'Sha256' };
/** 40 lowercase hexadecimal digits: the SHA-1 of an info dictionary. */
export type InfoHash = string & { readonly [brand]: 'InfoHash' };

/** Bytes of a digest by algorithm: those that Nix knows. */
const digestBytes = { md5: 16, sha1: 20, sha256: 32, sha512: 64 } as const;
export type HashAlgorithm = keyof typeof digestBytes;

export interface Hash {
  algorithm: HashAlgorithm;
  digest: Buffer;
}

/** The longest spelling: `sha512:` and 128 hexadecimal digits. */
const hashMaxCharacters = 135;

/**
 * Reads `<algorithm>:<nix32 | hex | base64>` or SRI `<algorithm>-<base64>`; the encoding follows from the length.
 * `defaultAlgorithm` admits a bare digest. Throws `hash-invalid`.
 */
export function parseHash(text: string, defaultAlgorithm?: HashAlgorithm): Hash {
  if (text.length > hashMaxCharacters) throw invalid(text.slice(0, 32), 'it is too long');
  const match = /^(md5|sha1|sha256|sha512)([:-])/.exec(text);
  const algorithm = (match?.[1] as HashAlgorithm | undefined) ?? defaultAlgorithm;
  if (algorithm === undefined) throw invalid(text, 'it names no algorithm');
  const digits = text.slice(match?.[0].length ?? 0);
  return { algorithm, digest: parseDigest(text, digits, digestBytes[algorithm], match?.[2] === '-') };
}

/** Nix's own spelling. 52 digits have four bits more than there are, which must be 0. */
const plainSha256 = /^(?:sha256:)?([01][0-9a-df-np-sv-z]{51})$/;

/** Any spelling of a SHA-256, the bare digits too. Throws `hash-invalid`. */
export function parseSha256(text: string): Sha256 {
  const plain = plainSha256.exec(text)?.[1];
  if (plain !== undefined) return plain as Sha256;
  const { algorithm, digest } = parseHash(text, 'sha256');
  if (algorithm !== 'sha256') throw invalid(text, 'a SHA-256 is needed here');
  return sha256FromDigest(digest);
}

export function sha256FromDigest(digest: Uint8Array): Sha256 {
  if (digest.length !== digestBytes.sha256) throw invalid(`${digest.length} bytes`, 'a SHA-256 has 32');
  return nix32Encode(digest) as Sha256;
}

export function sha256ToDigest(hash: Sha256): Buffer {
  return nix32Decode(hash);
}

/** As Nix's writers spell it: `sha256:<nix32>`. */
export function printSha256(hash: Sha256): string {
  return `sha256:${hash}`;
}

/** 40 hexadecimal digits, in either case. Throws `hash-invalid`. */
export function parseInfoHash(text: string): InfoHash {
  if (!/^[0-9a-fA-F]{40}$/.test(text))
    throw invalid(text.slice(0, 64), 'an infohash is 40 hexadecimal digits');
  return text.toLowerCase() as InfoHash;
}

export function infoHashFromDigest(digest: Uint8Array): InfoHash {
  if (digest.length !== digestBytes.sha1) throw invalid(`${digest.length} bytes`, 'an infohash has 20');
  return Buffer.from(digest.buffer, digest.byteOffset, digest.length).toString('hex') as InfoHash;
}

export function infoHashToDigest(infoHash: InfoHash): Buffer {
  return Buffer.from(infoHash, 'hex');
}

function parseDigest(text: string, digits: string, lengthBytes: number, base64Only: boolean): Buffer {
  if (!base64Only && digits.length === lengthBytes * 2 && /^[0-9a-fA-F]+$/.test(digits)) {
    return Buffer.from(digits, 'hex');
  }
  if (!base64Only && digits.length === nix32Length(lengthBytes)) return nix32Decode(digits);
  const digest = Buffer.from(digits, 'base64');
  // Buffer ignores what is not base64: only text that encodes back to itself was base64.
  if (digest.length === lengthBytes && digest.toString('base64') === digits) return digest;
  throw invalid(text, 'its digits are neither nix32, nor hexadecimal, nor base64 of the right length');
}

function invalid(text: string, why: string): NarswarmError {
  return new NarswarmError('hash-invalid', `${JSON.stringify(text)} is not a hash: ${why}`);
}
