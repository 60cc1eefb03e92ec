/** Under which address of this machine somebody else reached it, for a UDP socket that listens on all of them and does not say. */

import { BlockList, isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';

/** Milliseconds for which the machine's addresses are taken to stay as they are. */
const interfacesForMs = 60_000;

export interface LocalNetwork {
  address: string;
  family: 'ipv4' | 'ipv6';
  /** The loopback interface. */
  internal: boolean;
  /** The addresses reached without a gateway. */
  neighbours: BlockList;
}

export class LocalAddresses {
  readonly #read: () => LocalNetwork[];
  readonly #clock: () => number;
  #networks: LocalNetwork[] = [];
  #readAtMs = Number.NEGATIVE_INFINITY;

  constructor(clock: () => number, read: () => LocalNetwork[] = readNetworks) {
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

function readNetworks(): LocalNetwork[] {
  return Object.values(networkInterfaces()).flatMap((addresses = []) =>
    // Link-local addresses mean something on one link only, and not to those who are told of them.
    addresses
      .filter(({ address, cidr }) => cidr !== null && !address.startsWith('fe80:'))
      .map(({ address, family, internal, cidr }) => {
        const kind = family === 'IPv6' ? 'ipv6' : 'ipv4';
        const neighbours = new BlockList();
        neighbours.addSubnet(address, Number(cidr?.split('/')[1]), kind);
        return { address, family: kind, internal, neighbours } as const;
      }),
  );
}
