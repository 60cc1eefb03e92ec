/** Which addresses are on this machine or on the networks that it is attached to. */

import { BlockList, isIP } from 'node:net';
import { networkInterfaces } from 'node:os';

/** The interfaces are looked at again after this long: a laptop changes its network. */
const freshMs = 30_000;

let known: { networks: BlockList; sinceMs: number } | undefined;

/** Host names are not: what they stand for is not asked. */
export function isOnLocalNetwork(host: string): boolean {
  const nowMs = performance.now();
  if (known === undefined || nowMs - known.sinceMs > freshMs)
    known = { networks: attachedNetworks(networkInterfaces()), sinceMs: nowMs };
  return isIn(known.networks, host);
}

export function isIn(networks: BlockList, host: string): boolean {
  const version = isIP(host);
  return version !== 0 && networks.check(host, version === 6 ? 'ipv6' : 'ipv4');
}

/** The networks of these interfaces, loopback included; without those that one interface alone is on. */
export function attachedNetworks(interfaces: ReturnType<typeof networkInterfaces>): BlockList {
  const networks = new BlockList();
  for (const { cidr, family } of Object.values(interfaces).flatMap((addresses) => addresses ?? [])) {
    const [network, bits] = cidr?.split('/') ?? [];
    if (network !== undefined) networks.addSubnet(network, Number(bits), family === 'IPv6' ? 'ipv6' : 'ipv4');
  }
  return networks;
}
