/** What counts as one address when connections are limited per address. */
import { isIPv6 } from 'node:net';

/** An IPv4 address as it is, mapped ones included; of an IPv6 address the /64, since a single host gets one whole. */
export function addressKey(address: string): string {
  // Asked for every connection: most addresses are told apart by this alone.
  if (!address.includes(':') || !isIPv6(address)) return address;
  const plain = address.split('%')[0] ?? '';
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(plain)?.[1];
  if (mapped !== undefined) return mapped;
  const [front = '', back] = plain.split('::');
  const groups = front === '' ? [] : front.split(':');
  const tail = back === undefined || back === '' ? [] : back.split(':');
  // A dotted tail stands for two groups.
  const tailGroups = tail.length + (tail.at(-1)?.includes('.') ? 1 : 0);
  if (back !== undefined) {
    const zeros = Math.max(0, 8 - groups.length - tailGroups);
    groups.push(...new Array<string>(zeros).fill('0'), ...tail);
  }
  const network = groups.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16));
  return `${network.join(':')}::/64`;
}
