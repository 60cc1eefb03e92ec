/** Why upstreams are talked to in HTTP/1.1, also those that offer HTTP/2: docs/decisions/0014-http1-to-upstreams.md. */

import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createSecureServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { Agent, request } from 'undici';
import { HttpCache } from '../../upstream/http-cache.ts';

const bytes = Buffer.alloc(300_000, 7);
const part = bytes.subarray(0, 100_000);
const fixture = (name: string) => readFile(new URL(`../fixtures/tls/${name}`, import.meta.url), 'utf8');

/** A server that speaks both; of HTTP/2 it answers as it is told. */
async function server(t: Test, answer: (stream: ServerHttp2Stream) => void) {
  const [cert, key] = [await fixture('localhost.pem'), await fixture('localhost.key')];
  const versions: string[] = [];
  const server = createSecureServer({ cert, key, allowHTTP1: true });
  server.on('request', (request, response) => {
    versions.push(request.httpVersion);
    if (request.httpVersion === '1.1') response.writeHead(200, { 'content-length': bytes.length }).end(bytes);
  });
  server.on('stream', (stream) => {
    stream.on('error', () => undefined);
    answer(stream);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return { url: `https://localhost:${(server.address() as AddressInfo).port}`, cert, versions };
}

t.test('an upstream that offers HTTP/2 as well is asked in HTTP/1.1', async (t) => {
  const { url, cert, versions } = await server(t, (stream) => stream.close());
  const cache = new HttpCache({ url, ca: cert });
  t.teardown(() => cache.close());
  const opened = await cache.openNar('nar/x', { signal: new AbortController().signal });
  const chunks: Buffer[] = [];
  for await (const chunk of opened?.body ?? []) chunks.push(chunk);
  t.ok(Buffer.concat(chunks).equals(bytes));
  t.same(versions, ['1.1']);
});

// When this fails, the library has mended it, and the decision can be thought over.
t.test(
  'the library takes an HTTP/2 body of unknown length that the server breaks off for a whole one',
  async (t) => {
    const { url, cert } = await server(t, (stream) => {
      stream.respond({ ':status': 200 });
      stream.write(part, () => stream.close(2));
    });
    const agent = new Agent({ allowH2: true, connect: { ca: cert } });
    t.teardown(() => agent.destroy());
    const { body } = await request(`${url}/nar/x`, { dispatcher: agent });
    const came = Buffer.from(await body.arrayBuffer());
    t.ok(came.length < bytes.length);
  },
);
