/** Ed25519 keys and signatures in Nix's form `name:base64`. Source: Nix, libstore `crypto.cc`. */

import {
  createPrivateKey,
  createPublicKey,
  sign as edSign,
  verify as edVerify,
  type KeyObject,
} from 'node:crypto';
import { NarswarmError } from './errors.ts';
import { fingerprint, type NarInfo, withSignature } from './narinfo.ts';

/** On a thread of the pool. */
function edVerifyAside(text: string, key: KeyObject, sig: Buffer): Promise<boolean> {
  return new Promise((resolve, reject) => {
    edVerify(null, Buffer.from(text), key, sig, (error, right) => (error ? reject(error) : resolve(right)));
  });
}

export interface PublicKey {
  readonly name: string;
  /** 32 bytes. */
  readonly bytes: Buffer;
  readonly key: KeyObject;
}

export interface SecretKey {
  readonly name: string;
  /** 32 bytes. */
  readonly seed: Buffer;
  readonly key: KeyObject;
  readonly publicKey: PublicKey;
}

/** Key names are like host names with a number; a bound keeps hostile ones out of logs. */
export const keyNameMaxCharacters = 255;

const publicBytes = 32;
const seedBytes = 32;
const signatureBytes = 64;
/** DER headers that wrap the raw bytes of an Ed25519 key (RFC 8410). */
const publicHeader = Buffer.from('302a300506032b6570032100', 'hex');
const secretHeader = Buffer.from('302e020100300506032b657004220420', 'hex');

/** Throws `key-invalid`. */
export function parsePublicKey(text: string): PublicKey {
  const { name, bytes } = parseNamed(text, publicBytes, 'public');
  return publicKey(name, bytes);
}

/** `name:base64(seed ‖ public)`, 64 bytes. Throws `key-invalid`, also when the two halves do not belong together. */
export function parseSecretKey(text: string): SecretKey {
  const { name, bytes } = parseNamed(text, seedBytes + publicBytes, 'secret');
  const secret = secretKeyFromSeed(name, bytes.subarray(0, seedBytes));
  if (!secret.publicKey.bytes.equals(bytes.subarray(seedBytes))) {
    throw new NarswarmError('key-invalid', 'the two halves of the secret key do not belong together');
  }
  return secret;
}

/** Throws `key-invalid`. */
export function secretKeyFromSeed(name: string, seed: Uint8Array): SecretKey {
  if (seed.length !== seedBytes)
    throw new NarswarmError('key-invalid', `a key's seed has ${seedBytes} bytes`);
  checkName(name);
  const key = createPrivateKey({ key: Buffer.concat([secretHeader, seed]), format: 'der', type: 'pkcs8' });
  const der = createPublicKey(key).export({ format: 'der', type: 'spki' });
  return {
    name,
    seed: Buffer.from(seed),
    key,
    publicKey: publicKey(name, der.subarray(publicHeader.length)),
  };
}

export function publicKeyOf(secret: SecretKey): PublicKey {
  return secret.publicKey;
}

export function printPublicKey({ name, bytes }: PublicKey): string {
  return `${name}:${bytes.toString('base64')}`;
}

export function printSecretKey({ name, seed, publicKey: { bytes } }: SecretKey): string {
  return `${name}:${Buffer.concat([seed, bytes]).toString('base64')}`;
}

/** The signature of `text`, as a Sig line holds it: `name:base64`. */
export function sign(secret: SecretKey, text: string): string {
  return `${secret.name}:${edSign(null, Buffer.from(text), secret.key).toString('base64')}`;
}

/** The 64 bytes of the signature alone, for formats that are not Nix's. */
export function signBytes(secret: SecretKey, message: Uint8Array): Buffer {
  return edSign(null, message, secret.key);
}

/** Whether the holder of the key with these 32 bytes signed `message`. */
export function verifyBytes(publicBytesOfKey: Uint8Array, message: Uint8Array, sig: Uint8Array): boolean {
  if (publicBytesOfKey.length !== publicBytes || sig.length !== signatureBytes) return false;
  return edVerify(null, message, keyObject(publicBytesOfKey), sig);
}

/** The name of the key in `keys` that made the signature; `undefined` when none did, or the signature is malformed. */
export function verifySignature(keys: readonly PublicKey[], text: string, sig: string): string | undefined {
  const { name, bytes, candidates } = readSignature(keys, sig);
  return candidates.some(({ key }) => edVerify(null, Buffer.from(text), key, bytes)) ? name : undefined;
}

/** The keys that may have made it, by their name; none when it is malformed. */
function readSignature(keys: readonly PublicKey[], sig: string) {
  const colon = sig.indexOf(':');
  const name = sig.slice(0, Math.max(colon, 0));
  const bytes = parseBase64(sig.slice(colon + 1));
  if (colon < 1 || bytes?.length !== signatureBytes) return { name, bytes: Buffer.alloc(0), candidates: [] };
  return { name, bytes, candidates: keys.filter((key) => key.name === name) };
}

/** The name of the key that made the first valid one of `sigs`: any one is enough, and the others do no harm. */
export function verifySignatures(
  keys: readonly PublicKey[],
  text: string,
  sigs: readonly string[],
): string | undefined {
  for (const sig of sigs) {
    const name = verifySignature(keys, text, sig);
    if (name !== undefined) return name;
  }
  return undefined;
}

/** The same beside this thread: for whoever has a thousand to verify and others to answer meanwhile. */
export async function verifySignaturesAside(
  keys: readonly PublicKey[],
  text: string,
  sigs: readonly string[],
): Promise<string | undefined> {
  for (const sig of sigs) {
    const { name, bytes, candidates } = readSignature(keys, sig);
    for (const { key } of candidates) if (await edVerifyAside(text, key, bytes)) return name;
  }
  return undefined;
}

/** The name of the first key in `keys` with a valid signature on the narinfo: any one is enough. */
export function verifyNarInfo(narInfo: NarInfo, keys: readonly PublicKey[]): string | undefined {
  return verifySignatures(keys, fingerprint(narInfo), narInfo.sigs);
}

/** The narinfo with one more Sig line. */
export function signNarInfo(narInfo: NarInfo, secret: SecretKey): NarInfo {
  return withSignature(narInfo, sign(secret, fingerprint(narInfo)));
}

function publicKey(name: string, bytes: Buffer): PublicKey {
  return { name, bytes, key: keyObject(bytes) };
}

function keyObject(bytes: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([publicHeader, bytes]), format: 'der', type: 'spki' });
}

function parseNamed(text: string, lengthBytes: number, kind: string): { name: string; bytes: Buffer } {
  const trimmed = text.trim();
  const colon = trimmed.indexOf(':');
  const name = trimmed.slice(0, Math.max(colon, 0));
  checkName(name);
  const bytes = parseBase64(trimmed.slice(colon + 1));
  if (bytes?.length !== lengthBytes) {
    throw new NarswarmError(
      'key-invalid',
      `the ${kind} key ${JSON.stringify(name)} is not ${lengthBytes} bytes of base64`,
    );
  }
  return { name, bytes };
}

function checkName(name: string): void {
  if (name === '' || name.length > keyNameMaxCharacters || /[^\x21-\x7e]|:/.test(name)) {
    throw new NarswarmError('key-invalid', 'a key is written name:base64, the name without spaces or colons');
  }
}

/** `undefined` for text that is not base64 in its one canonical form. */
function parseBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
}
