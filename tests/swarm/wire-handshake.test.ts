import t from 'tap';
import { parseInfoHash } from '../../nar/hash.ts';
import {
  encodeHandshake,
  HandshakeReader,
  handshakeBytes,
  makePeerId,
  parseHandshake,
} from '../../swarm/wire/wire-handshake.ts';

const infoHash = parseInfoHash('0123456789abcdef0123456789abcdef01234567');

t.test('a handshake comes back as it went out, with each extension bit', async (t) => {
  for (const fast of [false, true]) {
    for (const extended of [false, true]) {
      const peerId = makePeerId();
      const bytes = encodeHandshake({ infoHash, peerId, fast, extended });
      t.equal(bytes.length, handshakeBytes);
      t.same(parseHandshake(bytes), { infoHash, peerId, fast, extended });
    }
  }
});

t.test('a handshake that comes byte by byte is read, and what follows is handed on', async (t) => {
  const bytes = encodeHandshake({ infoHash, peerId: makePeerId() });
  const reader = new HandshakeReader();
  for (const byte of bytes.subarray(0, -1)) t.equal(reader.push(Buffer.from([byte])), undefined);
  const done = reader.push(Buffer.concat([bytes.subarray(-1), Buffer.from('rest')]));
  t.equal(done?.handshake.infoHash, infoHash);
  t.equal(done?.rest.toString(), 'rest');
});

t.test('the first byte that is no handshake is refused', async (t) => {
  t.throws(() => new HandshakeReader().push(Buffer.from('GET / HTTP/1.1')), {
    code: 'wire-violation',
    offset: 0,
  });
  t.throws(() => new HandshakeReader().push(Buffer.from('\x13BitTorrent Protocol', 'latin1')), {
    code: 'wire-violation',
    offset: 12,
  });
  t.throws(() => parseHandshake(Buffer.alloc(0)), { code: 'wire-violation' });
});
