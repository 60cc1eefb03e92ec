/** Which addresses somebody else's URL may lead to. */

import t from 'tap';
import { isPublicAddress } from '../../upstream/public-address.ts';

t.test('addresses of this machine, its networks and no single host are not public', async (t) => {
  for (const address of [
    '127.0.0.1',
    '127.255.255.255',
    '0.0.0.0',
    '10.1.2.3',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.1.1',
    '169.254.169.254',
    '100.64.0.1',
    '224.0.0.1',
    '255.255.255.255',
    '198.18.0.1',
    '::',
    '::1',
    '::127.0.0.1',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '::ffff:0:127.0.0.1',
    'fe80::1',
    'fe80::1%eth0',
    'fc00::1',
    'fd12:3456::1',
    'ff02::1',
    '64:ff9b::127.0.0.1',
    '64:ff9b::a00:1',
    '64:ff9b:1::127.0.0.1',
    '64:ff9b:1:a00:0:100::',
    '2001:0:4136:e378:8000:63bf:f5ff:fffe',
    '2002:7f00:1::',
    '2002:c0a8:101::1',
    '',
    'localhost',
    '1.2.3',
    'not an address',
  ]) {
    t.equal(isPublicAddress(address), false, address);
  }
});

t.test('other addresses are public', async (t) => {
  for (const address of [
    '1.1.1.1',
    '151.101.2.217',
    '172.32.0.1',
    '100.128.0.1',
    '2a04:4e42::729',
    '2606:4700::1',
    '::ffff:1.1.1.1',
    '64:ff9b::1.1.1.1',
    '2002:101:101::1',
  ]) {
    t.equal(isPublicAddress(address), true, address);
  }
});
