/**
 * The networks that this machine is on: who is near, and so fast to ask; and who belongs to a private one of them, with whom something is
 * shared that strangers should not have.
 */

import { readFileSync } from 'node:fs';
import { BlockList, isIP, isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';

/** Milliseconds for which the machine's networks are taken to stay as they are: a laptop that was carried elsewhere is noticed soon. */
export const networksForMs = 10_000;

export interface LocalNetwork {
  /** Of the interface. */
  name: string;
  address: string;
  family: 'ipv4' | 'ipv6';
  /** The loopback interface. */
  internal: boolean;
  /** The addresses reached without a gateway. */
  neighbours: BlockList;
}

/** Addresses that nobody outside of a site can have. RFC 1918, 3927, 4193, 4291. */
const privateAddresses = new BlockList();
for (const [network, prefix] of [
  ['10.0.0.0', 8],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16],
] as const) {
  privateAddresses.addSubnet(network, prefix, 'ipv4');
}
privateAddresses.addAddress('::1', 'ipv6');
privateAddresses.addSubnet('fc00::', 7, 'ipv6');
privateAddresses.addSubnet('fe80::', 10, 'ipv6');

/** What Linux says in `/sys/class/net/NAME/type` of Ethernet, Wi-Fi and bridges; tunnels, a VPN's among them, are something else. */
const ethernetType = '1';

export class LocalNetworks {
  readonly #read: () => LocalNetwork[];
  readonly #clock: () => number;
  #networks: LocalNetwork[] = [];
  #readAtMs = Number.NEGATIVE_INFINITY;

  constructor(clock: () => number, read: () => LocalNetwork[] = readNetworks) {
    this.#clock = clock;
    this.#read = read;
  }

  /**
   * True for this machine and for its neighbours: private, link-local or unique local addresses that are reached without a gateway. One in a
   * public network is none, although it is reached so: at a hoster the neighbours are strangers.
   */
  has(address: string): boolean {
    return isIn(privateAddresses, plainAddress(address)) && this.reaches(address);
  }

  /** True for this machine and for whoever is reached without a gateway, whatever the address. Host names are not: what they stand for is not asked. */
  reaches(address: string): boolean {
    const plain = plainAddress(address);
    return this.all().some(({ neighbours }) => isIn(neighbours, plain));
  }

  /** Those that a listener on `host` is in: its own, or for a wildcard all but loopback, as far as they are private and no tunnels. */
  of(host: string): LocalNetwork[] {
    const isWildcard = host === '0.0.0.0' || host === '::';
    return this.all().filter(({ name, address, family, internal }) => {
      if (!privateAddresses.check(plainAddress(address), family)) return false;
      if (!isWildcard) return plainAddress(address) === plainAddress(host);
      return !internal && (family === 'ipv4' || host === '::') && !isTunnel(name);
    });
  }

  all(): LocalNetwork[] {
    const now = this.#clock();
    if (now - this.#readAtMs >= networksForMs) {
      this.#networks = this.#read();
      this.#readAtMs = now;
    }
    return this.#networks;
  }
}

const ofThisMachine = new LocalNetworks(() => performance.now());

/** Whether a peer is reached without a gateway. */
export function isNear(host: string): boolean {
  return ofThisMachine.reaches(host);
}

/** False for what is no address. */
export function isIn(networks: BlockList, address: string): boolean {
  const version = isIP(address);
  return version !== 0 && networks.check(address, version === 6 ? 'ipv6' : 'ipv4');
}

/** Link-local addresses have their zone, as in `fe80::1%eth0`: without it nobody can be reached there. */
export function readNetworks(): LocalNetwork[] {
  return Object.entries(networkInterfaces()).flatMap(([name, addresses = []]) =>
    addresses
      .filter(({ cidr }) => cidr !== null)
      .map(({ address, family, internal, cidr }) => {
        const kind = family === 'IPv6' ? 'ipv6' : 'ipv4';
        const neighbours = new BlockList();
        neighbours.addSubnet(address, Number(cidr?.split('/')[1]), kind);
        const zone = isLinkLocal(address) ? `%${name}` : '';
        return { name, address: `${address}${zone}`, family: kind, internal, neighbours } as const;
      }),
  );
}

export function isLinkLocal(address: string): boolean {
  return /^fe[89ab][0-9a-f]:/i.test(address);
}

/** Without a zone; an IPv4 address in an IPv6 one as IPv4. */
function plainAddress(address: string): string {
  const bare = address.replace(/%.*$/, '');
  return isIPv6(bare) ? bare.replace(/^::ffff:(?=\d+\.)/i, '') : bare;
}

function isTunnel(name: string): boolean {
  try {
    return readFileSync(`/sys/class/net/${name}/type`, 'utf8').trim() !== ethernetType;
  } catch {
    // Not Linux: nothing is known of it.
    return false;
  }
}
