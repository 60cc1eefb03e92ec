import fc from 'fast-check';
import t from 'tap';
import { parseInfoHash } from '../../nar/hash.ts';
import {
  localPacketMaxBytes,
  localPacketMaxInfoHashes,
  parseLocalAnnounce,
  printLocalAnnounce,
} from '../../swarm/local/local-packets.ts';

const first = parseInfoHash('ab'.repeat(20));
const second = parseInfoHash('cd'.repeat(20));
const group = '239.192.152.143:6771';

const text = (lines: string[]): Buffer => Buffer.from(`${lines.join('\r\n')}\r\n\r\n\r\n`);

t.test('a packet is written as the BEP has it, and read again', async (t) => {
  const packet = printLocalAnnounce(group, { port: 6882, infoHashes: [first, second], cookie: 'x-ask' });
  t.equal(
    packet.toString(),
    `BT-SEARCH * HTTP/1.1\r\nHost: ${group}\r\nPort: 6882\r\nInfohash: ${first}\r\nInfohash: ${second}\r\ncookie: x-ask\r\n\r\n\r\n`,
  );
  t.same(parseLocalAnnounce(packet), { port: 6882, infoHashes: [first, second], cookie: 'x-ask' });
});

t.test('the largest packet fits into one frame', async (t) => {
  const infoHashes = Array.from({ length: localPacketMaxInfoHashes }, (_, index) =>
    parseInfoHash(index.toString(16).padStart(40, '0')),
  );
  const packet = printLocalAnnounce('[ff15::efc0:988f]:6771', {
    port: 65_535,
    infoHashes,
    cookie: 'c'.repeat(64),
  });
  t.ok(packet.length <= localPacketMaxBytes, `${packet.length} bytes`);
  t.same(parseLocalAnnounce(packet)?.infoHashes, infoHashes);
});

t.test('what other programs write is read: capitals, other order, unknown lines, no cookie', async (t) => {
  const packet = text([
    'BT-SEARCH * HTTP/1.1',
    `INFOHASH: ${first.toUpperCase()}`,
    'X-Other: 1',
    'port:51413',
    `Host: ${group}`,
  ]);
  t.same(parseLocalAnnounce(packet), { port: 51_413, infoHashes: [first], cookie: undefined });
});

t.test('what is no announce is refused', async (t) => {
  const line = 'BT-SEARCH * HTTP/1.1';
  const infoHash = `Infohash: ${first}`;
  for (const [what, packet] of [
    ['nothing', Buffer.alloc(0)],
    ['another request', text(['GET / HTTP/1.1', 'Port: 1', infoHash])],
    ['no port', text([line, infoHash])],
    ['port 0', text([line, 'Port: 0', infoHash])],
    ['a port that is none', text([line, 'Port: 70000', infoHash])],
    ['a negative port', text([line, 'Port: -1', infoHash])],
    ['two ports', text([line, 'Port: 1', 'Port: 2', infoHash])],
    ['no infohash', text([line, 'Port: 1'])],
    ['an infohash that is none', text([line, 'Port: 1', 'Infohash: abc'])],
    ['an infohash after the end', text([line, 'Port: 1', '', infoHash])],
    ['too long', text([line, 'Port: 1', infoHash, `X: ${'x'.repeat(localPacketMaxBytes)}`])],
  ] as const) {
    t.equal(parseLocalAnnounce(packet), undefined, what);
  }
  t.same(parseLocalAnnounce(text([line, 'Port: 1', infoHash, infoHash]))?.infoHashes, [first], 'each once');
});

t.test('any bytes at all are read or refused, and never more than a packet holds', async (t) => {
  const lines = fc.array(
    fc.oneof(
      fc.constant(`Infohash: ${first}`),
      fc.constant('Port: 6881'),
      fc.string({ maxLength: 80 }),
      fc.constant(''),
    ),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(
      fc.oneof(
        lines.map((each) => text(['BT-SEARCH * HTTP/1.1', ...each])),
        fc.uint8Array(),
      ),
      (bytes) => {
        const found = parseLocalAnnounce(Buffer.from(bytes));
        if (found === undefined) return true;
        return (
          found.port > 0 && found.port < 65_536 && found.infoHashes.length > 0 && found.infoHashes.length < 40
        );
      },
    ),
  );
  t.pass();
});
