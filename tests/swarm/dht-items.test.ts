/** Signed items (BEP 44) and peers, kept and found by real nodes on loopback. */

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { parseInfoHash } from '../../nar/hash.ts';
import { secretKeyFromSeed } from '../../nar/signature.ts';
import { type BencodeInput, bencode, parseBencode } from '../../swarm/bencode.ts';
import {
  type DhtItem,
  dhtItemName,
  dhtItemTarget,
  dhtItemValue,
  isDhtItemSigned,
  signDhtItem,
} from '../../swarm/dht/dht-item.ts';
import { dhtLimits } from '../../swarm/dht/dht-limits.ts';
import { DhtLookups, type Rpc } from '../../swarm/dht/dht-lookups.ts';
import { DhtRequests } from '../../swarm/dht/dht-requests.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';
import { until } from '../helpers/program.ts';
import { Asker, killingPackets, openNode, someId, statusWith } from './dht-fixture.ts';

const key = secretKeyFromSeed('catalog.example-1', Buffer.alloc(32, 1));
const otherKey = secretKeyFromSeed('catalog.example-2', Buffer.alloc(32, 2));
const salt = 'narswarm-catalog-1';
const name = dhtItemName(key.publicKey, salt);
const oldHash = parseInfoHash('0d'.repeat(20));
const newHash = parseInfoHash('5a'.repeat(20));
const withoutSigs = ({ seq, infoHash }: DhtItem) => ({ seq, infoHash });

t.test(
  'BEP 44: the test vector for a mutable item with salt is what is signed and where it lies',
  async (t) => {
    // Key, target and signature of the vector in the BEP, whose value is the text `Hello World!`: of ours, only its place can be compared.
    const vector = Buffer.from('77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548', 'hex');
    t.equal(
      dhtItemTarget({ key: vector, salt: Buffer.from('foobar') }).toString('hex'),
      '411eba73b6f087ca51a3795d9c8c938d365e32c1',
    );
    t.equal(
      dhtItemTarget({ key: vector, salt: Buffer.alloc(0) }).toString('hex'),
      '4a533d47ec9c7d95b1ad75f576cffc641853b750',
    );
  },
);

t.test('the example of docs/format.md', async (t) => {
  const item = signDhtItem(key, salt, 7, newHash);
  t.equal(dhtItemTarget(item).toString('hex'), '97e14e70817b89634bc14aa9bbbb012289648b50');
  t.equal(
    item.sig.toString('hex'),
    '6cf137d03a90f16bb0c5af1642d3841f099748ce08c222b28c4e3af8437b129e167fa2ef0017eb90e455ae5027a43dd8076f7f5f51670ba23fa67d3520889e08',
  );
});

t.test('a signature holds for its key, salt, number and torrent alone', async (t) => {
  const item = signDhtItem(key, salt, 3, newHash);
  t.ok(isDhtItemSigned(item));
  t.notOk(isDhtItemSigned({ ...item, key: otherKey.publicKey.bytes }));
  t.notOk(isDhtItemSigned({ ...item, salt: Buffer.from('x') }));
  t.notOk(isDhtItemSigned({ ...item, seq: 4 }));
  t.notOk(isDhtItemSigned({ ...item, infoHash: oldHash }));
  t.notOk(isDhtItemSigned({ ...item, key: Buffer.alloc(31) }));
  t.notOk(isDhtItemSigned({ ...item, sig: Buffer.alloc(63) }));
  t.ok(isDhtItemSigned(signDhtItem(key, '', 3, newHash)));
  t.throws(() => signDhtItem(key, 'x'.repeat(65), 3, newHash), RangeError);
});

t.test(
  'an item that one node puts is found by another, the newest of them, and is kept by a third',
  async (t) => {
    provesNothingStaysOpen(t);
    const third = await openNode(t);
    const writer = await openNode(t, { bootstrap: [third] });
    const reader = await openNode(t, { bootstrap: [third] });
    t.equal(await reader.getItem(name), undefined, 'nobody has one');
    t.ok((await writer.putItem(signDhtItem(key, salt, 1, oldHash))) >= 1);
    t.match(await reader.getItem(name), { seq: 1, infoHash: oldHash });
    t.ok((await writer.putItem(signDhtItem(key, salt, 2, newHash))) >= 1);
    t.match(await reader.getItem(name), { seq: 2, infoHash: newHash });
    t.ok((await writer.putItem(signDhtItem(key, salt, 2, newHash))) >= 1, 'the same again is no failure');
    await writer.putItem(signDhtItem(key, salt, 1, oldHash));
    t.match(
      await reader.getItem(name),
      { seq: 2, infoHash: newHash },
      'an older one does not take its place',
    );
    t.equal(await reader.getItem(dhtItemName(otherKey.publicKey, salt)), undefined);
    t.equal(await reader.getItem(dhtItemName(key.publicKey, 'another')), undefined);
    await writer.close();
    t.match(await reader.getItem(name), { seq: 2, infoHash: newHash }, 'whoever put it may go');
  },
);

t.test(
  'an unsigned item is kept by nobody, and a node whose only neighbour put one finds it there',
  async (t) => {
    provesNothingStaysOpen(t);
    const writer = await openNode(t);
    t.equal(await writer.putItem(signDhtItem(key, salt, 1, newHash)), 0, 'there is nobody else');
    const reader = await openNode(t, { bootstrap: [writer] });
    t.match(await reader.getItem(name), { seq: 1, infoHash: newHash });
    const forged = { ...signDhtItem(key, salt, 9, oldHash), sig: Buffer.alloc(64, 1) };
    await reader.putItem(forged);
    t.match(await writer.getItem(name), { seq: 1 });
  },
);

t.test('who has a torrent is found', async (t) => {
  provesNothingStaysOpen(t);
  const third = await openNode(t);
  const seeder = await openNode(t, { bootstrap: [third], peersPort: 7_001 });
  seeder.noteDemand(newHash);
  await statusWith(seeder, ({ announces }) => announces > 0);
  const reader = await openNode(t, { bootstrap: [third] });
  t.strictSame(await reader.findPeers(newHash), [{ host: '127.0.0.1', port: 7_001 }]);
  t.strictSame(await reader.findPeers(oldHash), []);
});

/** A node that answers every question with these values, and says it in a packet that kills the library now and then. */
async function liar(t: Test, values: Record<string, BencodeInput>) {
  const socket = createSocket('udp4');
  socket.on('message', (bytes, from) => {
    const message = parseBencode(bytes);
    const transaction = message instanceof Map ? message.get('t') : undefined;
    if (!Buffer.isBuffer(transaction)) return;
    const packet = bencode({ t: transaction, y: 'r', r: { id: someId, token: 'tok', ...values } });
    for (const each of [...Object.values(killingPackets), packet]) socket.send(each, from.port, from.address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  t.teardown(() => new Promise<void>((resolve) => socket.close(() => resolve())));
  return { host: '127.0.0.1', port: socket.address().port };
}

function wireItem({ key: k, seq, sig, infoHash }: DhtItem): Record<string, BencodeInput> {
  return { k, seq, sig, v: dhtItemValue(infoHash) };
}

t.test('what a node gives that is of another key, wrongly signed or older does not count', async (t) => {
  provesNothingStaysOpen(t);
  const honest = await openNode(t);
  const good = signDhtItem(key, salt, 5, newHash);
  await honest.putItem(good);
  const lies: Record<string, Record<string, BencodeInput>> = {
    'of another key': wireItem(signDhtItem(otherKey, salt, 9, oldHash)),
    'of another salt': wireItem(signDhtItem(key, 'another', 9, oldHash)),
    'with a changed number': { ...wireItem(good), seq: 9 },
    'with a changed torrent': { ...wireItem(good), seq: 9, v: dhtItemValue(oldHash) },
    older: wireItem(signDhtItem(key, salt, 4, oldHash)),
    'of another kind': { ...wireItem(good), seq: 9, v: 'text' },
    'with an integer': { ...wireItem(good), seq: 9, v: { ih: 7 } },
    'with a huge number': { ...wireItem(good), seq: 2 ** 53 - 1 },
  };
  const liars = await Promise.all(
    Object.values(lies).map((values, n) => liar(t, { ...values, id: Buffer.alloc(20, n + 1) })),
  );
  const reader = await openNode(t, { bootstrap: [...liars, honest] });
  const found = await reader.getItem(name);
  t.strictSame(found && withoutSigs(found), { seq: 5, infoHash: newHash });
  t.equal(reader.status().restarts, 0);
});

t.test('nodes that go on naming nearer ones cannot make it endless', async (t) => {
  let answers = 0;
  let ended = 0;
  const endless: Rpc = {
    closest(target, message, visit, done) {
      const id = Buffer.alloc(20);
      id.writeUInt32BE(++answers);
      if (visit({ r: { id, token: Buffer.from('tok') } }, { host: '127.0.0.1', port: 1 }))
        setImmediate(() => endless.closest(target, message, visit, done));
      else ended++;
    },
    query: (_node, _message, done) => done(null),
  };
  const items = { get: () => undefined, set: () => undefined };
  const lookups = new DhtLookups({ rpc: endless, items, lookupMs: 20 });
  t.equal(await lookups.getItem(name), undefined);
  t.ok(answers > 1);
  t.equal(await lookups.putItem(signDhtItem(key, salt, 1, newHash)), 1, 'all of them are one and the same');
  await until(async () => ended === 2);
});

t.test(
  'a question fails when the child dies, when it is given up, and when the node is closed',
  async (t) => {
    provesNothingStaysOpen(t);
    const dht = await openNode(t, { limits: { restartMinMs: 60_000 } });
    const stopped = AbortSignal.abort();
    await t.rejects(dht.getItem(name, stopped), { code: 'aborted' });
    process.kill(dht.pid ?? 0, 'SIGSTOP');
    const asked = t.rejects(dht.getItem(name), { code: 'dht-failed' });
    process.kill(dht.pid ?? 0, 'SIGKILL');
    await asked;
    const waiting = t.rejects(dht.getItem(name), { code: 'dht-failed' });
    const givenUp = new AbortController();
    const late = t.rejects(dht.getItem(name, givenUp.signal), { code: 'aborted' });
    givenUp.abort();
    await late;
    await dht.close();
    await waiting;
    await t.rejects(dht.getItem(name), { code: 'dht-failed' });
  },
);

t.test('so many questions are under way, so many wait, and no more', async (t) => {
  const sent: number[] = [];
  const requests = new DhtRequests(
    { ...dhtLimits, requestsUnderWayMax: 2, requestsWaitingMax: 3 },
    ({ id }) => void sent.push(id),
  );
  const ask = () => requests.ask({ type: 'find-peers', infoHash: newHash });
  const first = ask();
  t.strictSame(sent, [], 'it does not run yet');
  requests.start();
  const asked = [first, ask(), ask(), ask(), ask()];
  t.strictSame(sent, [1, 2]);
  await t.rejects(ask(), { code: 'dht-failed' });
  requests.answered({ type: 'found-peers', id: 2, peers: [] });
  t.strictSame(sent, [1, 2, 3]);
  requests.answered({ type: 'found-peers', id: 2, peers: [] });
  t.strictSame(sent, [1, 2, 3], 'an answer to nothing');
  requests.close();
  t.strictSame(
    (await Promise.allSettled(asked)).map(({ status }) => status),
    ['rejected', 'fulfilled', 'rejected', 'rejected', 'rejected'],
  );
});

t.test('a put for a token that another address was given is refused', async (t) => {
  provesNothingStaysOpen(t);
  const node = await openNode(t);
  const asker = await Asker.open(t);
  const { salt: itemSalt, ...rest } = signDhtItem(key, salt, 1, newHash);
  const packet = bencode({
    ...{ t: 'aa', y: 'q', q: 'put' },
    a: { id: someId, token: 'guessed', salt: itemSalt, ...wireItem({ salt: itemSalt, ...rest }) },
  });
  t.equal(String((await asker.ask(packet, node)).get('y')), 'e');
  t.equal(await node.getItem(name), undefined);
});
