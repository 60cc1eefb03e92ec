/** Whom a fetch that is shared hears of while it runs. */

import t from 'tap';
import { SharedFetch } from '../../client/share/shared-fetch.ts';
import { fileOf } from '../swarm/fetch-fixture.ts';

t.test('who is named again and again takes nobody else a place', async (t) => {
  const { torrent } = fileOf(200_000);
  const fetch = new SharedFetch({
    torrent,
    listenPort: 1,
    peerId: Buffer.alloc(20),
    bytes: { checkedBytes: 0, read: async () => Buffer.alloc(0) },
    openHeld: async () => undefined,
    admits: () => true,
    tellsPeers: true,
  });
  const peer = (port: number) => ({ host: '192.0.2.1', port });
  for (let time = 0; time < 1_000; time++) fetch.addPeers([peer(1)]);
  fetch.addPeers([peer(2)]);
  t.same(fetch.peers, [peer(1), peer(2)]);
  fetch.addPeers(Array.from({ length: 1_000 }, (_, index) => peer(index + 1)));
  t.equal(fetch.peers.length, 200, 'and there is an end to it');
});
