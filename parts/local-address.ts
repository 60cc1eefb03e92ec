/** Under which address of this machine somebody else reached it, for a UDP socket that listens on all of them and does not say. */

import { isIPv6 } from 'node:net';
import {
  isLinkLocal,
  type LocalNetwork,
  LocalNetworks,
  readNetworks,
} from '../swarm/local/local-networks.ts';

export class LocalAddresses {
  readonly #networks: LocalNetworks;

  constructor(clock: () => number, read: () => LocalNetwork[] = readReachable) {
    this.#networks = new LocalNetworks(clock, read);
  }

  /** The address in the network of `remoteAddress`, or else the machine's first one of that family. */
  towards(remoteAddress: string): string | undefined {
    const plain = remoteAddress.replace(/^::ffff:(?=\d+\.)/, '').replace(/%.*$/, '');
    const family = isIPv6(plain) ? 'ipv6' : 'ipv4';
    const networks = this.#networks.all().filter((network) => network.family === family);
    const near = networks.find(({ neighbours }) => neighbours.check(plain, family));
    return (near ?? networks.find(({ internal }) => !internal))?.address;
  }
}

/** Link-local addresses mean something on one link only, and not to those who are told of them. */
function readReachable(): LocalNetwork[] {
  return readNetworks().filter(({ address }) => !isLinkLocal(address));
}
