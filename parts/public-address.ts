/** Under which address others reach this seeder: a configured name, the address listened on, or the one they came to. */

import { lookup } from 'node:dns/promises';
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { LocalAddresses } from './local-address.ts';

/** A name is looked up anew this often, so that a moved seeder is found without a restart. */
export const lookupEveryMs = 10 * 60_000;
/** Addresses of one name that are told to peers. */
const addressesMax = 4;

export class PublicAddress {
  readonly #name: string | undefined;
  readonly #listenHost: string;
  readonly #local = new LocalAddresses(Date.now);
  #addresses: string[] = [];
  #timer: NodeJS.Timeout | undefined;

  private constructor(name: string | undefined, listenHost: string) {
    this.#name = name;
    this.#listenHost = listenHost;
  }

  /** `listenHost`: the address of the BitTorrent listener. A name that does not resolve yet is tried again later. */
  static async open(name: string | undefined, listenHost: string): Promise<PublicAddress> {
    const address = new PublicAddress(name, listenHost);
    if (name !== undefined && isIP(name) === 0) {
      await address.#look();
      address.#timer = setInterval(() => void address.#look(), lookupEveryMs);
      address.#timer.unref();
    }
    return address;
  }

  /** IP addresses, as trackers give them. `localAddress`: the one of ours that was reached, as the socket tells it. */
  addresses(localAddress: string | undefined): string[] {
    if (this.#name !== undefined) return isIP(this.#name) === 0 ? this.#addresses : [this.#name];
    if (!isWildcard(this.#listenHost)) return [this.#listenHost];
    const local = localAddress?.replace(/^::ffff:/, '');
    return local === undefined ? [] : [local];
  }

  /** The same for a packet whose socket listens on `boundHost` and does not say at which address it was reached. */
  addressesTowards(remoteAddress: string, boundHost: string): string[] {
    const needsLocal = this.#name === undefined && isWildcard(this.#listenHost) && isWildcard(boundHost);
    return this.addresses(needsLocal ? this.#local.towards(remoteAddress) : boundHost);
  }

  /** Base URL of the HTTP server on `port`, without a slash at the end. */
  url(request: IncomingMessage, port: number): string {
    const host = this.#name;
    if (host !== undefined) return `http://${urlHost(host)}:${port}`;
    // What the requester calls us goes back to it alone; what is no host and port goes nowhere.
    const asked = request.headers.host ?? '';
    if (hostAndPort.test(asked)) return `http://${asked}`;
    return `http://${urlHost(request.socket.localAddress ?? '127.0.0.1')}:${port}`;
  }

  /** URL of the UDP tracker that listens on `bound`. */
  udpUrl(request: IncomingMessage, bound: { host: string; port: number }): string {
    const asked = hostAndPort.exec(request.headers.host ?? '')?.[1];
    const reached = isWildcard(bound.host) ? asked : urlHost(bound.host);
    const host = this.#name === undefined ? reached : urlHost(this.#name);
    return `udp://${host ?? urlHost(request.socket.localAddress ?? '127.0.0.1')}:${bound.port}/announce`;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #look(): Promise<void> {
    if (this.#name === undefined) return;
    try {
      const found = await lookup(this.#name, { all: true });
      this.#addresses = found.slice(0, addressesMax).map(({ address }) => address);
    } catch {
      // The addresses known so far stay.
    }
  }
}

const hostAndPort = /^([0-9A-Za-z.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?$/;

function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

function urlHost(host: string): string {
  return isIP(host) === 6 ? `[${host}]` : host;
}
