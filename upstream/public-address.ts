/**
 * Which addresses a URL that somebody else wrote may lead to. A narinfo's URL and a redirect are unsigned; without this
 * they could make narswarm ask the machine's own services, or those of its network.
 */

import { lookup as dnsLookup } from 'node:dns';
import { BlockList, isIP, isIPv6, type LookupFunction, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { buildConnector } from 'undici';

/** Not reachable by everybody: this machine, its networks, and what is no single host. RFC 6890 and its successors. */
const notPublic = new BlockList();
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const) {
  notPublic.addSubnet(network, prefix, 'ipv4');
}
for (const [network, prefix] of [
  ['fc00::', 7],
  ['fe80::', 10],
  ['fec0::', 10],
  ['ff00::', 8],
  ['100::', 64],
  // NAT64 of a site's own, and Teredo: what is behind them are IPv4 addresses that anybody may have chosen. RFC 8215, 4380.
  ['64:ff9b:1::', 48],
  ['2001::', 32],
] as const) {
  notPublic.addSubnet(network, prefix, 'ipv6');
}

/** False for loopback, private, link-local, shared, multicast and reserved addresses, also when written as IPv6. */
export function isPublicAddress(address: string): boolean {
  const bare = address.replace(/%.*$/, '');
  if (!isIPv6(bare)) return isIP(bare) === 4 && !notPublic.check(bare, 'ipv4');
  if (notPublic.check(bare, 'ipv6')) return false;
  const embedded = embeddedIPv4(groupsOf(bare));
  return embedded === undefined || !notPublic.check(embedded, 'ipv4');
}

/** Thrown, as the cause of a failed connection, for an address that is not public. */
export class AddressRefused extends Error {
  constructor(host: string) {
    super(`${host} is not a public address, and not the cache's own`);
  }
}

/**
 * A connector for undici that reaches public addresses alone. Names are looked up once and the addresses found are
 * both judged and connected to, so a name cannot mean one thing when it is judged and another when it is used.
 */
export function publicConnector(
  options: buildConnector.BuildOptions,
  lookup: LookupFunction = dnsLookup,
): buildConnector.connector {
  const connect = buildConnector({ ...options, lookup: publicLookup(lookup) });
  return (target, callback) => {
    // net does not look up what already is an address.
    const host = target.hostname.replace(/^\[|\]$/g, '');
    if (isIP(host) !== 0 && !isPublicAddress(host)) {
      queueMicrotask(() => callback(new AddressRefused(host), null));
      return;
    }
    connect(target, (...[error, socket]: ConnectResult) => {
      if (error !== null) {
        callback(error, null);
        return;
      }
      const address = socket.remoteAddress;
      if (address !== undefined && isPublicAddress(address)) {
        callback(null, socket);
        return;
      }
      socket.destroy();
      callback(new AddressRefused(target.hostname), null);
    });
  };
}

type ConnectResult = [null, Socket | TLSSocket] | [Error, null];

function publicLookup(lookup: LookupFunction): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, options, (error, address, family) => {
      if (error !== null) {
        callback(error, address, family);
        return;
      }
      const found = typeof address === 'string' ? [{ address, family: family ?? 0 }] : address;
      const allowed = found.filter((each) => isPublicAddress(each.address));
      const [first] = allowed;
      if (first === undefined) callback(new AddressRefused(hostname), []);
      else if (typeof address === 'string') callback(null, first.address, first.family);
      else callback(null, allowed);
    });
  };
}

/** The eight groups of an IPv6 address. */
function groupsOf(address: string): number[] {
  // The URL parser writes every spelling in the one canonical form, in hexadecimal throughout.
  const canonical = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [head = '', tail] = canonical.split('::');
  const numbers = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const [before, after] = [numbers(head), numbers(tail ?? '')];
  return [...before, ...new Array<number>(8 - before.length - after.length).fill(0), ...after];
}

/** The IPv4 address that is meant by a mapped, compatible (`::` and `::1` with them), NAT64 or 6to4 address. */
function embeddedIPv4(groups: number[]): string | undefined {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = groups;
  const print = (high: number, low: number): string => [high >> 8, high & 255, low >> 8, low & 255].join('.');
  if (a === 0x2002) return print(b, c);
  const nat64 = a === 0x64 && b === 0xff9b && (c | d | e | f) === 0;
  const zeros =
    (a | b | c | d) === 0 && ((e === 0 && (f === 0 || f === 0xffff)) || (e === 0xffff && f === 0));
  return nat64 || zeros ? print(g, h) : undefined;
}
