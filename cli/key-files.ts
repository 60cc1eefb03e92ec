/** Makes key pairs and writes them, in Nix's own format. */

import { randomBytes } from 'node:crypto';
import { access, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { NarswarmError } from '../nar/errors.ts';
import {
  printPublicKey,
  printSecretKey,
  publicKeyOf,
  type SecretKey,
  secretKeyFromSeed,
} from '../nar/signature.ts';

/** Nix forbids only the colon; this also keeps names fit for files, shells and nix.conf. */
const keyNamePattern = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$/;

/** Throws config-invalid. */
export function parseKeyName(text: string): string {
  if (keyNamePattern.test(text)) return text;
  const hint =
    'up to 100 letters, digits and . _ + -, starting with a letter or digit, for instance cache.example-1';
  throw new NarswarmError('config-invalid', `${JSON.stringify(text)} is not a key name; write ${hint}`);
}

export function makeSecretKey(name: string): SecretKey {
  return secretKeyFromSeed(name, randomBytes(32));
}

export interface KeyFiles {
  secretFile: string;
  publicFile: string;
}

/** Writes NAME.secret (mode 0600) and NAME.public into `dir`. Throws store-failed rather than replace either. */
export async function writeKeyFiles(dir: string, key: SecretKey): Promise<KeyFiles> {
  const secretFile = join(dir, `${key.name}.secret`);
  const publicFile = join(dir, `${key.name}.public`);
  for (const file of [secretFile, publicFile]) if (await exists(file)) throw refusal(file);
  await writeNew(secretFile, `${printSecretKey(key)}\n`, 0o600);
  try {
    await writeNew(publicFile, `${printPublicKey(publicKeyOf(key))}\n`, 0o644);
  } catch (error) {
    await rm(secretFile);
    throw error;
  }
  return { secretFile, publicFile };
}

/** Creates `file`, synced to disk. Throws store-failed when it exists. */
export async function writeNew(file: string, text: string, mode: number): Promise<void> {
  try {
    await using handle = await open(file, 'wx', mode);
    await handle.writeFile(text);
    await handle.sync();
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'EEXIST') throw refusal(file);
    throw new NarswarmError('store-failed', `cannot write ${file}`, { cause });
  }
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}

function refusal(file: string): NarswarmError {
  return new NarswarmError('store-failed', `${file} exists; a key is never overwritten`);
}
