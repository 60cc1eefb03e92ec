import { connect } from 'node:net';
import t from 'tap';
import { infoHashToDigest } from '../../nar/hash.ts';
import { encodeRequests, encodeSimple } from '../../swarm/wire/wire-encode.ts';
import { RawPeer } from '../swarm/seed-fixture.ts';
import { fetchNar, Lab, statusOf, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

const mib = 1024 * 1024;
const signed = madeNar({ name: 'signed', sizeBytes: 200_000 });
const unsigned = madeNar({ name: 'unsigned', sizeBytes: 200_000, signed: false });
const unknown = madeNar({ name: 'unknown', sizeBytes: 1_000 });

/** True if whoever listens there answers a BitTorrent handshake for the torrent. */
async function serves(address: string, nar: typeof signed): Promise<boolean> {
  const port = Number(address.split(':').at(-1));
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  const id = Buffer.alloc(20, 0x61);
  const head = Buffer.concat([Buffer.from('\x13BitTorrent protocol'), Buffer.alloc(8)]);
  socket.write(Buffer.concat([head, infoHashToDigest(nar.torrent.infoHash), id]));
  const answered = await new Promise<boolean>((resolve) => {
    socket.once('data', () => resolve(true));
    socket.once('close', () => resolve(false));
  });
  socket.destroy();
  return answered;
}

t.test('nothing is shared unless it is asked for', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([signed]);
  const client = await lab.client([], [catalog], { noUpstream: true });
  await fetchNar(client, signed);
  t.equal(client.peersAddress, undefined);
  t.match(statusOf(client).share, { enabled: false, uploadedBytes: 0 });
  t.same(catalog.announces, []);
});

t.test('what is held and signed by a trusted key is announced and served, and nothing else', async (t) => {
  const lab = await Lab.open(t);
  const nars = [signed, unsigned];
  const catalog = await lab.catalog(nars);
  const upstream = await lab.upstream([unknown]);
  const client = await lab.client([upstream], [catalog], { share: 'on' });
  const address = client.peersAddress ?? '';
  t.notOk(await serves(address, signed), 'not before it is held');
  for (const nar of [...nars, unknown]) await fetchNar(client, nar);
  await until(() => statusOf(client).share.announcedTorrents === 1);
  t.ok(await serves(address, signed));
  t.notOk(await serves(address, unsigned), 'no trusted key signed its narinfo');
  t.notOk(await serves(address, unknown), 'no catalog signed its torrent');
  t.equal(catalog.announces.length, 1);
  t.equal(catalog.announces[0]?.get('event'), 'started');
  t.equal(catalog.announces[0]?.get('left'), '0');
  t.equal(catalog.announces[0]?.get('port'), address.split(':').at(-1));

  const other = await lab.client([], [catalog], { noUpstream: true, dataDir: `${lab.dir}/other` });
  await catalog.killSeeds();
  catalog.peers = [address];
  t.ok((await fetchNar(other, signed)).body.equals(signed.bytes), 'another client fetches from this one');
  t.ok(statusOf(client).share.uploadedBytes >= signed.bytes.length);

  await client.close();
  t.equal(catalog.announces.at(-1)?.get('event'), 'stopped');
});

t.test('what was held before a restart is announced after it', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([signed]);
  const before = await lab.client([], [catalog], { noUpstream: true });
  await fetchNar(before, signed);
  await until(() => statusOf(before).cache.files === 1);
  await before.close();
  const after = await lab.client([], [catalog], { noUpstream: true, share: 'on' });
  await until(() => statusOf(after).share.announcedTorrents === 1);
  t.ok(await serves(after.peersAddress ?? '', signed));
});

t.test('a client stops within two seconds, also when the tracker hangs', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([signed]);
  const client = await lab.client([], [catalog], { noUpstream: true, share: 'on' });
  await fetchNar(client, signed);
  await until(() => statusOf(client).share.announcedTorrents === 1);
  catalog.intercept = () => true;
  const started = performance.now();
  await client.close();
  await client.close();
  t.ok(performance.now() - started < 2_000);
});

t.test('a large NAR file is served piece by piece while it is fetched, if it may be shared', async (t) => {
  const lab = await Lab.open(t);
  const large = madeNar({ name: 'large', sizeBytes: 6 * mib });
  const foreign = madeNar({ name: 'foreign', sizeBytes: 6 * mib, signed: false });
  const catalog = await lab.catalog([large, foreign]);
  const gate = Promise.withResolvers<void>();
  catalog.beforeRead = async (position) => (position >= 3 * mib ? gate.promise : undefined);
  const limits = { swarmPatienceMs: 60_000 };
  const client = await lab.client([], [catalog], { noUpstream: true, share: 'on', limits });
  const address = client.peersAddress ?? '';
  const fetching = Promise.all([large, foreign].map((nar) => fetchNar(client, nar)));
  await until(() => catalog.announces.length > 0);
  t.equal(catalog.announces[0]?.get('event'), 'started');
  t.not(catalog.announces[0]?.get('left'), '0', 'as one that lacks something');

  const peer = RawPeer.open(Number(address.split(':').at(-1)), large.torrent);
  peer.send(encodeSimple('interested'));
  await peer.hears('unchoke');
  const block = (index: number) => ({ index, begin: 0, lengthBytes: 16 * 1024 });
  const last = Math.ceil(large.torrent.length / large.torrent.pieceLength) - 1;
  await until(() => {
    peer.send(encodeRequests([block(0)]));
    return peer.blocks.has('0:0');
  });
  peer.send(encodeRequests([block(last)]));
  await peer.hears(`reject ${last} 0 16384`);
  t.notOk(await serves(address, foreign), 'no trusted key signed its narinfo');

  gate.resolve();
  await fetching;
  await peer.hears(`have ${last}`);
  await until(() => statusOf(client).share.announcedTorrents === 1);
  peer.send(encodeRequests([block(last)]));
  await peer.hears(`piece ${last}:0`);
  const at = last * large.torrent.pieceLength;
  t.ok(peer.blocks.get(`${last}:0`)?.equals(large.bytes.subarray(at, at + 16 * 1024)));
  await peer.destroy();
});
