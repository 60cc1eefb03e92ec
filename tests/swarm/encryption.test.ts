/** Which encrypted handshakes are taken. */

import t from 'tap';
import { NamedTorrents } from '../../swarm/wire/encrypted-handshake.ts';
import { Encryption } from '../../swarm/wire/encryption.ts';
import { seedLimits } from '../../swarm/wire/limits.ts';

function encryption(encryptedHandshakesPerSecond: number): { shared: Encryption; clock: { nowMs: number } } {
  const clock = { nowMs: 5_000 };
  const limits = { ...seedLimits, encryptedHandshakesPerSecond };
  return { shared: new Encryption(new NamedTorrents(1), limits, () => clock.nowMs), clock };
}

t.test('so many in a second, and as many again in the next one', async (t) => {
  const { shared, clock } = encryption(2);
  const taken = (): boolean[] =>
    [1, 2, 3].map((host) => shared.options(`10.0.0.${host}`, () => {}).mayDecrypt());
  t.same(taken(), [true, true, false]);
  clock.nowMs += 1_000;
  t.same(taken(), [true, true, false]);
});

t.test(
  'none from an address where a peer insisted on encryption, and it costs the others nothing',
  async (t) => {
    const { shared } = encryption(2);
    shared.options('10.0.0.1', () => {}).insists();
    for (let again = 0; again < 5; again++) t.notOk(shared.options('10.0.0.1', () => {}).mayDecrypt());
    t.ok(shared.options('10.0.0.2', () => {}).mayDecrypt());
  },
);
