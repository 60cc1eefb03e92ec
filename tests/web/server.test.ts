/** Listening and stopping, over real sockets. */

import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import { connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { type HttpLimits, type HttpServer, openHttpServer } from '../../web/server.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

async function open(t: Test, app: RequestListener, limits: Partial<HttpLimits> = {}): Promise<HttpServer> {
  provesNothingStaysOpen(t);
  const server = await openHttpServer({
    host: '127.0.0.1',
    port: 0,
    app,
    limits: { drainMs: 200, ...limits },
  });
  t.teardown(() => server.close());
  return server;
}

const hello: RequestListener = (_request, response) => void response.end('hello');
const get = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';

/** A connection that keeps what it receives. */
class Peer {
  readonly socket: Socket;
  text = '';
  readonly closed: Promise<unknown>;

  constructor(port: number) {
    this.socket = connect(port, '127.0.0.1');
    this.socket.setEncoding('latin1').on('data', (part: string) => {
      this.text += part;
    });
    this.socket.on('error', () => undefined);
    this.closed = once(this.socket, 'close');
  }

  async until(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.text)) await once(this.socket, 'data');
  }
}

t.test('the address tells where it listens', async (t) => {
  const server = await open(t, hello);
  t.equal(server.host, '127.0.0.1');
  t.ok(server.port > 0);
  t.equal(server.url, `http://127.0.0.1:${server.port}`);
  const all = await openHttpServer({ host: '0.0.0.0', port: 0, app: hello });
  t.equal(all.url, `http://127.0.0.1:${all.port}`);
  await all.close();
});

t.test('an address that cannot be had is an error in the configuration', async (t) => {
  const server = await open(t, hello);
  for (const [host, port] of [
    ['127.0.0.1', server.port],
    ['192.0.2.1', 0],
    ['no-such-host.invalid', 0],
  ] as const) {
    await t.rejects(
      openHttpServer({ host, port, app: hello }),
      { code: 'config-invalid' },
      `${host}:${port}`,
    );
  }
});

t.test('a connection is kept for the next request', async (t) => {
  const server = await open(t, hello);
  const peer = new Peer(server.port);
  for (let round = 1; round <= 3; round += 1) {
    peer.socket.write(get);
    await peer.until(new RegExp(`^(?:[^]*?hello){${round}}`));
  }
  t.equal(server.connections(), 1);
  peer.socket.destroy();
});

t.test('a thousand connections are answered', async (t) => {
  const server = await open(t, hello);
  const peers = Array.from({ length: 1_000 }, () => new Peer(server.port));
  for (const { socket } of peers) socket.write(get);
  await Promise.all(peers.map((peer) => peer.until(/hello$/)));
  t.equal(server.connections(), 1_000);
  await server.close();
  await Promise.all(peers.map((peer) => peer.closed));
  t.equal(server.connections(), 0);
});

t.test('more connections than the limit are closed at once', async (t) => {
  const server = await open(t, hello, { connections: 1 });
  const first = new Peer(server.port);
  first.socket.write(get);
  await first.until(/hello$/);
  const second = new Peer(server.port);
  second.socket.write(get);
  await second.closed;
  t.equal(second.text, '');
  first.socket.destroy();
});

t.test('closing lets an answer under way finish, and closes its connection then', async (t) => {
  const asked = Promise.withResolvers<() => void>();
  const server = await open(t, (_request, response) => asked.resolve(() => response.end('finished')), {
    drainMs: 5_000,
  });
  const [peer, idle] = [new Peer(server.port), new Peer(server.port)];
  peer.socket.write(get);
  const finish = await asked.promise;
  const started = performance.now();
  const closing = server.close();
  await idle.closed;
  finish();
  await Promise.all([closing, peer.closed]);
  t.ok(performance.now() - started < 2_000, 'without waiting for the end of the time allowed');
  t.match(peer.text, /finished$/);
});

t.test('closing cuts what does not finish, in time', async (t) => {
  const server = await open(t, (_request, response) => void response.write('half'), { drainMs: 100 });
  const peer = new Peer(server.port);
  peer.socket.write(get);
  await peer.until(/half/);
  const started = performance.now();
  await Promise.all([server.close(), server.close()]);
  await server.close();
  t.ok(performance.now() - started < 1_500);
  await peer.closed;
});

t.test(
  'a head that does not come in time gets no answer, so that none is mistaken for another',
  async (t) => {
    const server = await open(t, hello, { headersTimeoutMs: 100, requestTimeoutMs: 100 });
    const peer = new Peer(server.port);
    peer.socket.write('GET / HTTP/1.1\r\nHo');
    await peer.closed;
    t.equal(peer.text, '');
  },
);

t.test('what is no HTTP is 400, too long a head is 431', async (t) => {
  const server = await open(t, hello);
  for (const [sent, status] of [
    ['rubbish\r\n\r\n', '400'],
    [`GET / HTTP/1.1\r\nx: ${'x'.repeat(20_000)}`, '431'],
  ] as const) {
    const peer = new Peer(server.port);
    peer.socket.write(sent);
    await peer.closed;
    t.match(peer.text, new RegExp(`^HTTP/1.1 ${status} `));
  }
});

t.test('a reader that stands still is cut after the silence allowed', async (t) => {
  const server = await open(t, (_request, response) => void response.write('half'), { silenceMs: 100 });
  const peer = new Peer(server.port);
  peer.socket.write(get);
  await peer.closed;
  t.match(peer.text, /half/);
});
