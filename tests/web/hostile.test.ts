/** Attacks on our HTTP server, over real sockets. After each one others are answered, and no connection is left. */

import { connect, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { makeApp } from '../../web/app.ts';
import { jsonBody } from '../../web/json-body.ts';
import { silentLogger } from '../../web/log.ts';
import { sendFile, sourceOf } from '../../web/send.ts';
import { type HttpLimits, type HttpServer, openHttpServer } from '../../web/server.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

const file = Buffer.alloc(1_000_000, 'x');
const bodyMaxBytes = 64 * 1024;
const bodiesMaxBytes = 4 * bodyMaxBytes;

async function open(t: Test, limits: Partial<HttpLimits> = {}): Promise<HttpServer> {
  provesNothingStaysOpen(t);
  const app = makeApp({
    logger: silentLogger,
    routes: (router) => {
      router.get('/file', async (request, response) => {
        await sendFile(request, response, { ...sourceOf(file), contentType: 'text/plain' });
      });
      router.post(
        '/body',
        jsonBody(bodyMaxBytes, bodiesMaxBytes),
        (_request, response) => void response.end('taken'),
      );
    },
  });
  const server = await openHttpServer({ host: '127.0.0.1', port: 0, app, limits });
  t.teardown(() => server.close());
  return server;
}

/** What one connection hears until it is closed. */
async function hears(server: HttpServer, ...said: (string | Buffer)[]): Promise<string> {
  const socket = dial(server);
  const heard: Buffer[] = [];
  socket.on('data', (chunk) => heard.push(chunk));
  for (const each of said) socket.write(each);
  await closed([socket]);
  return Buffer.concat(heard).toString('latin1');
}

function dial(server: HttpServer): Socket {
  const socket = connect(server.port, '127.0.0.1');
  socket.on('error', () => {});
  return socket;
}

async function closed(sockets: readonly Socket[]): Promise<void> {
  await Promise.all(
    sockets.map(
      (socket) =>
        new Promise<void>((resolve) => {
          if (socket.closed) resolve();
          else socket.once('close', () => resolve());
        }),
    ),
  );
}

async function othersAreServed(t: Test, server: HttpServer): Promise<void> {
  const response = await fetch(`${server.url}/file`, { headers: { connection: 'close' } });
  t.equal((await response.arrayBuffer()).byteLength, file.length);
  while (server.connections() > 0) await setImmediate();
}

t.test('heads that come a byte at a time are cut at the deadline', async (t) => {
  const server = await open(t, { headersTimeoutMs: 500, requestTimeoutMs: 500 });
  const sockets = Array.from({ length: 200 }, () => dial(server).resume());
  const head = 'GET /file HTTP/1.1\r\nHost: x\r\nX: ';
  let at = 0;
  const timer = setInterval(() => {
    for (const socket of sockets) if (!socket.destroyed) socket.write(head[at] ?? 'x');
    at++;
  }, 20);
  await closed(sockets);
  clearInterval(timer);
  await othersAreServed(t, server);
});

t.test('many bodies that end a little before their end do not fill the memory', async (t) => {
  const server = await open(t);
  const head = `POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: ${bodyMaxBytes}\r\n\r\n`;
  const sockets: Socket[] = [];
  const answered = Array.from({ length: 6 }, () => {
    const socket = dial(server);
    sockets.push(socket);
    socket.write(head + ' '.repeat(bodyMaxBytes - 1));
    return new Promise<string>((resolve) =>
      socket.once('data', (chunk) => resolve(chunk.toString('latin1'))),
    );
  });
  t.match(await Promise.race(answered), /^HTTP\/1\.1 429 /);
  for (const socket of sockets) socket.destroy();
  await closed(sockets);
  await othersAreServed(t, server);
  const again = await fetch(`${server.url}/body`, {
    method: 'POST',
    body: '{}',
    headers: { connection: 'close' },
  });
  t.equal(await again.text(), 'taken');
});

t.test('a body that does not come is cut at the deadline', async (t) => {
  const server = await open(t, { headersTimeoutMs: 500, requestTimeoutMs: 500 });
  const heard = await hears(server, 'POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{');
  t.notMatch(heard, /taken/);
  await othersAreServed(t, server);
});

t.test('connections without a request are closed after a while', async (t) => {
  const server = await open(t, { keepAliveMs: 100, headersTimeoutMs: 500, requestTimeoutMs: 500 });
  const heard = await hears(server, 'GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n');
  t.match(heard, /^HTTP\/1.1 404 /, 'after its last answer');
  await closed(Array.from({ length: 100 }, () => dial(server).resume()));
  await othersAreServed(t, server);
});

t.test('a body that is too long is 413, whether it says so or not', async (t) => {
  const server = await open(t);
  const post = 'POST /body HTTP/1.1\r\nHost: x\r\nConnection: close\r\n';
  const said = await hears(server, `${post}Content-Length: 1000000000\r\n\r\n`, Buffer.alloc(200_000, ' '));
  t.match(said, /^HTTP\/1.1 413 /);
  const chunk = `${(10_000).toString(16)}\r\n${' '.repeat(10_000)}\r\n`;
  const unsaid = await hears(
    server,
    `${post}Transfer-Encoding: chunked\r\n\r\n`,
    chunk.repeat(20),
    '0\r\n\r\n',
  );
  t.match(unsaid, /^HTTP\/1.1 413 /);
  const bomb = await hears(server, `${post}Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}`);
  t.match(bomb, /^HTTP\/1.1 415 /, 'what is compressed is not unpacked');
  await othersAreServed(t, server);
});

t.test('JSON that nests deeply is refused or taken, and nothing falls over', async (t) => {
  const server = await open(t);
  const body = '['.repeat(60_000);
  const head = `POST /body HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n`;
  t.match(await hears(server, head, body), /^HTTP\/1.1 400 /);
  await othersAreServed(t, server);
});

t.test('many ranges are not many answers', async (t) => {
  const server = await open(t);
  const ranges = Array.from({ length: 1_500 }, (_, index) => `${index}-`).join(',');
  const head = `GET /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: bytes=${ranges}\r\n\r\n`;
  const heard = await hears(server, head);
  t.match(heard, /^HTTP\/1.1 200 /);
  t.ok(heard.length < file.length + 2_000);
  await othersAreServed(t, server);
});

t.test(
  'a thousand requests at once on a connection whose answers nobody reads hold no more than a few',
  async (t) => {
    const server = await open(t, { silenceMs: 3_000 });
    const socket = dial(server).pause();
    const before = process.memoryUsage().arrayBuffers;
    socket.write('GET /file HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(1_000));
    await othersAreServedBeside(t, server);
    t.ok(process.memoryUsage().arrayBuffers - before < 64 * 1024 * 1024, 'not a thousand files');
    await new Promise<void>((resolve) => {
      const look = (): void => {
        if (server.connections() === 0) resolve();
        else setTimeout(look, 20);
      };
      look();
    });
    socket.destroy();
    await closed([socket]);
    await othersAreServed(t, server);
  },
);

t.test('a connection that sends request upon request is cut before many of them are worked on', async (t) => {
  provesNothingStaysOpen(t);
  let begun = 0;
  const app = () => {
    begun++;
  };
  const server = await openHttpServer({ host: '127.0.0.1', port: 0, app, limits: { requestsAtOnce: 5 } });
  t.teardown(() => server.close());
  const socket = dial(server);
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(1_000));
  await closed([socket]);
  t.equal(begun, 5);
  while (server.connections() > 0) await setImmediate();
});

async function othersAreServedBeside(t: Test, server: HttpServer): Promise<void> {
  const response = await fetch(`${server.url}/file`, { headers: { connection: 'close' } });
  t.equal((await response.arrayBuffer()).byteLength, file.length);
}

t.test('paths that lead elsewhere lead nowhere, and odd requests are refused', async (t) => {
  const server = await open(t);
  const end = 'HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
  for (const path of [
    '/../../etc/passwd',
    '/%2e%2e/%2e%2e/etc/passwd',
    '/..%2f..%2fetc/passwd',
    '//etc/passwd',
    '/%00',
    '/%',
    '/%ff',
  ])
    t.match(await hears(server, `GET ${path} ${end}`), /^HTTP\/1.1 (400|404) /, path);
  t.match(await hears(server, `GET /${'a'.repeat(10_000)} ${end}`), /^HTTP\/1.1 414 /);
  t.match(await hears(server, `BREW /file ${end}`), /^HTTP\/1.1 4/);
  const twice = 'POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}';
  t.match(await hears(server, twice), /^HTTP\/1.1 400 /, 'a body of two lengths');
  await othersAreServed(t, server);
});
