/** Short requests are answered before Node's HTTP server sees them, and nobody can tell. Over real sockets. */

import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import { connect } from 'node:net';
import t, { type Test } from 'tap';
import { type HttpLimits, type HttpServer, openHttpServer } from '../../web/server.ts';
import { type ShortAnswer, shortHead, shortNotFound, shortTarget } from '../../web/short-requests.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

const headers = { 'Accept-Ranges': 'bytes', 'Content-Type': 'text/plain' };
const head = shortHead('200 OK', headers);
const answer = (text: string): ShortAnswer => ({ head, text });
/** What Nix sends. */
const nix =
  'Host: x:1\r\nUser-Agent: curl/8.5.0 Nix/2.18.1\r\nAccept: */*\r\nAccept-Encoding: deflate, gzip, br, zstd\r\n';
const get = (target: string, more = ''): string => `GET ${target} HTTP/1.1\r\n${nix}${more}\r\n`;

/** For what is below `/short`. */
type Short = (target: string) => ShortAnswer | Promise<ShortAnswer> | undefined;

interface Opened {
  server: HttpServer;
  /** Targets that were left to Node. */
  left: string[];
}

/** Node answers everything else with its target. */
async function open(t: Test, short: Short, limits: Partial<HttpLimits> = {}): Promise<Opened> {
  provesNothingStaysOpen(t);
  const left: string[] = [];
  const app: RequestListener = (request, response) => {
    const { url = '' } = request;
    left.push(url);
    request.resume();
    const text = `${url}\u00e9`;
    response.writeHead(200, { ...headers, 'Content-Length': Buffer.byteLength(text) });
    response.end(text);
  };
  const server = await openHttpServer({
    host: '127.0.0.1',
    port: 0,
    app,
    short(target, send) {
      const ready = target.startsWith('/short') ? short(target) : undefined;
      if (ready instanceof Promise) void ready.then(send);
      else if (ready !== undefined) send(ready);
      return ready !== undefined;
    },
    limits: { drainMs: 2_000, ...limits },
  });
  t.teardown(() => server.close());
  return { server, left };
}

/** Says each after what was said before was answered with something; what it heard when the server closed. */
async function hears(server: HttpServer, said: readonly string[], { end = true } = {}): Promise<string> {
  const socket = connect(server.port, '127.0.0.1');
  socket.on('error', () => undefined);
  const closed = once(socket, 'close');
  let heard = '';
  socket.setEncoding('utf8').on('data', (text: string) => {
    heard += text;
  });
  for (const [index, each] of said.entries()) {
    socket.write(each);
    if (index < said.length - 1) await once(socket, 'data');
  }
  if (end) socket.end();
  await closed;
  return heard;
}

const withoutDate = (heard: string): string => heard.replaceAll(/^Date: .* GMT\r\n/gm, 'Date: GMT\r\n');

t.test('the answer is byte for byte that of Node, and the connection is kept', async (t) => {
  const { server, left } = await open(t, (target) => answer(`${target}\u00e9`));
  const twice = [get('/short'), get('/short/again')];
  const heard = await hears(server, twice);
  t.strictSame(left, []);
  const others = await hears(
    server,
    twice.map((each) => each.replace('\r\n\r\n', '\r\nX: y\r\n\r\n')),
  );
  t.strictSame(left, ['/short', '/short/again']);
  t.equal(withoutDate(heard), withoutDate(others));
  t.match(heard, /Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n/);
});

t.test('what nobody has is said at once, too', async (t) => {
  const { server } = await open(t, () => shortNotFound);
  t.match(await hears(server, [get('/short')]), /^HTTP\/1\.1 404 Not Found\r\n[\s\S]*\r\n\r\nnot found\n$/);
});

t.test('only what can mean nothing else is short', async (t) => {
  t.equal(shortTarget(get('/x')), '/x');
  t.equal(shortTarget(get('/x', 'Connection: keep-alive\r\n')), '/x');
  t.equal(shortTarget('GET /x HTTP/1.1\r\nhost: a\r\n\r\n'), '/x');
  for (const other of [
    get('/x').replace('GET', 'HEAD'),
    get('/x').replace('GET', 'POST'),
    get('/x').replace('HTTP/1.1', 'HTTP/1.0'),
    get('http://x/x'),
    get('/x\u00e9'),
    get('/x', 'Range: bytes=0-1\r\n'),
    get('/x', 'Connection: close\r\n'),
    get('/x', 'Connection: keep-alive, upgrade\r\n'),
    get('/x', 'Content-Length: 5\r\n'),
    get('/x', 'Transfer-Encoding: chunked\r\n'),
    get('/x', 'Expect: 100-continue\r\n'),
    get('/x', 'Origin: http://another\r\n'),
    get('/x', 'Accept-Language: en\r\n'),
    get('/x', 'Sec-Fetch-Site: cross-site\r\n'),
    get('/x', 'Host: another\r\n'),
    get('/x', ' folded: line\r\n'),
    get('/x', 'Accept : x\r\n'),
    get('/x').replaceAll('\r\n', '\n'),
    get('/x').replace('Host: x:1\r\n', ''),
    get('/x').replace('Host', 'X-Host'),
    `${get('/x')}${get('/y')}`,
    `\r\n${get('/x')}`,
    get('/x').slice(0, -1),
    get(`/${'x'.repeat(3_000)}`),
    'GET /x HTTP/1.1\r\n\r\n',
  ]) {
    t.equal(shortTarget(other), undefined, JSON.stringify(other));
  }
});

t.test('many lines take no longer than others', async (t) => {
  const lines = 'Accept: x\r\n'.repeat(28);
  const startedMs = performance.now();
  t.equal(shortTarget(get('/x', `${lines}X: y\r\n`)), undefined);
  t.equal(shortTarget(get('/x', lines)), '/x');
  t.ok(performance.now() - startedMs < 5_000);
});

t.test(
  'with anything else the connection is Node\u2019s from then on, and every request is answered in turn',
  async (t) => {
    const { server, left } = await open(t, async (target) => answer(`${target}\u00e9`));
    const targets = ['/short/1', '/long/2', '/short/3'];
    const heard = await hears(
      server,
      targets.map((target) => get(target)),
    );
    t.strictSame(heard.match(/\/[a-z]+\/\d/g), targets);
    t.strictSame(left, ['/long/2', '/short/3']);
    // Together, in pieces, and while the first is being answered.
    const all = targets.map((target) => get(target)).join('');
    for (const cut of [0, 5, get('/short/1').length, get('/short/1').length + 5, all.length - 1]) {
      const socket = connect(server.port, '127.0.0.1').setNoDelay();
      let heard = '';
      socket.setEncoding('utf8').on('data', (text: string) => {
        heard += text;
        if (heard.split('HTTP/1.1 200').length === 4) socket.end();
      });
      const closed = once(socket, 'close');
      socket.write(all.slice(0, cut));
      setImmediate(() => socket.write(all.slice(cut)));
      await closed;
      t.strictSame(heard.match(/\/[a-z]+\/\d/g), targets, `cut at ${cut}`);
    }
  },
);

t.test('what comes while one is answered waits until it is, and who stops asking hears it', async (t) => {
  const asked = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const ready = Promise.withResolvers<ShortAnswer>();
  let times = 0;
  const { server, left } = await open(t, () => {
    asked[times++]?.resolve();
    return ready.promise;
  });
  const hearing = hears(server, [get('/short')]);
  await asked[0]?.promise;
  const socket = connect(server.port, '127.0.0.1');
  let heard = '';
  socket.setEncoding('utf8').on('data', (text: string) => {
    heard += text;
    if (/\/long/.test(heard)) socket.end();
  });
  const closed = once(socket, 'close');
  socket.write(get('/short'));
  await asked[1]?.promise;
  await new Promise<void>((resolve) => socket.write(get('/long'), () => resolve()));
  ready.resolve(answer('first'));
  await closed;
  t.match(heard, /\r\n\r\nfirstHTTP\/1\.1 200 OK\r\n[\s\S]*\/long/);
  t.match(await hearing, /\r\n\r\nfirst$/);
  t.strictSame(left, ['/long']);
});

t.test('closing lets an answer under way finish, and says that it is the last', async (t) => {
  const asked = Promise.withResolvers<void>();
  const ready = Promise.withResolvers<ShortAnswer>();
  const { server } = await open(t, () => {
    asked.resolve();
    return ready.promise;
  });
  const [hearing, idle] = [hears(server, [get('/short')], { end: false }), hears(server, [], { end: false })];
  await asked.promise;
  const closing = server.close();
  t.equal(await idle, '');
  ready.resolve(answer('last'));
  t.match(await hearing, /Connection: close\r\n\r\nlast$/);
  await closing;
});

t.test('connections on which nothing more is asked are closed after a while', async (t) => {
  const { server } = await open(t, () => answer('x'), { headersTimeoutMs: 50, keepAliveMs: 50 });
  t.equal(await hears(server, [], { end: false }), '');
  t.match(await hears(server, [get('/short')], { end: false }), /x$/);
});

t.test('who does not read its answers is given no more of them, and is cut', async (t) => {
  let asked = 0;
  // More than the system keeps for both ends of a connection, which may be 36 MiB.
  const text = 'x'.repeat(64 << 20);
  const { server } = await open(
    t,
    () => {
      asked++;
      return answer(text);
    },
    { keepAliveMs: 200 },
  );
  const socket = connect(server.port, '127.0.0.1');
  socket.on('error', () => undefined).pause();
  socket.write(get('/short'));
  while (asked === 0) await new Promise((resolve) => setImmediate(resolve));
  while (server.connections() > 0) {
    if (!socket.destroyed) socket.write(get('/short'));
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  t.equal(asked, 1);
  socket.destroy();
});

t.test('who goes away before its answer came is nobody\u2019s trouble', async (t) => {
  const asked = Promise.withResolvers<void>();
  const ready = Promise.withResolvers<ShortAnswer>();
  const { server } = await open(t, () => {
    asked.resolve();
    return ready.promise;
  });
  const socket = connect(server.port, '127.0.0.1');
  socket.write(get('/short'));
  await asked.promise;
  socket.resetAndDestroy();
  while (server.connections() > 0) await new Promise((resolve) => setImmediate(resolve));
  ready.resolve(answer('x'));
  t.match(await hears(server, [get('/short')]), /x$/);
});
