/**
 * An IP address as its 16 bytes, an IPv4 address as ::ffff:a.b.c.d: the form in which the tracker keeps and compares
 * them. One object is read into again and again, so that a packet costs no garbage.
 */

import { isIP } from 'node:net';
import { compactPeer } from './peer-address.ts';

const mappedPrefix = '::ffff:';
/** The third group of four bytes of an IPv4 address. */
const mappedWord = 0x0000ffff;

export class IpAddress {
  readonly bytes = Buffer.alloc(16);
  readonly view = new DataView(this.bytes.buffer, this.bytes.byteOffset, 16);
  isIpv4 = false;

  /** Reads an address as Node's sockets give it, an IPv4 address in an IPv6 one as IPv4. False for what is none. */
  read(text: string): boolean {
    if (this.#readIpv4(text, 0)) return true;
    if (text.startsWith(mappedPrefix) && this.#readIpv4(text, mappedPrefix.length)) return true;
    if (isIP(text) !== 6) return false;
    this.bytes.set(compactPeer({ host: text, port: 0 }).subarray(0, 16));
    this.isIpv4 =
      this.view.getInt32(0) === 0 && this.view.getInt32(4) === 0 && this.view.getUint32(8) === mappedWord;
    return true;
  }

  /** The half that says who it is: the whole of an IPv4 address, the /64 of an IPv6 one, since a single host gets one whole. */
  get groupOffset(): 0 | 8 {
    return this.isIpv4 ? 8 : 0;
  }

  #readIpv4(text: string, from: number): boolean {
    let address = 0;
    let octet = -1;
    let octets = 0;
    for (let index = from; index < text.length; index++) {
      const code = text.charCodeAt(index);
      if (code === 46) {
        if (octet < 0 || octet > 255 || ++octets > 3) return false;
        address = (address << 8) | octet;
        octet = -1;
      } else if (code >= 48 && code <= 57) octet = (octet < 0 ? 0 : octet * 10) + code - 48;
      else return false;
    }
    if (octets !== 3 || octet < 0 || octet > 255) return false;
    this.view.setInt32(0, 0);
    this.view.setInt32(4, 0);
    this.view.setUint32(8, mappedWord);
    this.view.setInt32(12, (address << 8) | octet);
    this.isIpv4 = true;
    return true;
  }
}
