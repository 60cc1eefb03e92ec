/** A peer that gives wrong blocks is found, and not asked again: not for another NAR file, and not after a restart. */

import t from 'tap';
import { openBadPeer } from '../helpers/bad-peer.ts';
import { fetchNar, Lab, statusOf, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

const [first, second, third] = [1, 2, 3].map((n) =>
  madeNar({ name: `nar-${n}`, sizeBytes: 700_000, compression: 'none' }),
) as [ReturnType<typeof madeNar>, ReturnType<typeof madeNar>, ReturnType<typeof madeNar>];

t.test('who spoilt a piece is banned, also after a restart', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([first, second, third]);
  const good = `127.0.0.1:${catalog.seedPort}`;
  const lying = await openBadPeer(good, 'lying');
  t.teardown(() => lying.close());
  const ended = async (client: Parameters<typeof statusOf>[0]): Promise<void> =>
    until(() => statusOf(client).transfers.running.length === 0);

  // Nobody can be taken for the liar but itself.
  catalog.peers = [lying.address];
  const config = { noUpstream: true, limits: { swarmPatienceMs: 200 } };
  const client = await lab.client([], [catalog], config);
  t.not((await fetchNar(client, first)).status, 200);
  await ended(client);
  const asked = lying.accepted();
  t.ok(asked > 0, 'it was asked');

  catalog.peers = [lying.address, good];
  t.ok((await fetchNar(client, second)).body.equals(second.bytes));
  t.equal(lying.accepted(), asked, 'it is not, for the next file');
  await ended(client);
  await client.close();
  const restarted = await lab.client([], [catalog], config);
  t.ok((await fetchNar(restarted, third)).body.equals(third.bytes));
  t.equal(lying.accepted(), asked, 'nor after a restart');
  await ended(restarted);
  t.match(statusOf(restarted).nars, { swarm: 1 });
});
