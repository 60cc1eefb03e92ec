/** Keys on the command line: as they are, or in a file. */

import { existsSync, readFileSync } from 'node:fs';
import { NarswarmError } from '../nar/errors.ts';
import { type PublicKey, parsePublicKey, parseSecretKey, type SecretKey } from '../nar/signature.ts';

/** The key that Nix trusts when nobody configured anything. */
export const cacheNixosOrgKey = 'cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=';

/** Keys of one machine fit in a fraction of this. */
const keyFileMaxBytes = 65_536;

/**
 * `name:base64`, `@FILE` or the path of a file. A file may hold several keys between spaces or newlines, as
 * trusted-public-keys does. Throws config-invalid.
 */
export function readPublicKeys(text: string): PublicKey[] {
  if (text.startsWith('@')) return parsePublicKeys(readKeyFile(text.slice(1)));
  try {
    return [parsePublicKey(text)];
  } catch (cause) {
    if (existsSync(text)) return parsePublicKeys(readKeyFile(text));
    throw new NarswarmError(
      'config-invalid',
      `${JSON.stringify(text)} is neither a public key NAME:BASE64 nor a file`,
      {
        cause,
      },
    );
  }
}

/** From a file that `narswarm keygen` or `nix-store --generate-binary-cache-key` made. Throws config-invalid. */
export function readSecretKey(path: string): SecretKey {
  const text = readKeyFile(path.replace(/^@/, '')).trim();
  try {
    return parseSecretKey(text);
  } catch (cause) {
    // The content stays out of the message: it might be a secret after all.
    throw new NarswarmError('config-invalid', `${path} does not hold a secret key NAME:BASE64`, { cause });
  }
}

function parsePublicKeys(text: string): PublicKey[] {
  const words = text.split(/\s+/).filter((word) => word !== '');
  if (words.length === 0) throw new NarswarmError('config-invalid', 'the key file is empty');
  return words.map((word) => {
    try {
      return parsePublicKey(word);
    } catch (cause) {
      throw new NarswarmError('config-invalid', 'the key file does not hold public keys NAME:BASE64', {
        cause,
      });
    }
  });
}

function readKeyFile(path: string): string {
  try {
    const bytes = readFileSync(path);
    if (bytes.length > keyFileMaxBytes) throw new Error(`longer than ${keyFileMaxBytes} bytes`);
    return bytes.toString('utf8');
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new NarswarmError('config-invalid', `cannot read the key file ${path}: ${why}`, { cause });
  }
}
