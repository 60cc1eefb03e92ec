import t from 'tap';
import { fetchNar, get, Lab, statusOf } from './lab.ts';
import { madeNar } from './made-nar.ts';

const one = madeNar({ name: 'one', sizeBytes: 5_000 });
const two = madeNar({ name: 'two', sizeBytes: 5_000 });

t.test('a narinfo is given out verbatim, GET and HEAD', async (t) => {
  const lab = await Lab.open(t);
  const client = await lab.client([await lab.upstream([one])]);
  const answer = await get(client.url, `${one.storeHash}.narinfo`);
  t.equal(answer.status, 200);
  t.equal(answer.body.toString(), one.narInfo.text);
  t.equal(answer.headers['content-type'], 'text/x-nix-narinfo');
  const head = await get(client.url, `${one.storeHash}.narinfo`, { method: 'HEAD' });
  t.match(head, { status: 200, body: { length: 0 } });
  t.equal(head.headers['content-length'], String(one.narInfo.text.length));
  t.equal((await get(client.url, `${two.storeHash}.narinfo`)).status, 404);
  t.equal((await get(client.url, 'nonsense.narinfo')).status, 404);
});

t.test('upstreams are asked in order, and a catalog when none of them has it', async (t) => {
  const lab = await Lab.open(t);
  const [first, second] = [await lab.upstream([one]), await lab.upstream([one, two])];
  const three = madeNar({ name: 'three', sizeBytes: 10 });
  const catalog = await lab.catalog([three]);
  const client = await lab.client([first, second], [catalog]);
  for (const nar of [one, two, three]) {
    t.equal((await get(client.url, `${nar.storeHash}.narinfo`)).body.toString(), nar.narInfo.text);
  }
  t.equal(second.requestsFor(`${one.storeHash}.narinfo`), 0);
  t.equal(first.requestsFor(`${two.storeHash}.narinfo`), 1);
});

t.test('with noUpstream only the catalogs are asked', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([one]);
  const catalog = await lab.catalog([two]);
  const client = await lab.client([upstream], [catalog], { noUpstream: true });
  t.equal((await get(client.url, `${one.storeHash}.narinfo`)).status, 404);
  t.equal((await get(client.url, `${two.storeHash}.narinfo`)).status, 200);
  t.equal(upstream.requests.length, 0);
});

t.test('a hanging upstream costs at most 2 s, and nothing of the others', async (t) => {
  const lab = await Lab.open(t);
  const [hanging, good] = [await lab.upstream([one]), await lab.upstream([two])];
  hanging.intercept = () => true;
  const alone = await lab.client([hanging]);
  const answer = await get(alone.url, `${one.storeHash}.narinfo`);
  t.equal(answer.status, 404);
  t.ok(answer.ms < 2_000, `${answer.ms} ms`);
  await alone.close();
  const both = await lab.client([hanging, good]);
  const found = await get(both.url, `${two.storeHash}.narinfo`);
  t.equal(found.status, 200);
  t.ok(found.ms < 1_000, `${found.ms} ms`);
});

t.test('whatever an upstream does, the answer is 200 or 404', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([one]);
  const client = await lab.client([upstream]);
  const path = `${one.storeHash}.narinfo`;
  for (const status of [500, 502, 503, 429, 408, 403, 404]) {
    upstream.intercept = (_request, response) => {
      response.writeHead(status).end('no');
      return true;
    };
    t.equal((await get(client.url, path)).status, 404, `${status}`);
  }
  const bodies = ['', 'garbage', one.narInfo.text.slice(0, 100), two.narInfo.text, 'x'.repeat(5 << 20)];
  for (const body of bodies) {
    upstream.intercept = (_request, response) => {
      response.end(body);
      return true;
    };
    t.equal((await get(client.url, path)).status, 404, body.slice(0, 20));
  }
  upstream.intercept = (request) => {
    request.socket.destroy();
    return true;
  };
  t.equal((await get(client.url, path)).status, 404);
});

t.test('a narinfo that was given out is given again when no upstream can tell', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([one]);
  const before = await lab.client([upstream]);
  t.equal((await get(before.url, `${one.storeHash}.narinfo`)).status, 200);
  await before.close();
  await upstream.close();
  const after = await lab.client([upstream.url]);
  t.equal((await get(after.url, `${one.storeHash}.narinfo`)).body.toString(), one.narInfo.text);
  t.equal((await get(after.url, `${two.storeHash}.narinfo`)).status, 404);
  t.match(statusOf(after).narinfos, { remembered: 1, absent: 1 });
});

t.test(
  'nix-cache-info is served while everything is down, with the store directory seen before',
  async (t) => {
    const lab = await Lab.open(t);
    const upstream = await lab.upstream();
    upstream.put('nix-cache-info', 'StoreDir: /other/store\n');
    const text = (storeDir: string) => `StoreDir: ${storeDir}\nWantMassQuery: 1\nPriority: 30\n`;
    const nothing = await lab.client(['http://127.0.0.1:9']);
    t.equal((await get(nothing.url, 'nix-cache-info')).body.toString(), text('/nix/store'));
    await nothing.close();
    const before = await lab.client([upstream]);
    t.equal((await get(before.url, 'nix-cache-info')).body.toString(), text('/other/store'));
    // Paths of another store are of no use to whoever was told this one.
    upstream.add(one);
    t.equal((await get(before.url, `${one.storeHash}.narinfo`)).status, 404);
    await before.close();
    await upstream.close();
    const after = await lab.client([upstream.url]);
    t.equal((await get(after.url, 'nix-cache-info')).body.toString(), text('/other/store'));
    t.equal((await get(after.url, 'nix-cache-info', { method: 'HEAD' })).status, 200);
  },
);

t.test('a hanging upstream does not delay nix-cache-info for long', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream();
  upstream.intercept = () => true;
  const client = await lab.client([upstream]);
  const answer = await get(client.url, 'nix-cache-info');
  t.equal(answer.status, 200);
  t.ok(answer.ms < 1_900, `${answer.ms} ms`);
});

t.test('an absolute URL is rewritten when the client may follow it, and left alone when not', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream();
  const own = madeNar({
    name: 'own',
    sizeBytes: 3_000,
    narInfo: { url: `${upstream.url}/far/away/nar/x?y=1` },
  });
  upstream.add(own);
  upstream.put('far/away/nar/x?y=1', own.bytes);
  const foreign = [
    'http://127.0.0.1:9/nar/x',
    'http://10.1.2.3/x',
    'http://[::1]/x',
    'http://localhost/x',
  ].map((url) => madeNar({ name: 'foreign', sizeBytes: 10, narInfo: { url } }));
  const client = await lab.client([upstream]);
  const narInfo = (await get(client.url, `${own.storeHash}.narinfo`)).body.toString();
  t.match(narInfo, /^URL: _narswarm\/nar\//m);
  t.equal(narInfo.replace(/^URL: .*$/m, `URL: ${own.narInfo.url}`), own.narInfo.text, 'all else is verbatim');
  t.same((await fetchNar(client, own)).body, own.bytes);
  for (const nar of foreign) {
    upstream.add(nar);
    t.equal(
      (await get(client.url, `${nar.storeHash}.narinfo`)).body.toString(),
      nar.narInfo.text,
      nar.narInfo.url,
    );
  }
});

t.test('two caches that mean different NARs by one URL do not get mixed up', async (t) => {
  const lab = await Lab.open(t);
  const [a, b] = ['a', 'b'].map((name) =>
    madeNar({ name, sizeBytes: 900, narInfo: { url: 'nar/same.nar.xz' } }),
  );
  if (a === undefined || b === undefined) throw new Error('unreachable');
  const client = await lab.client([await lab.upstream([a]), await lab.upstream([b])]);
  for (const nar of [a, b]) await get(client.url, `${nar.storeHash}.narinfo`);
  t.same((await get(client.url, 'nar/same.nar.xz')).body, a.bytes);
  t.same((await fetchNar(client, b)).body, b.bytes);
  t.same((await fetchNar(client, a)).body, a.bytes);
});
