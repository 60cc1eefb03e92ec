/** What a request for a NAR file is answered with follows from the file alone: not from where its bytes come from, nor from what came before. */

import { createHash } from 'node:crypto';
import t from 'tap';
import type { ClientConfig } from '../../client/config.ts';
import type { Client } from '../../client/main.ts';
import { type Answer, type ClientStatus, get, Lab, statusOf, unhurried, until } from './lab.ts';
import { madeNar } from './made-nar.ts';
import type { TestCatalog } from './test-catalog.ts';
import type { TestUpstream } from './test-upstream.ts';

const lastOf = (bytes: number): string => `bytes=${bytes - 10}-`;

/** What is asked, each of a client that has nothing yet. */
const questions: Readonly<Record<string, (sizeBytes: number, etag: string) => Parameters<typeof get>[2]>> = {
  GET: () => ({}),
  HEAD: () => ({ method: 'HEAD' }),
  'HEAD with Range': () => ({ method: 'HEAD', headers: { range: 'bytes=5-' } }),
  'the rest': (size) => ({ headers: { range: `bytes=${size >> 1}-` } }),
  'the last ten bytes': (size) => ({ headers: { range: lastOf(size) } }),
  'the last ten, said otherwise': () => ({ headers: { range: 'bytes=-10' } }),
  'a part': () => ({ headers: { range: 'bytes=100-199' } }),
  'beyond the end': (size) => ({ headers: { range: `bytes=${size}-` } }),
  'several parts': () => ({ headers: { range: 'bytes=0-1,5-6' } }),
  'If-Range that holds': (size, etag) => ({ headers: { range: lastOf(size), 'if-range': etag } }),
  'If-Range of others': (size) => ({ headers: { range: lastOf(size), 'if-range': '"other"' } }),
  'If-None-Match': (_size, etag) => ({ headers: { 'if-none-match': etag } }),
};

const sizes = [700, 300_000, 2_000_000];
/** Each question is asked about a file of its own, so that it is the first that is asked about it. */
const cases = sizes.flatMap((sizeBytes) =>
  Object.entries(questions).map(([question, options]) => {
    const name = `${sizeBytes} bytes, ${question}`;
    return {
      name,
      options,
      nar: madeNar({ name: name.replaceAll(/\W/g, '-'), sizeBytes, compression: 'none' }),
    };
  }),
);
const nars = cases.map(({ nar }) => nar);

/** What a pack holds; the rest are torrents of their own. */
const packed = nars.filter(({ bytes }) => bytes.length <= 1 << 20);
const packedBytes = packed.reduce((sum, { bytes }) => sum + bytes.length, 0);

/** A client that is connected to whoever has the pack, and fetches nothing before it is asked for. */
async function warmClient(
  lab: Lab,
  upstreams: TestUpstream[],
  catalog: TestCatalog,
  config: Partial<ClientConfig>,
): Promise<Client> {
  catalog.makePack();
  const limits = { ...unhurried, aheadFileBytes: 0 };
  const client = await lab.client(upstreams, [catalog], { ...config, limits });
  await Promise.all(packed.map(({ storeHash }) => get(client.url, `${storeHash}.narinfo`)));
  await until(() => statusOf(client).packs.warm === 1);
  return client;
}

/** Where the bytes come from. Each opens a client of it. */
const sources: Readonly<Record<string, (lab: Lab) => Promise<Client>>> = {
  http: async (lab) => lab.client([await lab.upstream(nars)]),
  'http without Range': async (lab) => {
    const upstream = await lab.upstream(nars);
    upstream.intercept = (request) => {
      delete request.headers.range;
      return false;
    };
    return lab.client([upstream]);
  },
  swarm: async (lab) => lab.client([], [await lab.catalog(nars)], { noUpstream: true }),
  'mixed: peers that die midway, then http': async (lab) => {
    const catalog = await lab.catalog(nars);
    catalog.beforeRead = async (position) => {
      if (position > 1_000_000) throw new Error('the machine is gone');
    };
    return lab.client([await lab.upstream(nars)], [catalog]);
  },
  'a pack': async (lab) => warmClient(lab, [], await lab.catalog(nars), { noUpstream: true }),
  'mixed: a pack whose peer hangs up midway, then http': async (lab) => {
    const catalog = await lab.catalog(nars);
    let reads = 0;
    catalog.beforeRead = async () => {
      if (++reads % 5 === 0) throw new Error('the machine is gone');
    };
    return warmClient(lab, [await lab.upstream(nars)], catalog, {});
  },
};

/** What must have been used, so that the answers are indeed from there. */
const used: Readonly<Record<string, (status: ClientStatus) => boolean>> = {
  http: ({ bytes }) => bytes.swarm === 0,
  swarm: ({ bytes, packs }) => bytes.http === 0 && packs.downloadedBytes === 0,
  'a pack': ({ bytes, packs }) => bytes.http === 0 && packs.downloadedBytes >= packedBytes,
  'mixed: peers that die midway, then http': ({ bytes }) => bytes.http > 0 && bytes.swarm > 0,
  'mixed: a pack whose peer hangs up midway, then http': ({ bytes, packs }) =>
    bytes.http > 0 && packs.downloadedBytes > 0,
};

/** All of an answer that its reader can tell, but for the date. */
function told({ status, headers, body, complete }: Answer): unknown {
  const { date: _date, connection: _connection, 'keep-alive': _keepAlive, ...rest } = headers;
  const sha256 = createHash('sha256').update(body).digest('hex');
  return { status, headers: rest, bytes: body.length, sha256, complete };
}

async function askAll(client: Client): Promise<Record<string, unknown>> {
  const answers: Record<string, unknown> = {};
  for (const { name, options, nar } of cases) {
    await get(client.url, `${nar.storeHash}.narinfo`);
    const asked = options(nar.bytes.length, `"${nar.fileHash}"`);
    answers[name] = told(await get(client.url, nar.narInfo.url, asked));
  }
  await until(() => statusOf(client).transfers.running.length === 0);
  return answers;
}

let reference: Record<string, unknown> | undefined;
for (const [source, open] of Object.entries(sources)) {
  t.test(`from ${source}: first asked, held, and after a restart`, async (t) => {
    const lab = await Lab.open(t);
    const client = await open(lab);
    const first = await askAll(client);
    reference ??= first;
    for (const [name, answer] of Object.entries(first)) t.match(answer, { complete: true }, name);
    t.strictSame(first, reference, 'as from any other source');
    for (const { nar } of cases) await get(client.url, nar.narInfo.url);
    await until(() => statusOf(client).cache.files === cases.length);
    t.strictSame(await askAll(client), reference, 'held');
    t.ok(used[source]?.(statusOf(client)) ?? true, JSON.stringify(statusOf(client)));
    await client.close();
    const restarted = await open(lab);
    t.strictSame(await askAll(restarted), reference, 'after a restart');
  });
}
