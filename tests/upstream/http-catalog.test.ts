import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import t, { type Test } from 'tap';
import { sha256FromDigest } from '../../nar/hash.ts';
import { HttpCatalog, type HttpCatalogLimits } from '../../upstream/http-catalog.ts';
import { type FaultServer, openFaultServer } from '../helpers/fault-server.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

const bytes = randomBytes(300_000);
const file = { sha256: sha256FromDigest(Buffer.alloc(32, 1)), sizeBytes: bytes.length };
const path = `/catalog/${file.sha256}.segment.zst`;

interface Lab {
  server: FaultServer;
  catalog: HttpCatalog;
}

/** A server whose answers are those of `answer`, whatever is asked. */
async function open(
  t: Test,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  catalogLimits: Partial<HttpCatalogLimits> = {},
): Promise<Lab> {
  provesNothingStaysOpen(t);
  const server = await openFaultServer({ bytes, other: answer });
  t.teardown(() => server.close());
  const catalog = new HttpCatalog({ url: server.url, catalogLimits: { pauseMs: 1, ...catalogLimits } });
  t.teardown(() => catalog.close());
  return { server, catalog };
}

async function collect(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}

t.test('a head is asked for again with its tag, and is unchanged or new', async (t) => {
  let etag = '"one"';
  const { catalog, server } = await open(t, (request, response) => {
    if (request.headers['if-none-match'] === etag) response.writeHead(304, { etag }).end();
    else response.writeHead(200, { etag }).end(`head ${etag}`);
  });
  t.strictSame(await catalog.fetchHead(), { text: 'head "one"', etag: '"one"' });
  t.equal(await catalog.fetchHead('"one"'), 'unchanged');
  etag = '"two"';
  t.strictSame(await catalog.fetchHead('"one"'), { text: 'head "two"', etag: '"two"' });
  t.strictSame(
    server.requests.map((each) => each.path),
    Array(3).fill('/catalog/head'),
  );
});

t.test('what is no head is an error: absent, too long, too slow, unchanged without a tag', async (t) => {
  const { catalog } = await open(
    t,
    (request, response) => {
      const [status, text] = /absent/.test(request.url ?? '') ? [404, 'no'] : [200, 'x'.repeat(2000)];
      response.writeHead(status).end(text);
    },
    { headMaxBytes: 1000 },
  );
  await t.rejects(catalog.fetchHead(), { code: 'upstream-failed', message: /1000 bytes/ });
  const absent = await open(t, (_, response) => response.writeHead(404).end());
  await t.rejects(absent.catalog.fetchHead(), { code: 'upstream-failed', message: /404/ });
  const unasked = await open(t, (_, response) => response.writeHead(304).end());
  await t.rejects(unasked.catalog.fetchHead(), { code: 'upstream-failed' });
  const silent = await open(t, () => undefined, { headDeadlineMs: 100 });
  await t.rejects(silent.catalog.fetchHead(), { code: 'upstream-failed', message: /in time/ });
  const stopped = await open(t, () => undefined);
  await t.rejects(stopped.catalog.fetchHead(undefined, AbortSignal.abort()), { code: 'aborted' });
});

t.test(
  'a file that breaks off goes on at the byte where it broke, as often as it gets further',
  async (t) => {
    const each = 40_000;
    const { catalog, server } = await open(t, (request, response) => {
      const from = Number(/^bytes=([0-9]+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
      const length = bytes.length - from;
      const range = { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` };
      response.writeHead(from === 0 ? 200 : 206, { 'content-length': length, ...(from === 0 ? {} : range) });
      if (length <= each) response.end(bytes.subarray(from));
      else response.write(bytes.subarray(from, from + each), () => request.socket.destroySoon());
    });
    t.ok((await collect(catalog.fetchFile(file))).equals(bytes));
    t.ok(server.requests.length > 5, `${server.requests.length} requests`);
    t.ok(server.requests.every((request) => request.path === path));
  },
);

t.test('a file that gets no further is given up, and one that is not there is told so', async (t) => {
  const dead = await open(t, (request) => void request.socket.destroy());
  await t.rejects(collect(dead.catalog.fetchFile(file)), { code: 'upstream-failed' });
  const absent = await open(t, (_, response) => response.writeHead(404).end());
  await t.rejects(collect(absent.catalog.fetchFile(file)), { code: 'segment-missing' });
  t.equal(absent.server.requests.length, 1);
  const endless = await open(t, (_, response) => {
    response.writeHead(200);
    response.on('error', () => undefined);
    const write = (): void => {
      if (!response.destroyed) response.write(Buffer.alloc(65_536), () => setImmediate(write));
    };
    write();
  });
  const taken = (await collect(endless.catalog.fetchFile(file))).length;
  t.ok(
    taken > file.sizeBytes && taken < 2 * file.sizeBytes,
    'no more is taken than shows that it is another file',
  );
  const stopped = await open(t, () => undefined);
  const givenUp = collect(stopped.catalog.fetchFile(file, AbortSignal.abort()));
  await t.rejects(givenUp, { code: 'aborted' });
});

t.test('a file that comes a byte at a time is given up, in one connection and in many', async (t) => {
  const limits = { fileGraceMs: 100, fileLeastBytesPerSecond: 1_000_000 };
  const one = await open(
    t,
    (_, response) => {
      response.writeHead(200, { 'content-length': file.sizeBytes });
      const timer = setInterval(() => response.write('x'), 5);
      response.on('close', () => clearInterval(timer));
    },
    limits,
  );
  await t.rejects(collect(one.catalog.fetchFile(file)), { code: 'upstream-failed', message: /slowly/ });
  const many = await open(
    t,
    (request, response) => {
      const from = Number(/^bytes=([0-9]+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
      const range = { 'content-range': `bytes ${from}-${file.sizeBytes - 1}/${file.sizeBytes}` };
      response.writeHead(from === 0 ? 200 : 206, from === 0 ? {} : range);
      response.write('x', () => request.socket.destroySoon());
    },
    limits,
  );
  await t.rejects(collect(many.catalog.fetchFile(file)), { code: 'upstream-failed' });
});
