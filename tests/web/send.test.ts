/** Sending a file over a real socket, to readers that are good, slow and gone. */

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingMessage, type RequestListener, request } from 'node:http';
import { connect } from 'node:net';
import t, { type Test } from 'tap';
import { makeApp } from '../../web/app.ts';
import { silentLogger } from '../../web/log.ts';
import { type SendResult, type SendSource, sendFile, sendReadBytes, sourceOf } from '../../web/send.ts';
import { type HttpServer, openHttpServer } from '../../web/server.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

const bytes = randomBytes(3 * sendReadBytes + 12_345);
const etag = 'abc';

interface Served extends HttpServer {
  results: (SendResult | Error)[];
}

async function serve(t: Test, source: SendSource): Promise<Served> {
  provesNothingStaysOpen(t);
  const results: (SendResult | Error)[] = [];
  const app = makeApp({
    logger: silentLogger,
    routes: (router) =>
      router.get('/file', async (request, response) => {
        try {
          results.push(await sendFile(request, response, source));
        } catch (error) {
          results.push(error instanceof Error ? error : new Error(String(error)));
          throw error;
        }
      }),
  });
  const server = await openHttpServer({ host: '127.0.0.1', port: 0, app, limits: { drainMs: 200 } });
  t.teardown(() => server.close());
  return { ...server, results };
}

interface Got {
  status: number | undefined;
  headers: IncomingMessage['headers'];
  body: Buffer;
}

async function get(url: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Got> {
  const asking = request(`${url}/file`, { method, headers, agent: false });
  asking.end();
  const [response] = (await once(asking, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) };
}

t.test('a file is sent whole, with what Nix needs to go on after a break', async (t) => {
  const server = await serve(t, sourceOf(bytes, { etag }));
  const { status, headers, body } = await get(server.url, { 'accept-encoding': 'gzip, br, zstd' });
  t.equal(status, 200);
  t.ok(body.equals(bytes));
  t.match(headers, {
    'content-length': String(bytes.length),
    'accept-ranges': 'bytes',
    etag: '"abc"',
    'cache-control': 'no-transform',
    'content-type': 'application/octet-stream',
  });
  t.equal(headers['content-encoding'], undefined);
  t.equal(headers['x-powered-by'], undefined);
  t.same(server.results, [{ status: 200, sentBytes: bytes.length, complete: true }]);
});

t.test('a part is sent as 206, over the boundaries of reads', async (t) => {
  const server = await serve(t, sourceOf(bytes, { etag }));
  for (const [start, end] of [
    [0, 0],
    [sendReadBytes - 1, sendReadBytes],
    [5, bytes.length - 1],
    [1000, 2 * sendReadBytes],
  ] as const) {
    const { status, headers, body } = await get(server.url, { range: `bytes=${start}-${end}` });
    t.equal(status, 206);
    t.equal(headers['content-range'], `bytes ${start}-${end}/${bytes.length}`);
    t.equal(headers['content-length'], String(end - start + 1));
    t.ok(body.equals(bytes.subarray(start, end + 1)));
  }
});

t.test('a part that is not there is 416 with the size', async (t) => {
  const server = await serve(t, sourceOf(bytes));
  const { status, headers, body } = await get(server.url, { range: `bytes=${bytes.length}-` });
  t.equal(status, 416);
  t.equal(headers['content-range'], `bytes */${bytes.length}`);
  t.equal(body.length, 0);
});

t.test('several ranges get the whole file', async (t) => {
  const server = await serve(t, sourceOf(bytes));
  const { status, body } = await get(server.url, { range: 'bytes=0-1,4-5' });
  t.equal(status, 200);
  t.equal(body.length, bytes.length);
});

t.test('If-Range gives the part only of the same file', async (t) => {
  const server = await serve(t, sourceOf(bytes, { etag }));
  const ask = async (condition: string) =>
    (await get(server.url, { range: 'bytes=5-', 'if-range': condition })).status;
  t.equal(await ask('"abc"'), 206);
  t.equal(await ask('"other"'), 200);
  t.equal(await ask('W/"abc"'), 200);
  t.equal(await ask('Sun, 06 Nov 1994 08:49:37 GMT'), 200);
});

t.test('If-None-Match saves a file that is known', async (t) => {
  const server = await serve(t, sourceOf(bytes, { etag }));
  const known = await get(server.url, { 'if-none-match': '"x", W/"abc"' });
  t.equal(known.status, 304);
  t.equal(known.body.length, 0);
  t.equal((await get(server.url, { 'if-none-match': '"x"' })).status, 200);
});

t.test('HEAD tells all and reads nothing', async (t) => {
  let reads = 0;
  const server = await serve(t, {
    sizeBytes: 10 ** 12,
    etag,
    async read() {
      reads += 1;
      return Buffer.alloc(1);
    },
  });
  const { status, headers, body } = await get(server.url, { range: 'bytes=5-' }, 'HEAD');
  t.equal(status, 200);
  t.equal(headers['content-length'], '1000000000000');
  t.equal(body.length, 0);
  t.equal(reads, 0);
});

t.test('an empty file is sent', async (t) => {
  const server = await serve(t, sourceOf(Buffer.alloc(0)));
  const { status, headers, body } = await get(server.url);
  t.equal(status, 200);
  t.equal(headers['content-length'], '0');
  t.equal(body.length, 0);
});

t.test('a source may give less than is asked of it', async (t) => {
  const server = await serve(t, {
    sizeBytes: bytes.length,
    read: async (position, lengthBytes) => bytes.subarray(position, position + Math.min(lengthBytes, 50_001)),
  });
  t.ok((await get(server.url)).body.equals(bytes));
});

t.test('a source that fails at once becomes an error answer', async (t) => {
  const server = await serve(t, {
    sizeBytes: 100,
    read: () => Promise.reject(new Error('secret: /var/lib/narswarm')),
  });
  const { status, headers, body } = await get(server.url);
  t.equal(status, 500);
  t.equal(body.toString(), 'internal error\n');
  t.equal(headers.etag, undefined);
  t.equal(headers['content-range'], undefined);
});

t.test('a source that fails midway breaks the connection: a part is never a clean end', async (t) => {
  for (const bad of ['fails', 'gives nothing', 'gives too much'] as const) {
    await t.test(bad, async (t) => {
      const server = await serve(t, {
        sizeBytes: bytes.length,
        async read(position, lengthBytes) {
          if (position > 0 && bad === 'fails') throw new Error('the disk');
          if (position > 0 && bad === 'gives nothing') return Buffer.alloc(0);
          if (position > 0 && bad === 'gives too much') return Buffer.alloc(lengthBytes + 1);
          return bytes.subarray(position, position + lengthBytes);
        },
      });
      await t.rejects(get(server.url), { code: 'ECONNRESET' });
      t.type(server.results[0], Error);
    });
  }
});

t.test('a source that fails midway breaks the connection under any server, not ours alone', async (t) => {
  provesNothingStaysOpen(t);
  const failing: SendSource = {
    sizeBytes: bytes.length,
    async read(position, lengthBytes) {
      if (position > 0) throw new Error('the disk');
      return bytes.subarray(position, position + lengthBytes);
    },
  };
  const app: RequestListener = (request, response) => {
    sendFile(request, response, failing).catch(() => undefined);
  };
  const server = await openHttpServer({ host: '127.0.0.1', port: 0, app, limits: { drainMs: 5_000 } });
  await t.rejects(get(server.url), { code: 'ECONNRESET' });
  await server.close();
});

t.test('a reader that goes away ends the reading, also while a read is under way', async (t) => {
  const waiting = Promise.withResolvers<void>();
  let aborted = false;
  const server = await serve(t, {
    sizeBytes: bytes.length,
    async read(position, lengthBytes, signal) {
      if (position > 0) {
        waiting.resolve();
        await new Promise<void>((_resolve, reject) =>
          signal.addEventListener('abort', () => reject(new Error('given up'))),
        );
      }
      aborted = signal.aborted;
      return bytes.subarray(position, position + lengthBytes);
    },
  });
  const socket = connect(server.port, '127.0.0.1');
  socket.resume();
  socket.write('GET /file HTTP/1.1\r\nHost: x\r\n\r\n');
  await waiting.promise;
  socket.destroy();
  while (server.results.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  t.equal(aborted, false);
  t.same(server.results, [{ status: 200, sentBytes: sendReadBytes, complete: false }]);
});

t.test('a reader that stands still stops the reading', async (t) => {
  let readBytes = 0;
  const block = Buffer.alloc(sendReadBytes);
  const sizeBytes = 1024 * sendReadBytes;
  const server = await serve(t, {
    sizeBytes,
    async read() {
      readBytes += block.length;
      return block;
    },
  });
  const socket = connect(server.port, '127.0.0.1');
  socket.pause();
  socket.write('GET /file HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(socket, 'readable');
  // What fits into the buffers of both ends is read, and then nothing more.
  let before = -1;
  while (readBytes !== before) {
    before = readBytes;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  t.ok(readBytes < sizeBytes / 8, `${readBytes} bytes were read ahead`);
  socket.destroy();
  while (server.results.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  t.match(server.results[0], { complete: false });
});
