import t from 'tap';
import { bencode, parseBencode } from '../../swarm/bencode.ts';
import { DhtGuard, type GuardLimits } from '../../swarm/dht/dht-guard.ts';
import { dhtAnsweredPeersMax, dhtLimits } from '../../swarm/dht/dht-limits.ts';
import { answer, query, someHash, someId } from './dht-fixture.ts';

const there = { host: '198.51.100.7', port: 6881 };

/** Its transaction ids count from 1; its clock stands still. */
function guardWith(limits: Partial<GuardLimits> = {}) {
  const time = { nowMs: 0 };
  let drawn = 0;
  const random = (lengthBytes: number): Buffer => {
    const bytes = Buffer.alloc(lengthBytes);
    bytes.writeUInt32BE(++drawn);
    return bytes;
  };
  const guard = new DhtGuard({ limits: { ...dhtLimits, ...limits }, clock: () => time.nowMs, random });
  return { guard, time };
}

/** What the library asks, and what is then on the wire. */
function asked(guard: DhtGuard, to = there) {
  return transactionOf(guard.outgoing(query('ping', { id: someId }, { t: 'li' }), to));
}

function transactionOf(packet: Buffer): Buffer {
  const message = parseBencode(packet);
  const transaction = message instanceof Map ? message.get('t') : undefined;
  if (!Buffer.isBuffer(transaction)) throw new Error('a packet without transaction');
  return transaction;
}

t.test('an answer is taken once, from the node that was asked, under the id that was drawn', async (t) => {
  const { guard } = guardWith();
  const transaction = asked(guard);
  t.equal(transaction.length, 4);
  const reply = answer({ id: someId }, transaction);
  t.equal(guard.incoming(reply, { ...there, port: 1 }), undefined, 'another port');
  t.equal(guard.incoming(reply, { ...there, host: '198.51.100.8' }), undefined, 'another address');
  t.equal(guard.incoming(answer({ id: someId }, 'li'), there), undefined, "the library's own id");
  const taken = guard.incoming(reply, there);
  t.equal(taken && transactionOf(taken).toString(), 'li', 'the library reads the id that it wrote');
  t.equal(guard.incoming(reply, there), undefined, 'the same again');
  t.equal(guard.drops.unasked, 4);
  t.equal(guard.received, 5);
});

t.test('an error is an answer, too', async (t) => {
  const { guard } = guardWith();
  const failure = (transaction: Buffer) => bencode({ t: transaction, y: 'e', e: [201, 'no'] });
  t.equal(guard.incoming(failure(Buffer.from('li')), there), undefined);
  t.ok(guard.incoming(failure(asked(guard)), there));
});

t.test('questions that are never answered are forgotten, the oldest first', async (t) => {
  const { guard } = guardWith({ transactionsMax: 2 });
  const [first, second, third] = [asked(guard), asked(guard), asked(guard)];
  t.notOk(guard.incoming(answer({ id: someId }, first), there));
  t.ok(guard.incoming(answer({ id: someId }, second), there));
  t.ok(guard.incoming(answer({ id: someId }, third), there));
});

t.test('one address gets so many answers in a window, and all together so many', async (t) => {
  const { guard, time } = guardWith({ queriesPerAddressMax: 2, queriesMax: 3, queryWindowMs: 1_000 });
  const ping = query('ping', { id: someId });
  const from = (host: string) => guard.incoming(ping, { host, port: 1 }) !== undefined;
  t.ok(from('198.51.100.1') && from('198.51.100.1'));
  t.notOk(from('198.51.100.1'), 'one too many from this address');
  t.ok(from('198.51.100.2'), 'another one is not concerned');
  t.notOk(from('198.51.100.3'), 'until there are too many altogether');
  t.match(guard.drops, { 'address-limit': 1, 'total-limit': 1 });
  const transaction = asked(guard);
  t.ok(guard.incoming(answer({ id: someId }, transaction), there), 'answers to us are no queries');
  time.nowMs = 999;
  t.notOk(from('198.51.100.3'));
  time.nowMs = 1_000;
  t.ok(from('198.51.100.1') && from('198.51.100.3'), 'a new window');
});

t.test(
  'an answer of ours keeps to a bounded number of peers and nodes, and to its transaction',
  async (t) => {
    const { guard } = guardWith();
    const peers = Array.from({ length: 5_000 }, () => Buffer.alloc(6));
    const nodes = Buffer.from(Array.from({ length: 300 * 26 }, (_, index) => index));
    const written = bencode({ t: 'theirs', y: 'r', r: { id: someId, token: 'tok', values: peers, nodes } });
    const sent = guard.outgoing(written, there);
    t.ok(sent.length < 800, `${sent.length} bytes`);
    const kept = bencode({
      ...{ t: 'theirs', y: 'r' },
      r: {
        id: someId,
        token: 'tok',
        values: peers.slice(0, dhtAnsweredPeersMax),
        nodes: nodes.subarray(0, 8 * 26),
      },
    });
    t.ok(sent.equals(kept));
  },
);

t.test('a node in our own network may name others there, a stranger may not', async (t) => {
  const { guard } = guardWith();
  const nodes = Buffer.concat([someHash, Buffer.from([192, 168, 0, 9, 1, 1])]);
  const reply = (host: string) => {
    const node = { host, port: 1 };
    return guard.incoming(answer({ id: someId, nodes }, asked(guard, node)), node);
  };
  t.ok(reply('192.168.0.1')?.includes(nodes));
  t.notOk(reply('198.51.100.1')?.includes(nodes));
});
