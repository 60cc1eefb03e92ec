/** Readers as they come: two hundred at once, ones that hardly read, ones that go away. */

import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { printPublicKey } from '../../nar/signature.ts';
import { healthOf, settled } from '../../scripts/matrix/health.ts';
import { type Program, startProgram, until as untilTrue } from '../helpers/program.ts';
import { fetchNar, get, Lab, statusOf, until } from './lab.ts';
import { cacheKey, madeNar } from './made-nar.ts';
import { TestUpstream } from './test-upstream.ts';

const clients = 200;
const small = Array.from({ length: 40 }, (_, n) =>
  madeNar({ name: `small-${n}`, sizeBytes: 3_000 + n * 500 }),
);
const shared = madeNar({ name: 'shared', sizeBytes: 2_000_000, compression: 'none' });

t.test('two hundred clients at once get what they want, and each NAR file is fetched once', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([shared, ...small]);
  const client = await lab.client([upstream]);
  // Each has two connections: for what all of them want, and for what few want.
  const one = async (n: number): Promise<number> => {
    const own = small[n % small.length] ?? shared;
    const [all, few] = await Promise.all([fetchNar(client, shared), fetchNar(client, own)]);
    return Number(all.complete && all.body.equals(shared.bytes)) + Number(few.body.equals(own.bytes));
  };
  const right = await Promise.all(Array.from({ length: clients }, (_, n) => one(n)));
  t.equal(
    right.reduce((sum, count) => sum + count),
    2 * clients,
    'right answers',
  );
  for (const { narInfo } of [shared, ...small]) t.equal(upstream.requestsFor(narInfo.url), 1);
  await until(() => statusOf(client).transfers.running.length === 0);
});

const largeBytes = 48 * 1024 * 1024;
const large = madeNar({ name: 'large', sizeBytes: largeBytes, compression: 'none' });
const slowReaders = 12;
/** All of them together would hold 576 MiB, and the client four times as much of it as this. */
const residentMoreBytes = 150 * 1024 * 1024;

async function clientProcess(t: Test, upstream: TestUpstream): Promise<Program> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-readers-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const client = await startProgram([
    ...['client', '--data', dir, '--http', '127.0.0.1:0', '--upstream', upstream.url],
    ...['--trusted-key', printPublicKey(cacheKey.publicKey)],
  ]);
  t.teardown(() => client.kill());
  return client;
}

/** Asks for a file, and reads nothing until it is told to. */
async function idleReader(t: Test, url: string, path: string): Promise<Socket> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port) });
  t.teardown(() => void socket.destroy());
  socket.pause();
  await once(socket, 'connect');
  socket.write(`GET /${path} HTTP/1.1\r\nHost: ${hostname}\r\nConnection: close\r\n\r\n`);
  await once(socket, 'readable');
  return socket;
}

t.test('readers that take a byte at a time cost no memory and delay nobody', async (t) => {
  const upstream = await TestUpstream.open([large, ...small]);
  t.teardown(() => upstream.close());
  const client = await clientProcess(t, upstream);
  await get(client.url, `${large.storeHash}.narinfo`);
  const before = await healthOf(client);
  const readers: Socket[] = [];
  for (let n = 0; n < slowReaders; n++) readers.push(await idleReader(t, client.url, large.narInfo.url));
  let mostBytes = 0;
  for (const nar of small) {
    // Each of them takes one more byte while others are served.
    for (const reader of readers) reader.read(1);
    await get(client.url, `${nar.storeHash}.narinfo`);
    t.ok((await get(client.url, nar.narInfo.url)).body.equals(nar.bytes));
    mostBytes = Math.max(mostBytes, (await healthOf(client)).residentBytes);
  }
  const whole = await get(client.url, large.narInfo.url);
  t.ok(whole.body.equals(large.bytes), 'one that reads gets all of it meanwhile');
  mostBytes = Math.max(mostBytes, (await healthOf(client)).residentBytes);
  const moreBytes = mostBytes - before.residentBytes;
  t.ok(moreBytes < residentMoreBytes, `${Math.round(moreBytes / 2 ** 20)} MiB more`);
  t.equal(upstream.requestsFor(large.narInfo.url), 1);
  // One reads on after all, the others go away.
  const [patient, ...others] = readers;
  for (const reader of others) reader.destroy();
  let bytes = 0;
  patient?.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  patient?.resume();
  if (patient !== undefined) await once(patient, 'end');
  t.ok(bytes >= largeBytes - small.length - 1, `${bytes} bytes came to the patient one`);
  t.equal(await settled(client, before), undefined, 'nothing is left');
  t.equal(await client.stop(), 0);
});

t.test('a client that goes away mid-body leaves no fetch, no connection and no file behind', async (t) => {
  const endless = madeNar({ name: 'endless', sizeBytes: 30_000_000, compression: 'none' });
  const upstream = await TestUpstream.open([endless]);
  t.teardown(() => upstream.close());
  let open = 0;
  upstream.intercept = (request, response) => {
    if (!request.url?.includes('nar/')) return false;
    response.writeHead(200, { 'content-length': endless.bytes.length });
    response.write(endless.bytes.subarray(0, 5_000_000));
    open++;
    response.once('close', () => open--);
    return true;
  };
  const client = await clientProcess(t, upstream);
  await get(client.url, `${endless.storeHash}.narinfo`);
  const before = await healthOf(client);
  const gone = await get(client.url, endless.narInfo.url, { onBytes: (_bytes, stop) => stop() });
  t.notOk(gone.complete);
  t.equal(open, 1, 'it is waited for: Nix comes back after a broken connection');
  await untilTrue(async () => open === 0);
  t.equal(await settled(client, before), undefined);
  t.equal(await client.stop(), 0);
});
