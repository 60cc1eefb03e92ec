import fc from 'fast-check';
import t from 'tap';
import { bencode } from '../../swarm/bencode.ts';
import {
  dhtPacketMaxBytes,
  dhtSaltMaxBytes,
  dhtTokenMaxBytes,
  dhtTransactionMaxBytes,
} from '../../swarm/dht/dht-limits.ts';
import {
  type DhtPacket,
  dhtRefusals,
  isPublicIpv4,
  parseDhtPacket,
  printDhtPacket,
} from '../../swarm/dht/dht-packets.ts';
import { anyPacket, honestPacket, node, peer } from './dht-arbitraries.ts';
import { answer, killingPackets, query, someHash, someId, someItem } from './dht-fixture.ts';

/** As it is passed on; the reason when it is not. */
function passed(packet: Uint8Array, localNodes = false): string {
  const parsed = parseDhtPacket(packet, localNodes);
  return typeof parsed === 'string' ? parsed : printDhtPacket(parsed).toString('latin1');
}

function isTorrentValue(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Object.keys(value).join() !== 'ih') return false;
  return 'ih' in value && Buffer.isBuffer(value.ih) && value.ih.length === 20;
}

/** Everything that the library reads of a packet. */
function isHarmless(packet: DhtPacket): boolean {
  const sized = (value: unknown, min: number, max: number): boolean =>
    Buffer.isBuffer(value) && value.length >= min && value.length <= max;
  if (!sized(packet.transaction, 1, dhtTransactionMaxBytes)) return false;
  if (packet.kind === 'failure') return Number.isInteger(packet.code) && sized(packet.message, 0, 256);
  const given = packet.kind === 'query' ? packet.args : packet.values;
  if (!sized(given.id, 20, 20)) return false;
  for (const [key, value] of Object.entries(given)) {
    if ((key === 'target' || key === 'info_hash') && !sized(value, 20, 20)) return false;
    if (key === 'token' && !sized(value, 1, dhtTokenMaxBytes)) return false;
    if (key === 'nodes' && !(Buffer.isBuffer(value) && value.length % 26 === 0)) return false;
    if (key === 'values' && !(Array.isArray(value) && value.every((each) => sized(each, 6, 6)))) return false;
    if (key === 'k' && !sized(value, 32, 32)) return false;
    if (key === 'sig' && !sized(value, 64, 64)) return false;
    if (key === 'salt' && !sized(value, 1, dhtSaltMaxBytes)) return false;
    if ((key === 'seq' || key === 'cas') && !(Number.isSafeInteger(value) && Number(value) >= 0))
      return false;
    if (key === 'v' && !isTorrentValue(value)) return false;
    if (key === 'port' && !(typeof value === 'number' && value > 0 && value < 65_536)) return false;
  }
  return true;
}

t.test('what an honest node says is passed on unchanged', async () => {
  fc.assert(
    fc.property(honestPacket, (packet) => {
      const printed = printDhtPacket(packet);
      const parsed = parseDhtPacket(printed, true);
      return typeof parsed !== 'string' && printDhtPacket(parsed).equals(printed);
    }),
    { numRuns: 2_000 },
  );
});

t.test('whatever comes, it is refused with a reason or it is harmless, and never an exception', async (t) => {
  let taken = 0;
  fc.assert(
    fc.property(anyPacket, fc.boolean(), (packet, localNodes) => {
      const parsed = parseDhtPacket(packet, localNodes);
      if (typeof parsed === 'string') return dhtRefusals.includes(parsed);
      taken++;
      const again = parseDhtPacket(printDhtPacket(parsed), localNodes);
      return isHarmless(parsed) && typeof again !== 'string';
    }),
    { numRuns: 20_000 },
  );
  t.ok(taken > 100, `${taken} were taken: the property is not empty`);
});

t.test('the packets that kill the library are refused', async (t) => {
  for (const [name, packet] of Object.entries(killingPackets)) {
    t.ok(['not-krpc', 'unsupported'].includes(passed(packet)), name);
  }
});

t.test('what has not the right type or length is refused', async (t) => {
  const announce = { id: someId, info_hash: someHash, port: 6881, token: 'tok' };
  const put = { id: someId, token: 'tok', ...someItem };
  const without = (key: keyof typeof put) => {
    const { [key]: _, ...rest } = put;
    return query('put', rest);
  };
  const wrong: [string, Buffer][] = [
    ['get without target', query('get', { id: someId })],
    ['short target in get', query('get', { id: someId, target: 'x' })],
    ...(['token', 'k', 'sig', 'seq', 'v'] as const).map((key): [string, Buffer] => [
      `put without ${key}`,
      without(key),
    ]),
    ['short key', query('put', { ...put, k: Buffer.alloc(31) })],
    ['long signature', query('put', { ...put, sig: Buffer.alloc(65) })],
    ['key as text in a list', query('put', { ...put, k: [] })],
    ['negative seq', query('put', { ...put, seq: -1 })],
    ['seq as text', query('put', { ...put, seq: '1' })],
    ['cas as text', query('put', { ...put, cas: '1' })],
    ['negative cas', query('put', { ...put, cas: -1 })],
    ['long salt', query('put', { ...put, salt: Buffer.alloc(dhtSaltMaxBytes + 1) })],
    ['integer salt', query('put', { ...put, salt: 7 })],
    ['value of bytes', query('put', { ...put, v: Buffer.alloc(20) })],
    ['value that is too large', query('put', { ...put, v: Buffer.alloc(1_001) })],
    ['value with more than an infohash', query('put', { ...put, v: { ih: someHash, x: 1 } })],
    ['value with a short infohash', query('put', { ...put, v: { ih: 'x' } })],
    ['value with an integer', query('put', { ...put, v: { ih: 7 } })],
    ['value with a hostile key', query('put', { ...put, v: { __proto__x: someHash } })],
    ['not a dictionary', bencode(['q'])],
    ['no transaction', bencode({ y: 'q', q: 'ping', a: { id: someId } })],
    ['integer transaction', query('ping', { id: someId }, { t: 1 })],
    ['empty transaction', query('ping', { id: someId }, { t: '' })],
    ['long transaction', query('ping', { id: someId }, { t: Buffer.alloc(dhtTransactionMaxBytes + 1) })],
    ['unknown type', query('ping', { id: someId }, { y: 'x' })],
    ['integer type', query('ping', { id: someId }, { y: 1 })],
    ['integer method', query('ping', { id: someId }, { q: 1 })],
    ['no arguments', bencode({ t: 'aa', y: 'q', q: 'ping' })],
    ['short id', query('ping', { id: 'x' })],
    ['long id', query('ping', { id: Buffer.alloc(21) })],
    ['port 0', query('announce_peer', { ...announce, port: 0 })],
    ['port 65536', query('announce_peer', { ...announce, port: 65_536 })],
    ['negative port', query('announce_peer', { ...announce, port: -1 })],
    ['port as text', query('announce_peer', { ...announce, port: '6881' })],
    ['implied_port as text', query('announce_peer', { ...announce, implied_port: 'yes' })],
    ['empty token', query('announce_peer', { ...announce, token: '' })],
    ['long token', query('announce_peer', { ...announce, token: Buffer.alloc(dhtTokenMaxBytes + 1) })],
    ['answer without id', answer({ token: 'tok' })],
    ['integer token in an answer', answer({ id: someId, token: 1 })],
    ['half a node', answer({ id: someId, nodes: Buffer.alloc(27) })],
    ['nodes as a list', answer({ id: someId, nodes: [] })],
    ['peers as bytes', answer({ id: someId, values: Buffer.alloc(6) })],
    ['integer as peer', answer({ id: someId, values: [1] })],
    ['error without code', bencode({ t: 'aa', y: 'e', e: ['text'] })],
    ['error as text', bencode({ t: 'aa', y: 'e', e: 'text' })],
  ];
  for (const [name, packet] of wrong) t.equal(passed(packet), 'not-krpc', name);
  t.equal(passed(query('put', { id: someId, token: 'tok', v: 'immutable' })), 'unsupported');
  t.equal(passed(query('sample_infohashes', { id: someId, target: someHash })), 'unsupported');
  t.equal(passed(Buffer.from('d1:y1:q')), 'not-bencode');
  t.equal(passed(Buffer.from(`${'l'.repeat(700)}${'e'.repeat(700)}`)), 'not-bencode');
  t.equal(passed(Buffer.from(`l${'0:'.repeat(700)}e`)), 'not-bencode');
  t.equal(passed(Buffer.alloc(dhtPacketMaxBytes + 1, '1')), 'oversize');
});

t.test('what is not understood is not passed on', async (t) => {
  const plain = query('ping', { id: someId }).toString('latin1');
  t.equal(passed(query('ping', { id: someId, want: ['n6'] }, { v: 'LT12', ro: 1 })), plain);
  const unsorted = `d1:t2:aa1:q4:ping1:y1:q1:ad2:id20:${someId}ee`;
  t.equal(passed(Buffer.from(unsorted)), plain, 'keys in another order are taken');
  const long = bencode({ t: 'aa', y: 'e', e: [201, 'x'.repeat(1_000)] });
  t.equal(passed(long).length, passed(bencode({ t: 'aa', y: 'e', e: [201, 'x'.repeat(256)] })).length);
});

t.test('an answer with an item of another kind is an answer without an item', async (t) => {
  const plain = { id: someId, token: 'tok', nodes: node([198, 51, 100, 7], 1) };
  t.equal(passed(answer({ ...plain, ...someItem })), answer({ ...plain, ...someItem }).toString('latin1'));
  for (const change of [
    { v: 'text' },
    { v: { ih: 1 } },
    { seq: 'x' },
    { k: 'short' },
    { sig: 1 },
    { v: [[[]]] },
  ]) {
    const spoilt = answer({ ...plain, ...someItem, ...change });
    t.equal(passed(spoilt), answer(plain).toString('latin1'), JSON.stringify(change));
  }
});

t.test('with implied_port the port that is written there does not count', async (t) => {
  const announce = { id: someId, info_hash: someHash, token: 'tok', implied_port: 5 };
  const implied = query('announce_peer', { ...announce, implied_port: 1 }).toString('latin1');
  t.equal(passed(query('announce_peer', { ...announce, port: 0 })), implied);
  t.equal(passed(query('announce_peer', announce)), implied);
});

t.test('a stranger cannot name nodes and peers in networks of ours', async (t) => {
  const there = [198, 51, 100, 7];
  const here = [192, 168, 0, 1];
  const packet = (addresses: number[][]) =>
    answer({
      id: someId,
      nodes: Buffer.concat(addresses.map((each) => node(each, 6881))),
      values: addresses.map((each) => peer(each, 6881)),
    });
  t.equal(passed(packet([there, here])), packet([there]).toString('latin1'));
  t.equal(passed(packet([there, here]), true), packet([there, here]).toString('latin1'), 'a neighbour may');
  const noPort = answer({ id: someId, nodes: node(there, 0), values: [peer(there, 0)] });
  t.equal(passed(noPort), answer({ id: someId, nodes: '', values: [] }).toString('latin1'));
  const ipv6 = answer({ id: someId, values: [Buffer.alloc(18, 9), peer(there, 1)] });
  t.equal(passed(ipv6), answer({ id: someId, values: [peer(there, 1)] }).toString('latin1'));
});

t.test('addresses are public or not', async (t) => {
  const text = (list: string) => list.split(' ').map((each) => Uint8Array.from(each.split('.'), Number));
  for (const each of text(
    '0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 169.254.1.1 172.16.0.1 172.31.255.255 192.0.0.8 192.168.1.1 198.18.0.1 198.19.0.1 224.0.0.1 255.255.255.255',
  ))
    t.notOk(isPublicIpv4(each), each.join('.'));
  for (const each of text(
    '1.1.1.1 9.255.255.255 11.0.0.1 100.63.0.1 100.128.0.1 126.0.0.1 128.0.0.1 169.253.0.1 172.15.0.1 172.32.0.1 192.0.1.1 192.167.0.1 198.17.0.1 198.20.0.1 223.255.255.255',
  ))
    t.ok(isPublicIpv4(each), each.join('.'));
});
