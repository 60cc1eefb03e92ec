/** A catalog that answers more than it was asked is not read on. */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { sha256FromDigest } from '../../nar/hash.ts';
import { fetchResolveLines } from '../../parts/resolve-request.ts';

t.test('there is a line for each hash at most', async (t) => {
  const server = createServer((_request, response) => response.end('x\n'.repeat(100_000)));
  t.teardown(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const hashes = [1, 2, 3].map((byte) => sha256FromDigest(Buffer.alloc(32, byte)));
  const lines: string[] = [];
  const reading = async (): Promise<void> => {
    for await (const { text } of fetchResolveLines(url, hashes, AbortSignal.timeout(60_000)))
      lines.push(text);
  };
  await t.rejects(reading(), { code: 'upstream-failed', message: /more than it was asked/ });
  t.same(lines, ['x', 'x', 'x']);
});

t.test('a line that comes in many small parts is put together in no more time', async (t) => {
  const text = 'x'.repeat(1_000_000);
  const server = createServer((request, response) => {
    request.resume();
    // A chunk for every ten characters; they come as they are, as chunks are not joined.
    response.write('');
    for (let at = 0; at < text.length; at += 10) response.write(text.slice(at, at + 10));
    response.end('\n');
  });
  t.teardown(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const hashes = [sha256FromDigest(Buffer.alloc(32, 1))];
  const lines: string[] = [];
  for await (const line of fetchResolveLines(url, hashes, AbortSignal.timeout(60_000))) {
    lines.push(line.text);
    t.equal(line.askedAt, '127.0.0.1');
  }
  t.same(lines, [text]);
});

t.test('an answer that breaks off, or is given up in its middle, is an error and no more', async (t) => {
  const server = createServer((request, response) => {
    request.resume();
    response.writeHead(200).write('x\ny');
    if (request.url?.startsWith('/cut')) setImmediate(() => response.destroy());
  });
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const hashes = [1, 2].map((byte) => sha256FromDigest(Buffer.alloc(32, byte)));
  const abort = new AbortController();
  for (const path of ['/cut', '']) {
    const reading = async (): Promise<void> => {
      for await (const _line of fetchResolveLines(`${url}${path}`, hashes, abort.signal))
        if (path === '') abort.abort();
    };
    await t.rejects(reading(), { code: 'upstream-failed' });
  }
});
