/**
 * Keeps web pages from what a client tells of itself, as what was installed here is nobody's business.
 *
 * A page cannot read what another origin answers, unless its own name is made to point to this machine after it was loaded: then the request
 * names a host that is none of ours. So pages below `/_narswarm/` are given under addresses and known names alone, and not to what other sites
 * embed or script.
 *
 * Narinfos and NAR files are for Nix, under whatever name it was told. Browsers are told apart by what they send with each request and Nix with none:
 * by how soon a narinfo comes any page could otherwise find out what is installed here, and read private caches by a name that points to us.
 */

import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import type { RequestHandler } from '../../web/app.ts';
import { ownPrefix } from '../local-url.ts';

/** Host names besides localhost under which the client is known. */
export type KnownNames = ReadonlySet<string>;

export function knownNames(names: readonly string[]): KnownNames {
  return new Set(names.map(plainName));
}

/** True for a request that a web page of others makes a browser send, for whatever it is. */
export function isOfStrangePage({ headers }: IncomingMessage, known: KnownNames): boolean {
  const { 'accept-language': language, 'sec-fetch-site': site, origin } = headers;
  if (language === undefined && site === undefined && origin === undefined) return false;
  return isOfAnotherSite(headers) || !isKnownHost(headers.host, known);
}

export function guardPages(known: KnownNames): RequestHandler {
  return (request, response, next) => {
    const { path, headers } = request;
    const isPage = path.startsWith(`/${ownPrefix}`) && !path.startsWith(`/${ownPrefix}nar/`);
    if (!isPage && !isOfStrangePage(request, known)) next();
    else if (!isKnownHost(headers.host, known)) {
      refuse(
        response,
        'this client is not known by that name: use its address, or start it with --public-host NAME',
      );
    } else if (isOfAnotherSite(headers)) refuse(response, 'not for other web sites');
    else next();
  };
}

/** Only programs of before HTTP/1.1 name no host; browsers always do. */
function isKnownHost(host: string | undefined, known: KnownNames): boolean {
  if (host === undefined) return true;
  const name = hostName(host);
  if (name === undefined) return false;
  // What an address or localhost means nobody's name server says.
  return isIP(name) !== 0 || name === 'localhost' || name.endsWith('.localhost') || known.has(name);
}

/** Whoever follows a link to a page may see it: the site that linked cannot. */
function isOfAnotherSite(headers: NodeJS.Dict<string | string[]>): boolean {
  const { origin, host } = headers;
  if (typeof origin === 'string' && origin.toLowerCase() !== `http://${String(host).toLowerCase()}`)
    return true;
  const isLink = headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-dest'] === 'document';
  return headers['sec-fetch-site'] === 'cross-site' && !isLink;
}

/** `Host` without its port; an IPv6 address without brackets. */
function hostName(host: string): string | undefined {
  try {
    const url = new URL(`http://${host}`);
    return url.host !== '' && url.pathname === '/' && url.username === ''
      ? plainName(url.hostname)
      : undefined;
  } catch {
    return undefined;
  }
}

function plainName(name: string): string {
  return name
    .toLowerCase()
    .replace(/^\[|\]$/g, '')
    .replace(/\.$/, '');
}

function refuse(response: Parameters<RequestHandler>[1], why: string): void {
  response.status(403).set('Cache-Control', 'no-store').type('text/plain').send(`${why}\n`);
}
