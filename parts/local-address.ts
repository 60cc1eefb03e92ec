/** Under which address of this machine somebody else reached it, for a UDP socket that listens on all of them and does not say. */

import { isIPv6 } from 'node:net';
import {
  isLinkLocal,
  readNetworks,
  type LocalNetwork as SwarmNetwork,
} from '../swarm/local/local-networks.ts';

/** Milliseconds for which the machine's addresses are taken to stay as they are. */
const interfacesForMs = 60_000;

export type LocalNetwork = Omit<SwarmNetwork, 'name'>;

export class LocalAddresses {
  readonly #read: () => LocalNetwork[];
  readonly #clock: () => number;
  #networks: LocalNetwork[] = [];
  #readAtMs = Number.NEGATIVE_INFINITY;

  constructor(clock: () => number, read: () => LocalNetwork[] = readReachable) {
    this.#clock = clock;
    this.#read = read;
  }

  /** The address in the network of `remoteAddress`, or else the machine's first one of that family. */
  towards(remoteAddress: string): string | undefined {
    const plain = remoteAddress.replace(/^::ffff:(?=\d+\.)/, '').replace(/%.*$/, '');
    const family = isIPv6(plain) ? 'ipv6' : 'ipv4';
    const networks = this.#current().filter((network) => network.family === family);
    const near = networks.find(({ neighbours }) => neighbours.check(plain, family));
    return (near ?? networks.find(({ internal }) => !internal))?.address;
  }

  #current(): LocalNetwork[] {
    const now = this.#clock();
    if (now - this.#readAtMs >= interfacesForMs) {
      this.#networks = this.#read();
      this.#readAtMs = now;
    }
    return this.#networks;
  }
}

/** Link-local addresses mean something on one link only, and not to those who are told of them. */
function readReachable(): LocalNetwork[] {
  return readNetworks().filter(({ address }) => !isLinkLocal(address));
}
