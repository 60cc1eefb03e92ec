/** The page for people, and the other routes that every program has. */

import { request } from 'node:http';
import fc from 'fast-check';
import t from 'tap';
import { makeApp } from '../../web/app.ts';
import { silentLogger } from '../../web/log.ts';
import { Metrics } from '../../web/metrics.ts';
import { addOperations } from '../../web/operations.ts';
import { pageRowsMax, printBytes, statusPage } from '../../web/page.ts';
import { openHttpServer } from '../../web/server.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

t.test('figures become tables, numbers of bytes can be read', async (t) => {
  const page = statusPage({
    title: 'narswarm seeder',
    intro: 'What it does.',
    status: {
      role: 'seeder',
      swarm: { connections: 1234, uploadedBytes: 1536, open: true },
      bytes: { http: 2 * 1024 ** 3 },
      refusals: [{ code: 'nar-corrupt', count: 2 }, { code: 'x' }],
      none: [],
    },
    links: [{ text: 'metrics', href: '/metrics' }],
  });
  for (const part of [
    '<h1>narswarm seeder</h1>',
    '1,234',
    '1.5 KiB',
    '2.0 GiB',
    'nar-corrupt',
    'uploaded bytes',
    'href="/metrics"',
  ]) {
    t.ok(page.includes(part), part);
  }
  t.match(page, /http-equiv="refresh" content="5"/);
  t.notMatch(page, /<script|src=|@import|url\(/);
});

t.test('whatever the status says, the page has no markup but its own', async (t) => {
  const tagsOf = (page: string): Set<string> =>
    new Set(page.match(/<[^>]*>/g)?.map((tag) => tag.split(/[ >]/)[0] ?? ''));
  const own = tagsOf(statusPage({ title: 't', status: { a: 1, b: { c: 2 }, d: [{ e: 1 }], f: [], g: [1] } }));
  for (const name of ['<p', '</p', '<a', '</a', '<thead', '</thead']) own.add(name);
  fc.assert(
    fc.property(
      fc.object({ withBigInt: true, withNullPrototype: true }),
      fc.string({ unit: 'binary' }),
      (status, title) => {
        for (const tag of tagsOf(statusPage({ title, status }))) if (!own.has(tag)) return false;
        return true;
      },
    ),
  );
  const attack = `"><script>alert('1')</script>&`;
  const page = statusPage({
    title: attack,
    status: { [attack]: attack, list: [{ [attack]: attack }] },
    links: [{ text: attack, href: attack }],
  });
  t.notOk(page.includes('<script'));
  t.notOk(page.includes("alert('"), 'quotes are escaped too');
});

t.test('a long list and a deep object stay small', async (t) => {
  const page = statusPage({
    title: 't',
    status: { list: Array.from({ length: 100_000 }, (_, at) => ({ at })) },
  });
  t.ok(page.length < pageRowsMax * 200);
  t.match(page, /and 99800 more/);
  let deep: object = {};
  for (let depth = 0; depth < 1_000; depth += 1) deep = { deep };
  t.ok(statusPage({ title: 't', status: deep }).length < 10_000);
});

t.test('bytes are printed in the unit that fits', async (t) => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [150 * 1024, '150 KiB'],
    [1024 ** 4, '1.0 TiB'],
  ];
  for (const [bytes, text] of cases) t.equal(printBytes(bytes), text);
});

t.test('health, metrics, status and page are served under a prefix', async (t) => {
  provesNothingStaysOpen(t);
  const metrics = new Metrics();
  metrics.gauge('narswarm_test_things', 'Things').set(1);
  const app = makeApp({
    logger: silentLogger,
    routes: (router) =>
      addOperations(router, {
        prefix: '/_narswarm/',
        title: 'narswarm client',
        status: () => ({ role: 'client', big: 5n }),
        metrics,
      }),
  });
  const server = await openHttpServer({ host: '127.0.0.1', port: 0, app });
  t.teardown(() => server.close());
  const get = (path: string): Promise<{ status: number | undefined; headers: object; text: string }> =>
    new Promise((resolve) => {
      request(`${server.url}${path}`, { agent: false }, async (response) => {
        const chunks: Buffer[] = [];
        for await (const chunk of response) chunks.push(chunk);
        resolve({
          status: response.statusCode,
          headers: response.headers,
          text: Buffer.concat(chunks).toString(),
        });
      }).end();
    });
  t.match(await get('/_narswarm/healthz'), { status: 200, text: 'ok\n' });
  t.match(await get('/_narswarm/metrics'), { status: 200, text: /narswarm_test_things 1\n/ });
  t.same(JSON.parse((await get('/_narswarm/status')).text), { role: 'client', big: 5 });
  t.match(await get('/_narswarm/'), {
    status: 200,
    text: /narswarm client/,
    headers: { 'content-security-policy': /default-src 'none'/, 'content-type': /text\/html/ },
  });
  t.match(await get('/status'), { status: 404 });
});
