/** Packets of the DHT, honest and hostile, for property tests. */

import fc from 'fast-check';
import { type BencodeInput, bencode, parseBencode } from '../../swarm/bencode.ts';
import {
  dhtErrorMaxBytes,
  dhtSaltMaxBytes,
  dhtTokenMaxBytes,
  dhtTransactionMaxBytes,
} from '../../swarm/dht/dht-limits.ts';
import { type DhtPacket, printDhtPacket } from '../../swarm/dht/dht-packets.ts';
import { someId } from './dht-fixture.ts';

/** A compact node. */
export function node(address: number[], port: number): Buffer {
  return Buffer.concat([someId, peer(address, port)]);
}

/** A compact peer. */
export function peer(address: number[], port: number): Buffer {
  return Buffer.from([...address, port >> 8, port & 255]);
}

const bytes = (min: number, max: number) =>
  fc.uint8Array({ minLength: min, maxLength: max }).map((array) => Buffer.from(array));
const id = bytes(20, 20);
const transaction = bytes(1, dhtTransactionMaxBytes);
const token = bytes(1, dhtTokenMaxBytes);
const address = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255));
const port = fc.integer({ min: 1, max: 65_535 });

const item = fc.record({
  k: bytes(32, 32),
  seq: fc.maxSafeNat(),
  sig: bytes(64, 64),
  v: fc.record({ ih: id }),
});

/** What an honest node sends. */
export const honestPacket: fc.Arbitrary<DhtPacket> = fc.oneof(
  fc.record({
    kind: fc.constant('query' as const),
    transaction,
    method: fc.constant('ping' as const),
    args: fc.record({ id }),
  }),
  fc.record({
    kind: fc.constant('query' as const),
    transaction,
    method: fc.constant('find_node' as const),
    args: fc.record({ id, target: id }),
  }),
  fc.record({
    kind: fc.constant('query' as const),
    transaction,
    method: fc.constant('get_peers' as const),
    args: fc.record({ id, info_hash: id }),
  }),
  fc.record({
    kind: fc.constant('query' as const),
    transaction,
    method: fc.constant('announce_peer' as const),
    args: fc.record({ id, info_hash: id, token, implied_port: fc.constant(0), port }),
  }),
  fc.record({
    kind: fc.constant('query' as const),
    transaction,
    method: fc.constant('get' as const),
    args: fc.record({ id, target: id }),
  }),
  fc.record({
    kind: fc.constant('query' as const),
    transaction,
    method: fc.constant('put' as const),
    args: fc
      .tuple(
        item,
        fc.record(
          { id, token, salt: bytes(1, dhtSaltMaxBytes), cas: fc.maxSafeNat() },
          { requiredKeys: ['id', 'token'] },
        ),
      )
      .map(([signed, rest]): Record<string, BencodeInput> => ({ ...signed, ...rest })),
  }),
  fc.record({
    kind: fc.constant('answer' as const),
    transaction,
    values: fc.tuple(item, id, token).map(
      ([signed, node, tok]): Record<string, BencodeInput> => ({
        ...signed,
        id: node,
        token: tok,
      }),
    ),
  }),
  fc.record({
    kind: fc.constant('answer' as const),
    transaction,
    values: fc.record(
      {
        id,
        token,
        nodes: fc
          .array(fc.tuple(address, port), { maxLength: 20 })
          .map((nodes) => Buffer.concat(nodes.map(([at, on]) => node(at, on)))),
        values: fc.array(
          fc.tuple(address, port).map(([at, on]) => peer(at, on)),
          { maxLength: 50 },
        ),
      },
      { requiredKeys: ['id'] },
    ),
  }),
  fc.record({
    kind: fc.constant('failure' as const),
    transaction,
    code: fc.integer({ min: 0, max: 999 }),
    message: bytes(0, dhtErrorMaxBytes),
  }),
);

/** Anything of bencode under the keys that count. */
const { value: anyValue } = fc.letrec<{ value: BencodeInput }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3 },
    fc.integer(),
    bytes(0, 27),
    fc.constantFrom<BencodeInput>(
      someId,
      'q',
      'r',
      'e',
      'ping',
      'get_peers',
      'announce_peer',
      'get',
      'put',
      0,
      1,
    ),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(
      fc.constantFrom(
        ...['id', 'target', 'info_hash', 'token', 'port', 'implied_port', 'nodes', 'values', 'x'],
        ...['k', 'sig', 'seq', 'salt', 'cas', 'v', 'ih'],
      ),
      tie('value'),
      { maxKeys: 6 },
    ),
  ),
}));
const hostilePacket = fc
  .dictionary(fc.constantFrom('t', 'y', 'q', 'a', 'r', 'e', 'v', 'ro'), anyValue, { maxKeys: 6 })
  .map((message) => bencode(message));

/** An honest packet in which one value is another one: what kills a library that takes types for granted. */
const twistedPacket = fc
  .tuple(honestPacket, fc.constantFrom('', 'a', 'r'), fc.nat(), anyValue)
  .map(([packet, inner, which, value]) => {
    const message = parseBencode(printDhtPacket(packet)) as Map<string, BencodeInput>;
    const inside = message.get(inner);
    const twisted = inside instanceof Map ? inside : message;
    const keys = [...twisted.keys()];
    twisted.set(keys[which % keys.length] ?? '', value);
    return bencode(message);
  });

/** Hostile ones, rubbish, and honest ones with a value or a byte changed. */
export const anyPacket = fc.oneof(
  hostilePacket,
  twistedPacket,
  bytes(0, 80),
  fc.tuple(honestPacket, fc.nat(), fc.nat(255)).map(([packet, where, value]) => {
    const changed = printDhtPacket(packet);
    changed[where % changed.length] = value;
    return changed;
  }),
);
