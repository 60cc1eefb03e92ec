/** Web pages of others cannot read what a client tells of itself: by a name made to point here, or by being another site. */

import { hostname } from 'node:os';
import t from 'tap';
import { get, Lab } from './lab.ts';
import { madeNar } from './made-nar.ts';

const pages = ['', 'status', 'metrics', 'setup', 'healthz', 'why/hello'].map((page) => `_narswarm/${page}`);

t.test(
  'pages are given under addresses and known names, and under no name that anybody can point here',
  async (t) => {
    const lab = await Lab.open(t);
    const client = await lab.client([await lab.upstream()], [], { publicHost: 'Cache.Example' });
    const { port } = new URL(client.url);
    const status = async (page: string, host: string) =>
      (await get(client.url, page, { headers: { host } })).status;
    const known = [
      '127.0.0.1',
      '[::1]',
      '192.168.1.7',
      'localhost',
      'LOCALHOST.',
      'x.localhost',
      'cache.example',
      hostname(),
    ];
    for (const host of known) t.equal(await status('_narswarm/status', `${host}:${port}`), 200, host);
    for (const page of pages) t.equal(await status(page, `127.0.0.1:${port}`), 200, page);
    for (const page of pages) t.equal(await status(page, `evil.example:${port}`), 403, page);
    const strange = [
      'evil.example',
      '127.0.0.1.evil.example',
      'localhost.evil.example',
      'notlocalhost',
      '127.0.0.1@evil.example',
      'evil.example/127.0.0.1',
      '::',
    ];
    for (const host of strange) t.equal(await status('_narswarm/status', host), 403, host);
    const { body } = await get(client.url, '_narswarm/status', { headers: { host: 'evil.example' } });
    t.match(body.toString(), /--public-host/);
  },
);

t.test('other sites neither embed nor script pages; links to them may be followed', async (t) => {
  const lab = await Lab.open(t);
  const client = await lab.client([await lab.upstream()]);
  const status = async (headers: Record<string, string>) =>
    (await get(client.url, '_narswarm/status', { headers })).status;
  const link = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' };
  t.equal(await status({ 'sec-fetch-site': 'none', ...link }), 200);
  t.equal(await status({ 'sec-fetch-site': 'same-origin' }), 200);
  t.equal(await status({ 'sec-fetch-site': 'cross-site', ...link }), 200);
  t.equal(await status({ origin: client.url }), 200);
  t.equal(await status({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }), 403);
  t.equal(await status({ 'sec-fetch-site': 'cross-site', ...link, 'sec-fetch-dest': 'iframe' }), 403);
  t.equal(await status({ origin: 'http://evil.example' }), 403);
  t.equal(await status({ origin: 'null' }), 403);
});

t.test('Nix finds narinfos and NAR files under whatever name it was told', async (t) => {
  const lab = await Lab.open(t);
  const elsewhere = await lab.upstream();
  const path = 'elsewhere.nar.xz';
  const nar = madeNar({ name: 'elsewhere', sizeBytes: 5_000, narInfo: { url: `${elsewhere.url}/${path}` } });
  elsewhere.put(path, nar.bytes);
  const client = await lab.client([await lab.upstream([nar]), elsewhere]);
  const headers = { host: 'cache.lan' };
  const { body } = await get(client.url, `${nar.storeHash}.narinfo`, { headers });
  const url = /^URL: (.*)$/m.exec(body.toString())?.[1] ?? '';
  t.match(url, /^_narswarm\/nar\//);
  t.ok((await get(client.url, url, { headers })).body.equals(nar.bytes));
});
