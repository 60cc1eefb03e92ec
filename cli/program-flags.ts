/** Flags and defaults that the long-running programs share. */

import { homedir } from 'node:os';
import { join } from 'node:path';
import { NarswarmError } from '../nar/errors.ts';
import { many, optional } from './flags.ts';
import { cacheNixosOrgKey, readPublicKeys } from './key-flags.ts';
import { parseHost } from './units.ts';

/** Where the client listens, and where `status` looks first. */
export const clientHttpDefault = '127.0.0.1:8420';
export const seederHttpDefault = '127.0.0.1:8421';
/** BitTorrent's own port. */
export const seederPeersDefault = '127.0.0.1:6881';
/** Beside a seeder on the same machine. Reached from outside only with --share. */
export const clientPeersDefault = '0.0.0.0:6882';

export const mirrorHttpDefault = '127.0.0.1:8422';
/** A mirror is of use only where it is reached. */
export const mirrorPeersDefault = '0.0.0.0:6883';

/** systemd's StateDirectory= when it is set, else where the XDG rules put data. */
export function defaultDataDir(role: string, env: Readonly<Record<string, string | undefined>>): string {
  // With several directories in StateDirectory= the first is taken.
  const stateDir = env.STATE_DIRECTORY?.split(':')[0];
  if (stateDir !== undefined && stateDir !== '') return stateDir;
  return join(env.XDG_DATA_HOME || join(homedir(), '.local', 'share'), 'narswarm', role);
}

export const trustedKeyFlag = many({
  value: 'KEY',
  help: 'public key of a cache, NAME:BASE64 or a file of them',
  parse: readPublicKeys,
  fallback: [cacheNixosOrgKey],
});

export const publicHostFlag = optional({
  value: 'NAME',
  help: 'name or address under which other machines reach --peers',
  parse: parseHost,
});

/** The base URL of something that speaks HTTP, without the slash at its end. Throws config-invalid. */
export function parseHttpUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.search !== '' || url.hash !== '') {
    throw new NarswarmError(
      'config-invalid',
      `${JSON.stringify(text)} is not a URL; write http://… or https://…`,
    );
  }
  return url.href.replace(/\/+$/, '');
}

/** A store directory in plain form. Throws config-invalid. */
export function parseNixStoreDir(text: string): string {
  if (/^(\/[^/]+)+$/.test(text) && !text.split('/').some((part) => part === '.' || part === '..'))
    return text;
  throw new NarswarmError(
    'config-invalid',
    `${JSON.stringify(text)} is not a store directory; write /nix/store`,
  );
}

/** A binary cache: a directory as `file:///dir`, or `http(s)://`. Throws config-invalid. */
export function parseSource(text: string): string {
  if (/^https?:/i.test(text)) return parseHttpUrl(text);
  const url = /^file:/i.test(text) && URL.canParse(text) ? new URL(text) : undefined;
  if (url?.host === '' && text.slice(5).startsWith('///') && url.search === '' && url.hash === '') {
    return url.href.replace(/(?<!\/\/)\/+$/, '');
  }
  const hint = text.startsWith('/')
    ? `write file://${text}`
    : 'write file:///directory, http://… or https://…';
  throw new NarswarmError('config-invalid', `${JSON.stringify(text)} is not a source; ${hint}`);
}
