import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import t, { type Test } from 'tap';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';
import { openSlowPath } from '../helpers/slow-path.ts';

/** Sends back what it gets. */
async function echo(t: Test): Promise<{ host: string; port: number; closed: () => number }> {
  let closed = 0;
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('close', () => {
      closed++;
    });
    socket.pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(async () => {
    server.close();
    await once(server, 'close');
  });
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port, closed: () => closed };
}

t.test('a round trip takes twice the delay, the first one of a connection twice as long', async (t) => {
  provesNothingStaysOpen(t);
  const path = await openSlowPath({ target: await echo(t), delayMs: 20 });
  t.teardown(() => path.close());
  const socket = connect(path.port, path.host);
  for (const leastMs of [80, 40]) {
    const startedMs = performance.now();
    socket.write('ping');
    await once(socket, 'data');
    t.ok(performance.now() - startedMs >= leastMs - 2, `${performance.now() - startedMs} ms`);
  }
  socket.destroy();
});

t.test('bytes come whole, in order and at the rate of the path, and the end after them', async (t) => {
  provesNothingStaysOpen(t);
  const path = await openSlowPath({ target: await echo(t), delayMs: 1, bytesPerSecond: 10_000_000 });
  t.teardown(() => path.close());
  const socket = connect(path.port, path.host);
  const sent = Buffer.alloc(1_000_000, 'narswarm');
  const startedMs = performance.now();
  socket.end(sent);
  const parts: Buffer[] = [];
  for await (const part of socket) parts.push(part);
  t.ok(Buffer.concat(parts).equals(sent));
  t.ok(performance.now() - startedMs >= 95, `${performance.now() - startedMs} ms`);
});

t.test('a connection that is closed is closed at the other end', async (t) => {
  provesNothingStaysOpen(t);
  const target = await echo(t);
  const path = await openSlowPath({ target, delayMs: 5 });
  t.teardown(() => path.close());
  const socket = connect(path.port, path.host);
  socket.write('ping');
  await once(socket, 'data');
  socket.destroy();
  while (target.closed() === 0) await new Promise((resolve) => setImmediate(resolve));
  while (path.connections() > 0) await new Promise((resolve) => setImmediate(resolve));
  t.equal(path.accepted(), 1);
});

t.test('what a connection sent that was closed since does not keep a path with a rate busy', async (t) => {
  provesNothingStaysOpen(t);
  const path = await openSlowPath({ target: await echo(t), delayMs: 1, bytesPerSecond: 1_000_000 });
  t.teardown(() => path.close());
  const gone = connect(path.port, path.host);
  gone.write(Buffer.alloc(20_000_000));
  await once(gone, 'data');
  gone.destroy();
  const socket = connect(path.port, path.host);
  const startedMs = performance.now();
  socket.write('ping');
  await once(socket, 'data');
  t.ok(performance.now() - startedMs < 5_000, `${performance.now() - startedMs} ms`);
  socket.destroy();
});
