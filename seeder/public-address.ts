/** Under which address others reach this seeder: a configured name, the address listened on, or the one they came to. */

import { lookup } from 'node:dns/promises';
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';

/** A name is looked up anew this often, so that a moved seeder is found without a restart. */
export const lookupEveryMs = 10 * 60_000;
/** Addresses of one name that are told to peers. */
const addressesMax = 4;

export class PublicAddress {
  readonly #name: string | undefined;
  readonly #listenHost: string;
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
    if (this.#listenHost !== '0.0.0.0' && this.#listenHost !== '::') return [this.#listenHost];
    const local = localAddress?.replace(/^::ffff:/, '');
    return local === undefined ? [] : [local];
  }

  /** Base URL of the HTTP server on `port`, without a slash at the end. */
  url(request: IncomingMessage, port: number): string {
    const host = this.#name;
    if (host !== undefined) return `http://${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
    const asked = request.headers.host ?? '';
    // What the requester calls us goes back to it alone; what is no host and port goes nowhere.
    if (/^[0-9A-Za-z.-]{1,253}(:[0-9]{1,5})?$|^\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?$/.test(asked))
      return `http://${asked}`;
    const local = request.socket.localAddress ?? '127.0.0.1';
    return `http://${isIP(local) === 6 ? `[${local}]` : local}:${port}`;
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
