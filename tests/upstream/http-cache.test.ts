/** An HTTP cache against servers that are right, and against servers that are wrong in one way each. */

import { randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { NarswarmError } from '../../nar/errors.ts';
import { parseStoreHash } from '../../nar/store-path.ts';
import { HttpCache, type HttpCacheOptions } from '../../upstream/http-cache.ts';
import { HttpClient } from '../../upstream/http-client.ts';
import { defaultUpstreamLimits } from '../../upstream/limits.ts';
import { type FaultServer, type FaultServerOptions, openFaultServer } from '../helpers/fault-server.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

const bytes = randomBytes(300_000);
const middle = 150_000;
const hash = parseStoreHash('0'.repeat(32));
const narInfo = [
  `StorePath: /nix/store/${hash}-name`,
  'URL: nar/name.nar.xz',
  'Compression: xz',
  `NarHash: sha256:${'1'.repeat(52)}`,
  'NarSize: 1',
  'References: ',
  'X-Unknown: kept',
  '',
].join('\n');

/** Short, so that what takes too long is found out soon; whole half seconds are as exact as undici is. */
const quick = {
  connectTimeoutMs: 1_000,
  headersTimeoutMs: 600,
  bodyStallMs: 600,
  narInfoDeadlineMs: 800,
  drainMs: 100,
};

async function withServer(
  t: Test,
  options: Partial<FaultServerOptions> = {},
  cacheOptions: Partial<HttpCacheOptions> = {},
): Promise<{ server: FaultServer; cache: HttpCache; signal: AbortSignal }> {
  provesNothingStaysOpen(t);
  const server = await openFaultServer({ bytes, ...options });
  t.teardown(() => server.close());
  const cache = new HttpCache({ url: server.url, limits: quick, ...cacheOptions });
  t.teardown(() => cache.close());
  return { server, cache, signal: new AbortController().signal };
}

async function read(body: AsyncIterable<Buffer> | undefined): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of body ?? []) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** What came before the error, and the error. */
async function readUntilError(
  body: AsyncIterable<Buffer> | undefined,
): Promise<{ came: Buffer; error: unknown }> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of body ?? []) chunks.push(chunk);
  } catch (error) {
    return { came: Buffer.concat(chunks), error };
  }
  throw new Error('ended as if it were whole');
}

t.test('a NAR file comes whole, with what is known about it', async (t) => {
  const { server, cache, signal } = await withServer(t);
  const nar = await cache.openNar('file/name.nar.xz?query=1', { signal });
  t.match(nar, { lengthBytes: bytes.length, fromByte: 0, etag: '"fault-server"' });
  t.equal(nar?.finalUrl, `${server.url}/file/name.nar.xz?query=1`);
  t.ok((await read(nar?.body)).equals(bytes));
  t.equal(server.requests[0]?.headers['accept-encoding'], 'identity');
});

t.test('a NAR file goes on at any byte', async (t) => {
  const { server, cache, signal } = await withServer(t);
  for (const fromByte of [1, middle, bytes.length - 1]) {
    const nar = await cache.openNar('file/x', { fromByte, signal });
    t.match(nar, { lengthBytes: bytes.length, fromByte });
    t.ok((await read(nar?.body)).equals(bytes.subarray(fromByte)));
  }
  t.ok(server.connections() <= 2, 'over connections that are kept');
});

t.test('a server that ignores Range is made to fit by leaving bytes out', async (t) => {
  const { cache, signal } = await withServer(t);
  for (const fault of ['ignore-range', 'ignore-range-chunked']) {
    const nar = await cache.openNar(`${fault}/x`, { fromByte: middle, signal });
    t.ok((await read(nar?.body)).equals(bytes.subarray(middle)), fault);
  }
});

t.test('404 and 403 mean absent, for NAR files and narinfos', async (t) => {
  const { server, cache, signal } = await withServer(t);
  t.equal(await cache.openNar('status-404/x', { signal }), undefined);
  t.equal(await cache.openNar('status-403/x', { signal }), undefined);
  t.equal(await cache.getNarInfo(hash, signal), undefined);
  for (const fault of ['status-404', 'status-403']) {
    const below = new HttpCache({ url: `${server.url}/${fault}`, limits: quick });
    t.equal(await below.getNarInfo(hash, signal), undefined);
    await below.close();
  }
});

t.test('what fails before the body fails at once, and says how', async (t) => {
  const { cache, signal } = await withServer(t);
  const cases: [string, number, RegExp][] = [
    ['status-500/x', 0, /status 500/],
    ['status-429/x', 0, /status 429/],
    ['hang-before-headers/x', 0, /no answer in time/],
    ['cut-before-headers/x', 0, /connection was lost/],
    ['wrong-content-range/x', middle, /Content-Range/],
    ['short-content-range/x', middle, /Content-Range/],
    ['wrong-total/x', middle, /Content-Range/],
    ['no-content-range/x', middle, /without a Content-Range/],
    ['wrong-length-206/x', middle, /Content-Range/],
    ['unasked-206/x', 0, /status 206/],
    ['gzip/x', 0, /Content-Encoding gzip/],
    ['redirect-loop/x', 0, /more than 5 redirects/],
    ['file/x', bytes.length, /no byte 300000/],
    ['ignore-range/x', bytes.length, /byte 300000 of a file of 300000/],
    ['long-head/x', 0, /head of the answer is too long/],
    ['garbage/x', 0, /./],
  ];
  for (const [path, fromByte, message] of cases) {
    const opening = cache.openNar(path, { fromByte, signal });
    await t.rejects(opening, { code: 'upstream-failed', message }, `${path} from ${fromByte}`);
  }
});

t.test('a body that breaks is an error after the bytes that came, never a clean end', async (t) => {
  const { cache, signal } = await withServer(t);
  for (const fault of ['cut-mid-body', 'hang-mid-body', 'cut-chunked']) {
    const nar = await cache.openNar(`${fault}/x`, { signal });
    const { came, error } = await readUntilError(nar?.body);
    t.match(error, { code: 'upstream-failed' }, fault);
    t.ok(came.equals(bytes.subarray(0, came.length)), `${came.length} right bytes before`);
  }
});

t.test('a part that is shorter or longer than the server said is an error', async (t) => {
  const { cache, signal } = await withServer(t);
  for (const fault of ['short-chunked-206', 'long-chunked-206']) {
    const nar = await cache.openNar(`${fault}/x`, { fromByte: middle, signal });
    const { came, error } = await readUntilError(nar?.body);
    t.match(error, { code: 'upstream-failed', message: /150000/ }, fault);
    t.ok(came.equals(bytes.subarray(middle, middle + came.length)));
  }
});

t.test('a file of unknown length that ends before the part asked for is an error', async (t) => {
  const { cache, signal } = await withServer(t);
  const nar = await cache.openNar('chunked/x', { fromByte: bytes.length + 1, signal });
  const { error } = await readUntilError(nar?.body);
  t.match(error, { code: 'upstream-failed' });
});

t.test('an endless body is read no further than its reader wants', async (t) => {
  const { server, cache, signal } = await withServer(t);
  for (const fault of ['huge', 'huge-announced']) {
    const nar = await cache.openNar(`${fault}/x`, { signal });
    let size = 0;
    for await (const chunk of nar?.body ?? []) {
      size += chunk.length;
      if (size > 1_000_000) break;
    }
  }
  await cache.close();
  await until(() => server.connections() === 0);
});

t.test('an opened body can be given up before it is read', async (t) => {
  const { server, cache, signal } = await withServer(t);
  const nar = await cache.openNar('huge/x', { signal });
  await nar?.body[Symbol.asyncIterator]().return();
  await until(() => server.connections() === 0);
  t.same(await nar?.body.next(), { done: true, value: undefined });
});

t.test('aborting ends every wait, with the code or the reason given', async (t) => {
  const { server, cache } = await withServer(
    t,
    {},
    { limits: { ...quick, headersTimeoutMs: 60_000, bodyStallMs: 60_000 } },
  );
  const first = new AbortController();
  const opening = cache.openNar('hang-before-headers/x', { signal: first.signal });
  await until(() => server.requests.length === 1);
  first.abort();
  await t.rejects(opening, { code: 'aborted' });

  const second = new AbortController();
  const nar = await cache.openNar('hang-mid-body/x', { signal: second.signal });
  const reading = readUntilError(nar?.body);
  second.abort(new NarswarmError('swarm-stalled', 'the reason of a caller'));
  t.match((await reading).error, { code: 'swarm-stalled' });

  await t.rejects(cache.openNar('file/x', { signal: AbortSignal.abort() }), { code: 'aborted' });
  t.equal(server.requests.length, 2);
  await until(() => server.connections() === 0);
});

t.test('aborting ends the wait for a connection at once', async (t) => {
  const { server, cache } = await withServer(
    t,
    {},
    { limits: { ...quick, connectionsPerOrigin: 1, headersTimeoutMs: 10_000 } },
  );
  const [first, second] = [new AbortController(), new AbortController()];
  const asked = cache.openNar(server.path('hang-before-headers'), { signal: first.signal });
  const waiting = cache.openNar(server.path('file'), { signal: second.signal });
  second.abort();
  await t.rejects(waiting, { code: 'aborted' });
  first.abort();
  await t.rejects(asked, { code: 'aborted' });
  t.ok(
    (
      await read((await cache.openNar(server.path('file'), { signal: new AbortController().signal }))?.body)
    ).equals(bytes),
  );
});

t.test('a slow body is not a stalled one', async (t) => {
  const { cache, signal } = await withServer(t, { bytes: Buffer.from('slow!'), dribbleMs: 300 });
  const nar = await cache.openNar('dribble/x', { signal });
  t.equal((await read(nar?.body)).toString(), 'slow!');
});

t.test('a cache that is not there says so', async (t) => {
  const { server, cache, signal } = await withServer(t);
  await server.close();
  await t.rejects(cache.getNarInfo(hash, signal), {
    code: 'upstream-failed',
    message: /connection was refused/,
  });
  await t.rejects(cache.openNar('file/x', { signal }), { code: 'upstream-failed' });
});

t.test('redirects are followed, with Range', async (t) => {
  const { server, cache, signal } = await withServer(t);
  const nar = await cache.openNar('redirect-to-file/y', { fromByte: middle, signal });
  t.ok((await read(nar?.body)).equals(bytes.subarray(middle)));
  t.equal(nar?.finalUrl, `${server.url}/file/y`);
});

t.test('a lost keep-alive connection is made again without a failure', async (t) => {
  const { cache, signal } = await withServer(t, {
    other(request, response) {
      if (seen.has(request.socket) && !lost) {
        lost = true;
        request.socket.destroy();
      } else {
        response.writeHead(200).end('x');
      }
      seen.add(request.socket);
    },
  });
  const seen = new Set<unknown>();
  let lost = false;
  for (let round = 0; round < 8; round += 1)
    t.equal((await read((await cache.openNar('x', { signal }))?.body)).length, 1);
});

t.test('a narinfo is given verbatim, in whatever encoding it is sent', async (t) => {
  const encodings: Record<string, (text: string) => Buffer> = {
    identity: (text) => Buffer.from(text),
    gzip: (text) => gzipSync(text),
    br: (text) => brotliCompressSync(text),
    zstd: (text) => zstdCompressSync(text),
  };
  let encoding = '';
  const { cache, signal } = await withServer(t, {
    other(_request, response) {
      response.writeHead(200, { 'content-encoding': encoding }).end(encodings[encoding]?.(narInfo));
    },
  });
  for (encoding of Object.keys(encodings)) t.equal(await cache.getNarInfo(hash, signal), narInfo, encoding);
  encodings.gzip = () => gzipSync(Buffer.alloc(64 << 20));
  encoding = 'gzip';
  await t.rejects(cache.getNarInfo(hash, signal), { code: 'upstream-failed' }, 'a bomb');
});

t.test('a narinfo of another path, or none at all, is not taken', async (t) => {
  let text = narInfo.replace(hash, '1'.repeat(32));
  const { cache, signal } = await withServer(t, { other: (_request, response) => response.end(text) });
  await t.rejects(cache.getNarInfo(hash, signal), { code: 'upstream-failed', message: /a narinfo of / });
  text = '<!doctype html>';
  await t.rejects(cache.getNarInfo(hash, signal), { code: 'narinfo-corrupt' });
});

t.test('a narinfo that is too long or takes too long is given up', async (t) => {
  const { server, signal } = await withServer(t);
  for (const fault of [
    'huge',
    'huge-announced',
    'dribble',
    'hang-mid-body',
    'hang-before-headers',
    'status-500',
  ]) {
    const cache = new HttpCache({ url: `${server.url}/${fault}`, limits: quick });
    await t.rejects(cache.getNarInfo(hash, signal), { code: 'upstream-failed' }, fault);
    await cache.close();
  }
});

t.test('nix-cache-info is read', async (t) => {
  const { cache, signal } = await withServer(t, {
    other: (_request, response) => response.end('StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n'),
  });
  t.match(await cache.getCacheInfo(signal), { storeDir: '/nix/store', priority: 40 });
});

t.test('URLs are taken relative to the cache, with its path, or as they are', async (t) => {
  provesNothingStaysOpen(t);
  const cache = new HttpCache({ url: 'http://cache.example/base/' });
  t.equal(cache.url, 'http://cache.example/base');
  const resolved: [string, string][] = [
    ['nar/x.nar.xz', 'http://cache.example/base/nar/x.nar.xz'],
    ['nar/x.nar?hash=1&b=%2F', 'http://cache.example/base/nar/x.nar?hash=1&b=%2F'],
    ['https://other.example/y?z', 'https://other.example/y?z'],
    ['nar/a b', 'http://cache.example/base/nar/a%20b'],
  ];
  for (const [narUrl, url] of resolved) t.equal(cache.resolveUrl(narUrl).href, url);
  for (const bad of [
    'file:///etc/passwd',
    's3://bucket/x',
    'http://',
    'ftp://x/y',
    'http://u:p@x.example/',
  ]) {
    t.throws(() => cache.resolveUrl(bad), { code: 'upstream-failed' }, bad);
  }
  await cache.close();
  for (const bad of ['', 'cache.example', 'file:///x', 'http://u:p@x.example/', 'http://x.example/?q=1']) {
    t.throws(() => new HttpCache({ url: bad }), { code: 'config-invalid' }, bad);
  }
});

t.test('URLs of others lead to public addresses alone', async (t) => {
  const { server, cache, signal } = await withServer(
    t,
    {
      other: (request, response) =>
        response.writeHead(302, { location: String(request.headers['x-to']) }).end(),
    },
    {
      lookup(_hostname, options, callback) {
        if (options.all === true) callback(null, [{ address: '127.0.0.1', family: 4 }]);
        else callback(null, '127.0.0.1', 4);
      },
    },
  );
  const other = await openFaultServer({ bytes });
  t.teardown(() => other.close());
  const hosts = [
    '127.0.0.1',
    'localhost',
    'rebound.example',
    '[::1]',
    '[::ffff:127.0.0.1]',
    '0x7f000001',
    '2130706433',
  ];
  for (const host of hosts) {
    const url = `http://${host}:${other.port}/file/x`;
    await t.rejects(
      cache.openNar(url, { signal }),
      { code: 'upstream-failed', message: /not a public address/ },
      host,
    );
    const redirected = cache.get('to', { headers: { 'x-to': url }, signal });
    await t.rejects(
      redirected,
      { code: 'upstream-failed', message: /not a public address/ },
      `redirect to ${host}`,
    );
  }
  t.equal(other.accepted(), 0, 'not even connected to');
  const own = await cache.openNar(`${server.url}/file/x`, { signal });
  t.equal((await read(own?.body)).length, bytes.length, 'the cache itself may be anywhere');

  const trusting = new HttpCache({ url: server.url, limits: quick, trustedOrigins: [other.url] });
  t.teardown(() => trusting.close());
  const named = await trusting.openNar(`${other.url}/file/x`, { signal });
  t.equal((await read(named?.body)).length, bytes.length, 'and so may what the operator named');
});

t.test('anything else is passed through as it is', async (t) => {
  const { server, cache, signal } = await withServer(t, {
    other(request, response) {
      if (request.headers['if-none-match'] === '"tag"')
        response.writeHead(304, { 'content-length': 9 }).end();
      else
        response
          .writeHead(418, { 'content-encoding': 'br', 'x-more': 'more' })
          .end(Buffer.from('not brotli'));
    },
  });
  const answer = await cache.get('/log/x.drv', { signal });
  t.match(answer, { status: 418, headers: { 'content-encoding': 'br', 'x-more': 'more' } });
  t.equal((await read(answer.body)).toString(), 'not brotli');
  const unchanged = await cache.get('x.ls', { headers: { 'if-none-match': '"tag"' }, signal });
  t.equal(unchanged.status, 304);
  t.equal((await read(unchanged.body)).length, 0);
  const head = await cache.get('file/x', { method: 'HEAD', signal });
  t.match(head, { status: 200, headers: { 'content-length': String(bytes.length) } });
  t.equal((await read(head.body)).length, 0);
  t.equal(server.requests.at(-1)?.method, 'HEAD');
});

t.test('closing breaks off what does not end by itself', async (t) => {
  const { server, cache, signal } = await withServer(
    t,
    {},
    { limits: { ...quick, headersTimeoutMs: 60_000 } },
  );
  const opening = cache.openNar('hang-before-headers/x', { signal });
  const nar = await cache.openNar('huge/x', { signal });
  const reading = readUntilError(nar?.body);
  const started = Date.now();
  await Promise.all([cache.close(), cache.close(), t.rejects(opening, { code: 'upstream-failed' })]);
  t.match((await reading).error, { code: 'upstream-failed' });
  t.ok(Date.now() - started < 2_000);
  await until(() => server.connections() === 0);
  await t.rejects(cache.openNar('file/x', { signal }), { code: 'upstream-failed' });
});

/** Polls, as the other side of a connection notices its end in its own time. */
async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 5_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('did not come true');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

t.test('caches with one client keep to its bound of connections to a host together', async (t) => {
  const waiting: { url: string; answer(): void }[] = [];
  let connections = 0;
  let most = 0;
  const server = createServer(({ url = '' }, response) => {
    waiting.push({ url, answer: () => void response.writeHead(404).end() });
    arrived.emit('request');
  });
  const arrived = new EventEmitter();
  server.on('connection', (socket) => {
    connections++;
    most = Math.max(most, connections);
    socket.once('close', () => connections--);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const limits = { ...defaultUpstreamLimits, connectionsPerOrigin: 6 };
  const client = new HttpClient({ limits, trustedOrigins: new Set([url]) });
  t.teardown(async () => {
    await client.close();
    server.close();
    server.closeAllConnections();
  });
  const [a, b] = ['a', 'b'].map((path) => new HttpCache({ url: `${url}/${path}`, client }));
  const { signal } = new AbortController();
  const answers = Promise.all(
    Array.from({ length: 40 }, (_none, n) => (n % 2 === 0 ? a : b)?.openNar(`nar/${n}`, { signal })),
  );
  for (let answered = 0; answered < 40; answered++) {
    while (waiting.length < Math.min(6, 40 - answered)) await once(arrived, 'request');
    waiting.shift()?.answer();
  }
  t.ok((await answers).every((opened) => opened === undefined));
  t.equal(most, 6);
});
