/** Announcing to HTTP trackers, ours and hostile ones. */
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { isNarswarmError } from '../../nar/errors.ts';
import { parseInfoHash } from '../../nar/hash.ts';
import { bencode } from '../../swarm/bencode.ts';
import { Tracker } from '../../swarm/tracker/tracker.ts';
import {
  type Announce,
  announce,
  announceIntervalMaxSeconds,
  announceIntervalMinSeconds,
  announceMaxBytes,
  announceMaxPeers,
} from '../../swarm/tracker/tracker-client.ts';
import { announceOverHttp } from '../../swarm/tracker/tracker-http.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

const infoHash = parseInfoHash('00ff2026'.repeat(5));
const about = { infoHash, peerId: Buffer.from('-NS0001-\x00\xff&=%+/ abc?', 'latin1'), port: 6881 };
const amounts = { uploaded: 1, downloaded: 2, left: 3 };

t.beforeEach((t) => provesNothingStaysOpen(t));

/** A tracker that answers so, for the time of the test; and an announce to it. */
async function lab(t: Test, listener: RequestListener, path = '/announce') {
  const server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const address = server.address();
  const port = address !== null && typeof address === 'object' ? address.port : 0;
  const url = `http://127.0.0.1:${port}${path}`;
  return {
    url,
    ask: (options: Partial<Announce> = {}) => announce({ url, ...about, ...amounts, ...options }),
  };
}

/** A tracker that answers with these bytes. */
function answering(t: Test, body: Buffer | string, status = 200) {
  return lab(t, (_request, response) => response.writeHead(status).end(body));
}

t.test('our own tracker understands it, every byte of infohash and peer id', async (t) => {
  const tracker = new Tracker({
    known: (asked) => (asked === infoHash ? 'seeded' : undefined),
    clock: () => 0,
  });
  const { ask } = await lab(t, (request, response) => {
    const query = (request.url ?? '').split('?')[1] ?? '';
    const remoteAddress = request.socket.remoteAddress ?? '';
    const permanentPeers = () => [
      { host: '192.0.2.1', port: 1 },
      { host: '2001:db8::1', port: 2 },
    ];
    response.end(announceOverHttp(tracker, { query, remoteAddress, permanentPeers }));
  });
  t.same(await ask({ event: 'started', numWant: 10 }), {
    intervalSeconds: 1_800,
    peers: [
      { host: '192.0.2.1', port: 1 },
      { host: '2001:db8::1', port: 2 },
    ],
  });
  t.same(tracker.peersOf(infoHash, 9), [{ host: '127.0.0.1', port: 6881 }]);
  await ask({ event: 'stopped' });
  t.same(tracker.peersOf(infoHash, 9), []);
  await t.rejects(ask({ infoHash: parseInfoHash('11'.repeat(20)) }), {
    code: 'tracker-failed',
    message: /does not know the torrent/,
  });
});

t.test('a key in the tracker’s own URL is kept', async (t) => {
  let asked = '';
  const { ask } = await lab(
    t,
    (request, response) => {
      asked = request.url ?? '';
      response.end(bencode({ interval: 60 }));
    },
    '/announce?key=a%20b',
  );
  await ask();
  t.match(asked, /^\/announce\?key=a%20b&info_hash=%00%ff%20%26/);
});

t.test('peers in the long form are read, those that are none are left out', async (t) => {
  const peers = [
    { ip: '192.0.2.1', port: 1, 'peer id': 'x'.repeat(20) },
    { ip: '2001:db8::1', port: 2 },
    { ip: 'peer.example', port: 3 },
    { ip: '192.0.2.1', port: 0 },
    { ip: '192.0.2.1', port: 65_536 },
    { ip: 'a b', port: 4 },
    { ip: 5, port: 4 },
    { port: 4 },
    'no dictionary',
  ];
  const { ask } = await answering(t, bencode({ interval: 60, peers }));
  t.same((await ask()).peers, [
    { host: '192.0.2.1', port: 1 },
    { host: '2001:db8::1', port: 2 },
    { host: 'peer.example', port: 3 },
  ]);
});

t.test('what a tracker asks for is bounded', async (t) => {
  const many = Buffer.alloc(6 * (announceMaxPeers + 50), 1);
  for (const [interval, seconds] of [
    [-5, announceIntervalMinSeconds],
    [0, announceIntervalMinSeconds],
    [2 ** 40, announceIntervalMaxSeconds],
  ] as const) {
    const { ask } = await answering(t, bencode({ interval, peers: many }));
    const answer = await ask();
    t.equal(answer.intervalSeconds, seconds);
    t.equal(answer.peers.length, announceMaxPeers);
  }
});

t.test('keys in any order are taken: some trackers do not sort', async (t) => {
  const { ask } = await answering(t, 'd5:peers0:8:intervali60ee');
  t.equal((await ask()).intervalSeconds, 60);
});

t.test('hostile answers are a tracker-failed', async (t) => {
  const answers: [string, Buffer | string, number?][] = [
    ['nothing', ''],
    ['a page', '<html>Welcome</html>'],
    ['a list', 'le'],
    ['no interval', bencode({ peers: Buffer.alloc(6, 1) })],
    ['half a peer', bencode({ interval: 60, peers: Buffer.alloc(7, 1) })],
    ['a number of peers', bencode({ interval: 60, peers: 5 })],
    ['deeply nested', 'l'.repeat(100_000)],
    ['a string that is longer than the answer', 'd99999999999:'],
    ['a failure', bencode({ 'failure reason': 'go away' })],
    ['status 500', bencode({ interval: 60 }), 500],
    ['a redirect', bencode({ interval: 60 }), 302],
    ['too much', Buffer.alloc(announceMaxBytes + 1, 0x61)],
  ];
  for (const [name, body, status] of answers) {
    const { ask } = await answering(t, body, status);
    await t.rejects(ask(), { code: 'tracker-failed' }, name);
  }
});

t.test('an answer without end is broken off', async (t) => {
  let closed: Promise<unknown> | undefined;
  const { ask } = await lab(t, (_request, response) => {
    closed = once(response, 'close');
    response.on('error', () => {});
    const more = (): void => {
      while (!response.destroyed && response.write(Buffer.alloc(64 * 1024))) {}
    };
    response.on('drain', more);
    more();
  });
  await t.rejects(ask(), { code: 'tracker-failed', message: /too long/ });
  await closed;
});

t.test('an answer that is cut short, or is no HTTP, is a tracker-failed', async (t) => {
  for (const bytes of ['HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nd8:inter', 'SSH-2.0-x\r\n', '']) {
    const server = createTcpServer((socket) => {
      socket.on('error', () => {});
      socket.on('data', () => socket.end(bytes));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = address !== null && typeof address === 'object' ? address.port : 0;
    const asked = announce({ url: `http://127.0.0.1:${port}/announce`, ...about, ...amounts });
    await t.rejects(asked, { code: 'tracker-failed' }, JSON.stringify(bytes));
    await new Promise((resolve) => server.close(resolve));
  }
});

t.test('what is no HTTP tracker, or not there, is a tracker-failed', async (t) => {
  for (const url of [
    'udp://127.0.0.1:1/announce',
    'nonsense',
    'http://127.0.0.1:1/announce',
    'file:///etc/passwd',
  ])
    await t.rejects(announce({ url, ...about, ...amounts }), { code: 'tracker-failed' }, url);
});

t.test('the signal ends the wait, and the connection', async (t) => {
  const abort = new AbortController();
  let closed: Promise<unknown> | undefined;
  const { ask } = await lab(t, (request) => {
    closed = once(request.socket, 'close');
    abort.abort();
  });
  await t.rejects(ask({ signal: abort.signal }), { code: 'aborted' });
  await closed;
  await t.rejects(ask({ signal: AbortSignal.abort() }), { code: 'aborted' });
});

t.test('no answer does more than be refused', async (t) => {
  let body = Buffer.alloc(0);
  const { ask } = await lab(t, (_request, response) => response.end(body));
  const value = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 3 },
      fc.maxSafeInteger(),
      fc.string(),
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(fc.constantFrom('ip', 'port', 'x'), tie('value')),
    ),
  })).value;
  const answer = fc.oneof(
    fc.uint8Array().map((bytes) => Buffer.from(bytes)),
    fc
      .record({ interval: value, peers: value, peers6: value, 'failure reason': value }, { requiredKeys: [] })
      .map((record) => bencode(record as Parameters<typeof bencode>[0])),
  );
  await fc.assert(
    fc.asyncProperty(answer, async (bytes) => {
      body = Buffer.from(bytes);
      try {
        const { intervalSeconds, peers } = await ask();
        return intervalSeconds >= 60 && peers.every(({ port }) => port > 0 && port < 65_536);
      } catch (error) {
        return isNarswarmError(error, 'tracker-failed');
      }
    }),
    { numRuns: 200 },
  );
});
