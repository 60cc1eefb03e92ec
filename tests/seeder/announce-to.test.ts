/** Other trackers hear of what was asked for, once, and a tracker that is away is no harm. */

import { once } from 'node:events';
import { createServer } from 'node:http';
import t from 'tap';
import { parseInfoHash } from '../../nar/hash.ts';
import { AnnounceTo } from '../../seeder/announce-to.ts';
import { Tracker } from '../../swarm/tracker/tracker.ts';
import { announceOverHttp } from '../../swarm/tracker/tracker-http.ts';
import { makePeerId } from '../../swarm/wire/wire-handshake.ts';
import { makeLogger } from '../../web/log.ts';

const infoHash = parseInfoHash('ab'.repeat(20));

t.test('what was asked for is announced as held, to every tracker, once', async (t) => {
  const tracker = new Tracker({ known: () => 'tracked', clock: Date.now });
  const server = createServer((request, response) => {
    const query = request.url?.split('?')[1] ?? '';
    response.end(announceOverHttp(tracker, { query, remoteAddress: '192.0.2.1', permanentPeers: () => [] }));
    server.emit('announced');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const said: string[] = [];
  const logger = { ...makeLogger({ level: 'error' }), warn: (event: string) => void said.push(event) };
  const urls = [`http://127.0.0.1:${address.port}/announce`, 'http://127.0.0.1:1/announce'];
  const announceTo = new AnnounceTo({ urls, peerId: makePeerId(), port: 6881, logger });
  t.teardown(() => announceTo.close());

  const announced = once(server, 'announced');
  for (let times = 0; times < 5; times++) announceTo.noteDemand(infoHash);
  await announced;
  t.same(tracker.peersOf(infoHash, 9), [{ host: '192.0.2.1', port: 6881 }]);
  t.equal(tracker.seedsOf(infoHash), 1);
  await Promise.all([announceTo.close(), announceTo.close()]);
  t.equal(tracker.status().announces, 1);
  announceTo.noteDemand(parseInfoHash('cd'.repeat(20)));
  t.equal(announceTo.status().torrents, 1, 'after its end it does nothing');
});

t.test('without other trackers nothing is remembered', async (t) => {
  const announceTo = new AnnounceTo({
    urls: [],
    peerId: makePeerId(),
    port: 1,
    logger: makeLogger({ level: 'error' }),
  });
  announceTo.noteDemand(infoHash);
  t.equal(announceTo.status().torrents, 0);
  await announceTo.close();
});
