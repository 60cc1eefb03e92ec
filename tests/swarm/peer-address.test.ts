/** Addresses of peers as bytes and as text. */
import { isIP } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import { compactPeer, parseCompactPeers, parsePeer, printPeer } from '../../swarm/address/peer-address.ts';

const port = fc.integer({ min: 1, max: 65_535 });

t.test('known addresses have known bytes', async (t) => {
  t.equal(compactPeer({ host: '192.0.2.1', port: 6881 }).toString('hex'), 'c00002011ae1');
  const six = (host: string): string => compactPeer({ host, port: 1 }).toString('hex');
  t.equal(six('::1'), `${'0'.repeat(31)}10001`);
  t.equal(six('::'), `${'0'.repeat(32)}0001`);
  t.equal(six('2001:db8::5:0:1'), '20010db80000000000000005000000010001');
  t.equal(six('::ffff:192.0.2.1'), '00000000000000000000ffffc00002010001');
  t.equal(six('fe80::1%eth0'), 'fe8000000000000000000000000000010001');
  t.equal(compactPeer({ host: 'peer.example', port: 1 }).length, 0, 'a name has none');
});

t.test('compact peers come back as they were', async () => {
  fc.assert(
    fc.property(fc.array(fc.record({ host: fc.ipV4(), port })), (peers) => {
      const back = parseCompactPeers(Buffer.concat(peers.map(compactPeer)), 4);
      return (
        back.every((peer, at) => printPeer(peer) === printPeer(peers[at] ?? peer)) &&
        back.length === peers.length
      );
    }),
  );
  fc.assert(
    fc.property(fc.array(fc.record({ host: fc.ipV6(), port })), (peers) => {
      const bytes = Buffer.concat(peers.map(compactPeer));
      const back = parseCompactPeers(bytes, 6);
      return Buffer.concat(back.map(compactPeer)).equals(bytes) && back.every(({ host }) => isIP(host) === 6);
    }),
  );
});

t.test('any bytes are addresses or a tracker-failed, and port 0 is nobody', async (t) => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 100 }),
      fc.constantFrom(4 as const, 6 as const),
      (bytes, version) => {
        try {
          return parseCompactPeers(bytes, version).every(
            (peer) =>
              isIP(peer.host) === version && peer.port > 0 && parsePeer(printPeer(peer)) !== undefined,
          );
        } catch (error) {
          return error instanceof Error && 'code' in error && error.code === 'tracker-failed';
        }
      },
    ),
  );
  t.same(parseCompactPeers(Buffer.from('c00002010000c00002020001', 'hex'), 4), [
    { host: '192.0.2.2', port: 1 },
  ]);
});

t.test('text is read and written the same way', async (t) => {
  for (const text of ['192.0.2.1:80', '[2001:db8::1]:65535', 'peer-1.example.org:1']) {
    const peer = parsePeer(text);
    t.equal(peer && printPeer(peer), text);
  }
  for (const text of [
    '',
    '192.0.2.1',
    ':80',
    'peer:0',
    'peer:65536',
    'peer:-1',
    'peer:1e3',
    '2001:db8::1:80',
    '[192.0.2.1]:80',
    '[zz::]:80',
    'user@peer:80',
    'peer/x:80',
    'peer:80 ',
    ' peer:80',
    `${'a'.repeat(254)}:80`,
  ])
    t.equal(parsePeer(text), undefined, JSON.stringify(text));
});
