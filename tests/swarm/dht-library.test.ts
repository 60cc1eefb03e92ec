/** bittorrent-dht itself, fed with what the guard lets through: it must survive all of it. */

import { EventEmitter } from 'node:events';
import { Client } from 'bittorrent-dht';
import fc from 'fast-check';
import t from 'tap';
import { parseInfoHash } from '../../nar/hash.ts';
import { secretKeyFromSeed, verifyBytes } from '../../nar/signature.ts';
import { type BencodeInput, parseBencode } from '../../swarm/bencode.ts';
import { type DhtItem, dhtItemTarget, dhtItemValue, signDhtItem } from '../../swarm/dht/dht-item.ts';
import { parseDhtPacket, printDhtPacket } from '../../swarm/dht/dht-packets.ts';
import { anyPacket, honestPacket } from './dht-arbitraries.ts';
import { query, someHash, someId } from './dht-fixture.ts';

const from = { address: '127.0.0.1', port: 2_000, family: 'IPv4', size: 1 };

/** Sends nothing anywhere; knows how often it should have. */
class DeafSocket extends EventEmitter {
  readonly asked: Buffer[] = [];
  answers = 0;

  bind(): void {}

  address() {
    return { address: '127.0.0.1', port: 1 };
  }

  send(bytes: Buffer): void {
    const packet = parseDhtPacket(bytes, true);
    if (typeof packet === 'string' || packet.kind !== 'query') this.answers++;
    else this.asked.push(packet.transaction);
  }

  close(): void {
    this.emit('close');
  }
}

t.test(
  'the library survives whatever passes the guard, as a query and as an answer to its own',
  async (t) => {
    const socket = new DeafSocket();
    const dht = new Client({
      ...{ nodeId: 'ab'.repeat(20), bootstrap: [{ host: from.address, port: from.port }], socket },
      ...{ maxTables: 10, maxPeers: 100, maxValues: 10, maxAge: 60_000 },
      verify: (sig: Buffer, signed: Uint8Array, key: Buffer) => verifyBytes(key, signed, sig),
    });
    dht.on('warning', () => {});
    t.teardown(() => dht.destroy());
    let answered = 0;
    const packet = fc.oneof(
      anyPacket,
      honestPacket.map((honest) => printDhtPacket(honest)),
    );
    fc.assert(
      fc.property(packet, fc.nat(), (bytes, number) => {
        const parsed = parseDhtPacket(bytes, true);
        if (typeof parsed === 'string') return;
        if (socket.asked.length === 0)
          dht.lookup(number.toString(16).padStart(40, '0'), () => {
            dht.announce(number.toString(16).padStart(40, '0'), 6_881, () => {});
          });
        // An answer is one to the latest question, as the guard would have seen to.
        const asked = parsed.kind === 'query' ? undefined : socket.asked.pop();
        if (asked !== undefined) answered++;
        socket.emit('message', printDhtPacket(parsed, asked ?? parsed.transaction), from);
      }),
      { numRuns: 5_000 },
    );
    t.ok(answered > 100, `${answered} answers to its own questions`);
    t.ok(socket.answers > 100, `${socket.answers} answers of its own`);
  },
);

t.test('the library keeps an item that its key signed, and gives it out as it came', async (t) => {
  const sent: Buffer[] = [];
  const socket = Object.assign(new EventEmitter(), {
    bind() {},
    address: () => ({ address: '127.0.0.1', port: 1 }),
    send: (bytes: Buffer) => void sent.push(bytes),
    close() {},
  });
  const dht = new Client({
    ...{ nodeId: 'ab'.repeat(20), bootstrap: false, socket },
    ...{ maxTables: 10, maxPeers: 100, maxValues: 10, maxAge: 60_000 },
    verify: (sig, signed, key) => verifyBytes(key, signed, sig),
  });
  dht.on('warning', () => {});
  t.teardown(() => dht.destroy());
  /** Through the parser, as through the guard. */
  const ask = (packet: Buffer) => {
    const parsed = parseDhtPacket(packet, true);
    if (typeof parsed === 'string') throw new Error(parsed);
    sent.length = 0;
    socket.emit('message', printDhtPacket(parsed), from);
    return sent[0] && parseBencode(sent[0], { anyKeyOrder: true });
  };
  const key = secretKeyFromSeed('catalog.example-1', Buffer.alloc(32, 1));
  const itemOf = (seq: number) => signDhtItem(key, 'narswarm-catalog-1', seq, parseInfoHash('5a'.repeat(20)));
  const get = (target: Buffer) => {
    const reply = ask(query('get', { id: someId, target }));
    return (reply instanceof Map ? reply.get('r') : undefined) as Map<string, unknown>;
  };
  const put = ({ key: k, salt, seq, sig, infoHash }: DhtItem, change: Record<string, BencodeInput> = {}) => {
    const token = get(Buffer.alloc(20)).get('token') as Buffer;
    const reply = ask(
      query('put', { id: someId, token, k, salt, seq, sig, v: dhtItemValue(infoHash), ...change }),
    );
    return reply instanceof Map ? String(reply.get('y')) : 'nothing';
  };
  const item = itemOf(5);
  const target = dhtItemTarget(item);
  t.equal(put(item, { seq: 6 }), 'nothing', 'the signature is for another number');
  t.equal(put(item, { k: Buffer.alloc(32, 1) }), 'nothing', 'for another key');
  t.equal(put(item, { salt: 'another' }), 'nothing', 'for another salt');
  t.equal(put(item, { v: { ih: someHash } }), 'nothing', 'for another torrent');
  t.equal(put(item, { token: 'wrong' }), 'e', 'without a token of its own');
  t.notOk(get(target).has('v'));
  t.equal(put(item), 'r');
  const kept = get(target);
  t.strictSame([kept.get('seq'), kept.get('k'), kept.get('sig')], [5, item.key, item.sig]);
  t.strictSame(kept.get('v'), new Map([['ih', Buffer.alloc(20, 0x5a)]]));
  t.equal(put(itemOf(4)), 'e', 'an older one');
  t.equal(put(itemOf(6)), 'r', 'a newer one');
  t.equal(get(target).get('seq'), 6);
});
