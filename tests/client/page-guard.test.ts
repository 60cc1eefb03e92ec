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

t.test(
  'web pages of others get neither narinfos nor NAR files, and cannot find out by the time it takes',
  async (t) => {
    const lab = await Lab.open(t);
    const nar = madeNar({ name: 'installed', sizeBytes: 5_000 });
    const upstream = await lab.upstream([nar]);
    const client = await lab.client([upstream]);
    const { port } = new URL(client.url);
    const strangers: Record<string, Record<string, string>> = {
      'an image or script': { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' },
      'a frame': {
        'sec-fetch-site': 'cross-site',
        'sec-fetch-mode': 'navigate',
        'sec-fetch-dest': 'iframe',
      },
      'a script that wants to read': { origin: 'http://evil.example' },
      'a name that was made to point here': { host: `evil.example:${port}`, 'accept-language': 'en' },
    };
    const paths = [`${nar.storeHash}.narinfo`, nar.narInfo.url, 'nix-cache-info', `${nar.storeHash}.ls`];
    for (const [who, headers] of Object.entries(strangers)) {
      for (const path of paths)
        t.equal((await get(client.url, path, { headers })).status, 403, `${who}: ${path}`);
    }
    t.same(
      upstream.requests.filter(({ url }) => url !== '/nix-cache-info'),
      [],
      'nobody is asked for them',
    );

    const people = { 'accept-language': 'en', 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' };
    for (const path of paths.slice(0, 3))
      t.equal((await get(client.url, path, { headers: people })).status, 200, path);
  },
);
