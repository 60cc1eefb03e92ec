/** Addresses as 16 bytes: every spelling of one is the same, and what is none is not read. */

import { isIP } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import { AddressCounts } from '../../swarm/address/address-counts.ts';
import { AddressSet } from '../../swarm/address/address-set.ts';
import { IpAddress } from '../../swarm/address/ip-address.ts';
import { parseCompactPeers } from '../../swarm/address/peer-address.ts';

function read(text: string): IpAddress | undefined {
  const address = new IpAddress();
  return address.read(text) ? address : undefined;
}

t.test('an IPv4 address is the same inside an IPv6 one', async (t) => {
  for (const text of [
    '198.51.100.7',
    '::ffff:198.51.100.7',
    '::ffff:c633:6407',
    '0:0:0:0:0:ffff:198.51.100.7',
  ])
    t.match(
      read(text),
      { isIpv4: true, bytes: Buffer.from('00000000000000000000ffffc6336407', 'hex') },
      text,
    );
  t.match(read('2001:db8::7'), {
    isIpv4: false,
    bytes: Buffer.from('20010db8000000000000000000000007', 'hex'),
  });
});

t.test('what is no address is not read; what is one is what Node takes it for', async () => {
  const part = fc.oneof(
    fc.constantFrom('.', ':', '::', '256', '0', '1', 'ffff', '%eth0', ' ', '-1', '999999999999'),
    fc.string(),
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.array(part).map((parts) => parts.join('')),
        fc.ipV4(),
        fc.ipV6(),
      ),
      (text) => {
        const address = read(text);
        // Leading zeros are octal to some and decimal to others; Node takes neither, and no socket writes them.
        if (/(^|\.)0\d/.test(text)) return true;
        if ((address !== undefined) !== isIP(text) > 0) return false;
        if (address === undefined || address.isIpv4) return true;
        const [peer] = parseCompactPeers(Buffer.concat([address.bytes, Buffer.from([0, 1])]), 6);
        return read(peer?.host ?? '')?.bytes.equals(address.bytes) === true;
      },
    ),
    { numRuns: 2_000 },
  );
});

t.test('counts are by IPv4 address and by /64, never too small, and go down again', async (t) => {
  const counts = new AddressCounts();
  const of = (text: string): number => counts.of(read(text) ?? new IpAddress());
  const add = (text: string, change: number): void => counts.add(read(text) ?? new IpAddress(), change);
  add('198.51.100.1', 3);
  add('2001:db8::1', 1);
  add('2001:db8::2', 1);
  t.same(['198.51.100.1', '::ffff:198.51.100.1', '2001:db8::9', '2001:db8:0:1::9'].map(of), [3, 3, 2, 0]);
  for (let number = 0; number < 100_000; number++)
    add(`10.${number >> 16}.${(number >> 8) & 255}.${number & 255}`, 1);
  let wrong = 0;
  for (let number = 0; number < 100_000; number++)
    if (of(`10.${number >> 16}.${(number >> 8) & 255}.${number & 255}`) > 5) wrong++;
  t.ok(wrong < 100, `${wrong} of 100,000 addresses are counted more than five times for one`);
  for (let number = 0; number < 100_000; number++)
    add(`10.${number >> 16}.${(number >> 8) & 255}.${number & 255}`, -1);
  t.equal(of('198.51.100.1'), 3);
  counts.clear();
  t.equal(of('198.51.100.1'), 0);
});

t.test(
  'a set knows whom it saw, by IPv4 address and by /64, and takes hardly anybody else for one of them',
  async (t) => {
    const set = new AddressSet();
    const has = (text: string): boolean => set.has(read(text) ?? new IpAddress());
    const add = (text: string): void => set.add(read(text) ?? new IpAddress());
    const numbered = (first: number, number: number): string =>
      `${first}.${number >> 16}.${(number >> 8) & 255}.${number & 255}`;
    add('2001:db8::1');
    for (let number = 0; number < 5_000; number++) add(numbered(10, number));
    t.same(['2001:db8::9', '::ffff:10.0.0.1', '2001:db8:0:1::1'].map(has), [true, true, false]);
    let missed = 0;
    let wrong = 0;
    for (let number = 0; number < 5_000; number++) if (!has(numbered(10, number))) missed++;
    for (let number = 0; number < 100_000; number++) if (has(numbered(11, number))) wrong++;
    t.equal(missed, 0);
    t.ok(wrong < 20, `${wrong} of 100,000 others`);
    set.turn();
    add('10.0.0.1');
    t.ok(has('10.0.0.2'), 'for one turn at least');
    set.turn();
    t.same(['10.0.0.1', '10.0.0.2'].map(has), [true, false], 'what was added again stays');
  },
);
