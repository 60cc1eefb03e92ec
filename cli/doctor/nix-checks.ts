/** What is wrong with how Nix is set up to use a client. Pure. */

import { cacheInfoDefaultStoreDir } from '../../nar/cache-info.ts';
import { type NetrcEntry, netrcEntryFor, parseNetrc } from '../../upstream/netrc.ts';
import type { ClientSetup } from './client-setup.ts';
import { type Finding, ok, problem, warning } from './finding.ts';
import { type Env, type NixSetup, wordsOf } from './nix-setup.ts';

/** From here on Nix goes on to the next substituter when one answers with an error of its own. */
const version5xx = [2, 32];
const cacheNixosOrg = 'cache.nixos.org';
const cacheNixosOrgPriority = 40;

/** `url`: of the client. `client`: what it says of itself; missing when it does not answer. `isRoot`: who runs Nix here. */
export function nixChecks(
  nix: NixSetup | undefined,
  url: string,
  client: ClientSetup | undefined,
  env: Env,
  isRoot: boolean,
): Finding[] {
  if (nix === undefined) {
    return [
      warning(
        'Nix',
        'there is no Nix and no nix.conf on this machine',
        `on machines with Nix: substituters = ${url} …`,
      ),
    ];
  }
  return [
    versionCheck(nix),
    ...substituterChecks(nix, url, client, isRoot),
    keyCheck(nix, client),
    storeDirCheck(nix, client),
    fallbackCheck(nix, url),
    ...netrcChecks(nix, client),
    ...proxyChecks(env, url),
  ].filter((finding) => finding !== undefined);
}

function versionCheck({ version }: NixSetup): Finding {
  const about = 'Nix';
  if (version === undefined)
    return warning(
      about,
      'its program does not run here; only its files were read',
      'install it, or run this where it is',
    );
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [newMajor = 0, newMinor = 0] = version5xx;
  if (major > newMajor || (major === newMajor && minor >= newMinor)) return ok(about, `version ${version}`);
  return ok(
    about,
    `version ${version}; before ${version5xx.join('.')} a substituter that answers a narinfo with an error (5xx) ends the whole command. This client never does: it says 404, and Nix goes on`,
  );
}

function substituterChecks(
  nix: NixSetup,
  url: string,
  client: ClientSetup | undefined,
  isRoot: boolean,
): Finding[] {
  const about = 'substituters';
  if (nix.settings.get('substitute') === 'false')
    return [
      problem(about, 'Nix takes nothing from substituters at all', 'remove substitute = false from nix.conf'),
    ];
  const all = wordsOf(nix, 'substituters');
  const own = all.find((each) => isSame(each, url));
  if (own === undefined) {
    const line = `substituters = ${[url, ...all].join(' ')}`;
    return wordsOf(nix, 'trusted-substituters').some((each) => isSame(each, url))
      ? [
          warning(
            about,
            'the client is only among trusted-substituters: it is used by whoever names it',
            `write into nix.conf: ${line}`,
          ),
        ]
      : [
          problem(
            about,
            `the client at ${url} is not among them, so Nix never asks it`,
            `write into ${nix.machineFile.path}: ${line}`,
          ),
        ];
  }
  return [orderCheck(all, own, client), ...machineCheck(nix, url, isRoot)];
}

/** Nix asks those of a lower priority first, and for equal ones in the order in which they are written. */
function orderCheck(all: readonly string[], own: string, client: ClientSetup | undefined): Finding {
  const about = 'substituters';
  const mine = priorityIn(own) ?? client?.priority ?? 30;
  const others = all.filter((each) => each !== own);
  const before = others.filter((each) => {
    const theirs = priorityIn(each) ?? (hostOf(each) === cacheNixosOrg ? cacheNixosOrgPriority : undefined);
    if (theirs === undefined) return false;
    return theirs < mine || (theirs === mine && all.indexOf(each) < all.indexOf(own));
  });
  const [first] = before;
  if (first !== undefined) {
    return warning(
      about,
      `${first} is asked before the client (lower priority numbers are asked first; the client's is ${mine})`,
      `give the client a lower one: ${own.replace(/\?.*/, '')}?priority=10`,
    );
  }
  if (others.length === 0) {
    return warning(
      about,
      'the client is the only one: while it is stopped, Nix has none',
      `write into nix.conf: substituters = ${own} https://${cacheNixosOrg}`,
    );
  }
  return ok(about, `the client comes first (priority ${mine}), then ${others.join(' ')}`);
}

/** The daemon goes by the configuration of the machine, and by that of a user only if it trusts him. */
function machineCheck({ machineFile, source }: NixSetup, url: string, isRoot: boolean): Finding[] {
  if (isRoot || source !== 'nix' || machineFile.text === undefined) return [];
  if (machineFile.text.includes(new URL(url).host) || /include/.test(machineFile.text)) return [];
  return [
    warning(
      'substituters',
      `the client is named in your own configuration and not in ${machineFile.path}: the Nix daemon ignores that unless you are among its trusted-users`,
      `name it in ${machineFile.path}`,
    ),
  ];
}

function keyCheck(nix: NixSetup, client: ClientSetup | undefined): Finding | undefined {
  const about = 'trusted-public-keys';
  if (nix.settings.get('require-sigs') === 'false')
    return warning(
      about,
      'require-sigs = false: Nix takes what nobody has signed',
      'remove it from nix.conf',
    );
  if (client === undefined) return undefined;
  const trusted = new Set(wordsOf(nix, 'trusted-public-keys'));
  const missing = client.trustedKeys.filter((key) => !trusted.has(key));
  const catalogs = client.catalogKeys.filter((key) => trusted.has(key) && !client.trustedKeys.includes(key));
  const [catalog] = catalogs;
  if (missing.length > 0) {
    return problem(
      about,
      `Nix does not trust ${missing.map(nameOf).join(', ')}, whose paths the client gives`,
      `write into nix.conf: extra-trusted-public-keys = ${missing.join(' ')}`,
    );
  }
  if (catalog !== undefined) {
    return warning(
      about,
      `${nameOf(catalog)} is the key of a catalog, which signs torrents and no store paths`,
      'remove it from nix.conf: only the keys of caches belong there',
    );
  }
  return ok(about, `Nix trusts ${client.trustedKeys.map(nameOf).join(', ')}`);
}

function storeDirCheck(
  { storeDir = cacheInfoDefaultStoreDir }: NixSetup,
  client: ClientSetup | undefined,
): Finding | undefined {
  const about = 'store directory';
  const { storeDir: theirs } = client ?? {};
  if (theirs === undefined) return undefined;
  if (theirs === storeDir) return ok(about, storeDir);
  return problem(
    about,
    `the caches behind the client are of ${theirs}, and this Nix is of ${storeDir}: it ignores the client`,
    `use caches that were built for ${storeDir}`,
  );
}

function fallbackCheck(nix: NixSetup, url: string): Finding {
  const about = 'fallback';
  const others = wordsOf(nix, 'substituters').filter((each) => !isSame(each, url));
  if (nix.settings.get('fallback') === 'true') return ok(about, 'what no substituter can give is built here');
  const text = 'what all substituters fail to give fails the command, and is not built here';
  return others.length > 0
    ? ok(about, text)
    : warning(about, text, 'write into nix.conf: fallback = true, or name another substituter');
}

function netrcChecks(nix: NixSetup, client: ClientSetup | undefined): Finding[] {
  const file = nix.settings.get('netrc-file');
  if (client === undefined || client.netrc || file === undefined || nix.netrcText === undefined) return [];
  const entries = readNetrc(nix.netrcText, file);
  const hosts = client.upstreams.map((upstream) => new URL(upstream).hostname);
  const known = hosts.filter((host) => netrcEntryFor(entries, host) !== undefined);
  if (known.length === 0) return [];
  return [
    problem(
      'logins',
      `${file} has a login for ${known.join(', ')}, and the client does not know it`,
      `start the client with --netrc ${file}`,
    ),
  ];
}

/** What is wrong in it is for Nix to say. */
function readNetrc(text: string, file: string): NetrcEntry[] {
  try {
    return parseNetrc(text, file);
  } catch {
    return [];
  }
}

function proxyChecks(env: Env, url: string): Finding[] {
  const set = ['http_proxy', 'HTTP_PROXY', 'https_proxy', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY'].filter(
    (name) => (env[name] ?? '') !== '',
  );
  if (set.length === 0) return [];
  const { hostname, protocol } = new URL(url);
  const without = (env.no_proxy ?? env.NO_PROXY ?? '').split(',').map((each) => each.trim());
  const isFree = without.some(
    (each) =>
      each === '*' || each === hostname || (each !== '' && hostname.endsWith(`.${each.replace(/^\./, '')}`)),
  );
  const takes = set.some(
    (name) => name.toLowerCase().startsWith(protocol.slice(0, -1)) || name.toLowerCase() === 'all_proxy',
  );
  const findings = [
    warning(
      'proxy',
      `${set.join(', ')} is set: Nix goes through it, and the client does not`,
      'let the client reach its upstreams, catalogs and peers directly',
    ),
  ];
  if (takes && !isFree) {
    findings.unshift(
      problem(
        'proxy',
        `Nix would ask a proxy for the client at ${hostname}`,
        `set no_proxy=${[...without, hostname].filter((each) => each !== '').join(',')} for Nix and its daemon`,
      ),
    );
  }
  return findings;
}

function isSame(substituter: string, url: string): boolean {
  const plain = (text: string): string => text.replace(/\?.*/, '').replace(/\/+$/, '');
  if (plain(substituter) === plain(url)) return true;
  const [one, other] = [substituter, url].map((text) => (URL.canParse(text) ? new URL(text) : undefined));
  if (one === undefined || other === undefined) return false;
  const host = (each: URL): string => (each.hostname === 'localhost' ? '127.0.0.1' : each.hostname);
  return one.protocol === other.protocol && host(one) === host(other) && one.port === other.port;
}

function priorityIn(substituter: string): number | undefined {
  const text = /[?&]priority=(\d+)/.exec(substituter)?.[1];
  return text === undefined ? undefined : Number(text);
}

function hostOf(substituter: string): string | undefined {
  return URL.canParse(substituter) ? new URL(substituter).hostname : undefined;
}

function nameOf(key: string): string {
  return key.split(':')[0] ?? key;
}
