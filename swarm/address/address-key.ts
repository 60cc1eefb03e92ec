/** What counts as one address when connections are limited per address. */
import { isIPv6 } from 'node:net';

/** An IPv4 address as it is, mapped ones included; of an IPv6 address the /64, since a single host gets one whole. */
export function addressKey(address: string): string {
  // Asked for every connection: most addresses are told apart by this alone.
  if (!address.includes(':') || !isIPv6(address)) return address;
  return ipv4In(address) ?? `${ipv6Groups(address).join(':')}::/64`;
}

/** What probably belongs to one site: the /24 of an IPv4 address, the /48 of an IPv6 one. */
export function networkKey(address: string): string {
  const ipv4 = isIPv6(address) ? ipv4In(address) : address;
  if (ipv4 === undefined) return `${ipv6Groups(address).slice(0, 3).join(':')}::/48`;
  return `${ipv4.split('.').slice(0, 3).join('.')}.0/24`;
}

function ipv4In(address: string): string | undefined {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(withoutZone(address))?.[1];
}

/** The first four. */
function ipv6Groups(address: string): string[] {
  const [front = '', back] = withoutZone(address).split('::');
  const groups = front === '' ? [] : front.split(':');
  const tail = back === undefined || back === '' ? [] : back.split(':');
  // A dotted tail stands for two groups.
  const tailGroups = tail.length + (tail.at(-1)?.includes('.') ? 1 : 0);
  if (back !== undefined) {
    const zeros = Math.max(0, 8 - groups.length - tailGroups);
    groups.push(...new Array<string>(zeros).fill('0'), ...tail);
  }
  return groups.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16));
}

function withoutZone(address: string): string {
  return address.split('%')[0] ?? '';
}
