/** What of the binary cache protocol is no narinfo and no NAR file: as the first upstream that has it answers, GET and HEAD. */

import { once } from 'node:events';
import { connect } from 'node:net';
import t from 'tap';
import { get, Lab, statusOf, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

const { storeHash } = madeNar({ name: 'small', sizeBytes: 5_000 });
const paths = [
  `${storeHash}.ls`,
  'log/abc-x.drv',
  'realisations/sha256:x!out.doi',
  'build-trace-v2/x.drv/out.doi',
  'debuginfo/ab/cd',
  'debuginfo/0123456789abcdef0123456789abcdef01234567.debug?x=%20y',
];

t.test(
  'everything is passed through from the first upstream that has it, whatever the others say',
  async (t) => {
    const lab = await Lab.open(t);
    const [absent, broken, good, worse] = await Promise.all([0, 1, 2, 3].map(() => lab.upstream()));
    if (absent === undefined || broken === undefined || good === undefined || worse === undefined)
      throw new Error('unreachable');
    broken.intercept = (request, response) => {
      // Whatever it says, before it says that it has it.
      if (request.url?.startsWith('/log/')) request.socket.destroy();
      else response.writeHead(500).end('no');
      return true;
    };
    for (const path of paths) {
      good.put(path, `content of ${path}`);
      worse.put(path, 'another content');
    }
    const client = await lab.client([absent, broken, good, worse]);
    for (const path of paths) {
      const content = `content of ${path}`;
      const length = String(content.length);
      t.match(await get(client.url, path), {
        status: 200,
        body: Buffer.from(content),
        headers: { 'content-length': length },
      });
      const head = await get(client.url, path, { method: 'HEAD' });
      t.match(head, { status: 200, body: Buffer.alloc(0), headers: { 'content-length': length } });
      const part = await get(client.url, path, { headers: { range: 'bytes=3-' } });
      t.match(part, { status: 206, body: Buffer.from(content.slice(3)) });
      t.equal(worse.requestsFor(path), 0);
    }
    t.equal(statusOf(client).passedThrough, paths.length * 3);
    for (const method of ['GET', 'HEAD'])
      t.equal((await get(client.url, 'log/none.drv', { method })).status, 404);
    t.equal((await get(client.url, 'log/abc-x.drv', { method: 'PUT' })).status, 405);
    for (const upstream of [absent, broken, good, worse]) await upstream.close();
    t.equal((await get(client.url, 'log/abc-x.drv')).status, 404);
  },
);

t.test('conditions, types and encodings come through, and no other headers', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream();
  const seen: Record<string, unknown>[] = [];
  upstream.intercept = ({ headers, url }, response) => {
    if (url !== '/log/x.drv') return false;
    seen.push(headers);
    if (headers['if-none-match'] === '"tag"') response.writeHead(304, { etag: '"tag"' }).end();
    else {
      const encoding = { 'content-encoding': 'br', 'content-type': 'text/plain', etag: '"tag"' };
      response.writeHead(200, { ...encoding, 'set-cookie': 'a=b', server: 'x' }).end('encoded');
    }
    return true;
  };
  const client = await lab.client([upstream]);
  const sent = { cookie: 'secret=1', authorization: 'Basic eDp5' };
  const answer = await get(client.url, 'log/x.drv', { headers: sent });
  t.match(answer, { status: 200, body: Buffer.from('encoded') });
  t.match(answer.headers, { 'content-encoding': 'br', 'content-type': 'text/plain', etag: '"tag"' });
  t.match(answer.headers, { 'set-cookie': undefined, server: undefined });
  t.match(await get(client.url, 'log/x.drv', { headers: { 'if-none-match': '"tag"' } }), { status: 304 });
  t.ok(seen.every(({ cookie, authorization }) => cookie === undefined && authorization === undefined));
});

t.test('a body that breaks off is no clean end, whether its length was known or not', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream();
  for (const headers of [{ 'content-length': 1_000 }, {}]) {
    upstream.intercept = (_request, response) => {
      response.writeHead(200, headers);
      response.write('the beginning', () => response.destroy());
      return true;
    };
    const client = await lab.client([upstream]);
    const answer = await get(client.url, 'log/x.drv');
    t.match(answer, { status: 200, complete: false });
    await client.close();
  }
});

t.test('a silent upstream is left for the next one, and not waited for when it rests', async (t) => {
  const lab = await Lab.open(t);
  const [silent, good] = [await lab.upstream(), await lab.upstream()];
  silent.intercept = () => true;
  good.put('log/x.drv', 'a log');
  const limits = { httpStallMs: 600, cacheInfoBudgetMs: 50 };
  const client = await lab.client([`${silent.url}?priority=1`, good], [], { limits });
  for (let n = 0; n < 2; n++) t.equal((await get(client.url, 'log/x.drv')).body.toString(), 'a log');
  const asked = silent.requestsFor('log/x.drv');
  t.equal(asked, 2);
  t.equal((await get(client.url, 'log/x.drv')).body.toString(), 'a log');
  t.equal((await get(client.url, 'log/none.drv')).status, 404);
  t.equal(silent.requestsFor('log/x.drv'), asked);
});

t.test('a body is streamed at the pace of who asks, and one that goes away ends it', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream();
  const chunk = Buffer.alloc(64 * 1024, 'x');
  let sent = 0;
  let ended = false;
  let stuck = false;
  upstream.intercept = ({ url }, response) => {
    if (url !== '/log/endless.drv') return false;
    response.once('close', () => {
      ended = true;
    });
    const more = (): void => {
      stuck = false;
      while (!response.destroyed && !stuck) {
        sent += chunk.length;
        stuck = !response.write(chunk);
      }
      response.once('drain', more);
    };
    more();
    return true;
  };
  const client = await lab.client([upstream]);
  const { hostname, port } = new URL(client.url);
  const socket = connect(Number(port), hostname);
  socket.write('GET /log/endless.drv HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(socket, 'readable');
  // Nobody reads on, so that what is sent settles at what the buffers between hold.
  let before = -1;
  let still = 0;
  await until(() => {
    still = sent === before && stuck ? still + 1 : 0;
    before = sent;
    return still > 20;
  });
  t.ok(sent < 32 * 1024 * 1024, `${sent} bytes`);
  socket.destroy();
  await until(() => ended);
});

t.test('a path that looks like a URL is asked for below the upstream, and leads nowhere else', async (t) => {
  const lab = await Lab.open(t);
  const [upstream, inner] = [await lab.upstream(), await lab.upstream()];
  inner.put('secret', 'for nobody');
  // It is configured, so that the client would go there if it were told to.
  const client = await lab.client([upstream], [inner.url]);
  for (const path of [`${inner.url}/secret`, `/${new URL(inner.url).host}/secret`]) {
    t.equal((await get(client.url, path)).status, 404, path);
  }
  t.equal(inner.requestsFor('secret'), 0);
  t.equal(upstream.requests.filter(({ url }) => url.endsWith('/secret')).length, 2);
});

t.test(
  'URLs in narinfos and redirects lead to no private address but those that are configured',
  async (t) => {
    const lab = await Lab.open(t);
    const [upstream, inner] = [await lab.upstream(), await lab.upstream()];
    const { port } = new URL(inner.url);
    const client = await lab.client([upstream]);
    const hosts = [
      '127.0.0.1',
      'localhost',
      'localhost.',
      '[::1]',
      '[::ffff:127.0.0.1]',
      '2130706433',
      '0x7f.1',
      '0.0.0.0',
      '169.254.169.254',
    ];
    for (const [n, host] of hosts.entries()) {
      const nar = madeNar({
        name: `n${n}`,
        sizeBytes: 100,
        narInfo: { url: `http://${host}:${port}/nar/x` },
      });
      upstream.add(nar);
      const narInfo = await get(client.url, `${nar.storeHash}.narinfo`);
      t.equal(narInfo.body.toString(), nar.narInfo.text, 'left as it is: Nix may go there if it wants to');
    }
    const moved = madeNar({ name: 'moved', sizeBytes: 100 });
    upstream.add(moved);
    upstream.intercept = ({ url }, response) => {
      if (url !== `/${moved.narInfo.url}`) return false;
      response.writeHead(307, { location: `http://localhost:${port}/nar/x` }).end();
      return true;
    };
    t.equal((await get(client.url, `${moved.storeHash}.narinfo`)).status, 200);
    t.equal((await get(client.url, moved.narInfo.url)).status, 404);
    t.same(inner.requests, []);
  },
);
