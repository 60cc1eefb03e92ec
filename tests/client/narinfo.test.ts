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
  const after = await lab.client([upstream.url], [], { limits: { narInfoFreshMs: 0 } });
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

t.test('and hardly at all when a catalog says the same', async (t) => {
  const lab = await Lab.open(t);
  const [upstream, catalog] = [await lab.upstream(), await lab.catalog()];
  upstream.intercept = () => true;
  const client = await lab.client([upstream], [catalog], { limits: { cacheInfoBudgetMs: 20_000 } });
  const answer = await get(client.url, 'nix-cache-info');
  t.match(answer.body.toString(), /^StoreDir: \/nix\/store$/m);
  t.ok(answer.ms < 10_000, `${answer.ms} ms`);
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
  const client = await lab.client([upstream], [], { limits: { narInfoFreshMs: 0 } });
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

t.test('a narinfo is asked of a source once, however many ask, until its time is over', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([one]);
  let nowMs = Date.now();
  const config = { clock: () => nowMs };
  const client = await lab.client([upstream], [], config);
  const path = `${one.storeHash}.narinfo`;
  const answers = await Promise.all(Array.from({ length: 20 }, () => get(client.url, path)));
  t.ok(answers.every(({ body }) => body.toString() === one.narInfo.text));
  t.equal(upstream.requestsFor(path), 1);
  await client.close();
  const restarted = await lab.client([upstream], [], config);
  t.equal((await get(restarted.url, path)).status, 200);
  t.equal(upstream.requestsFor(path), 1, 'it is on the disk');
  t.match(statusOf(restarted).narinfos, { cached: 1, found: 0 });
  nowMs += 11 * 60_000;
  t.equal((await get(restarted.url, path)).status, 200);
  t.equal(upstream.requestsFor(path), 2);
});

t.test('that a path is absent is remembered for some seconds; that a source failed is not', async (t) => {
  const lab = await Lab.open(t);
  const [first, second] = [await lab.upstream(), await lab.upstream()];
  let nowMs = Date.now();
  const client = await lab.client([first, second], [], { clock: () => nowMs });
  const path = `${one.storeHash}.narinfo`;
  second.intercept = (_request, response) => {
    response.writeHead(500).end();
    return true;
  };
  for (const _twice of [1, 2]) t.equal((await get(client.url, path)).status, 404);
  t.equal(second.requestsFor(path), 2, 'one failed: it is asked again');
  second.intercept = undefined;
  for (const _twice of [1, 2]) t.equal((await get(client.url, path)).status, 404);
  t.equal(second.requestsFor(path), 3);
  second.add(one);
  nowMs += 10_000;
  t.equal((await get(client.url, path)).body.toString(), one.narInfo.text);
});

t.test('a NAR file that is gone makes the client ask for its narinfo anew', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([one]);
  const client = await lab.client([upstream]);
  t.equal((await get(client.url, `${one.storeHash}.narinfo`)).status, 200);
  // Built again, and uploaded as other bytes under another name.
  const anew = madeNar({
    name: 'one',
    sizeBytes: 6_000,
    compression: 'none',
    narInfo: { url: 'nar/anew.nar' },
  });
  t.equal(anew.storeHash, one.storeHash);
  upstream.files.delete(`/${one.narInfo.url}`);
  upstream.add(anew);
  t.equal((await get(client.url, one.narInfo.url)).status, 404);
  t.equal((await get(client.url, `${one.storeHash}.narinfo`)).body.toString(), anew.narInfo.text);
  t.same((await fetchNar(client, anew)).body, anew.bytes);
});

t.test(
  'GET, HEAD, ranges, conditions and what is no narinfo are answered alike, asked for once or again',
  async (t) => {
    const lab = await Lab.open(t);
    const client = await lab.client([await lab.upstream([one])]);
    const { text } = one.narInfo;
    const plain = {
      'accept-ranges': 'bytes',
      'cache-control': 'no-transform',
      'content-type': 'text/x-nix-narinfo',
      'content-length': String(text.length),
    };
    for (const time of ['first', 'again']) {
      // A path that is written in another way goes through express.
      for (const path of [`${one.storeHash}.narinfo`, `x/../${one.storeHash}.narinfo`]) {
        t.match(await get(client.url, path), { status: 200, body: Buffer.from(text), headers: plain }, time);
        const conditional = await get(client.url, path, { headers: { 'if-none-match': '*' } });
        t.match(conditional, { status: 200, body: Buffer.from(text) });
        t.match(await get(client.url, path, { method: 'HEAD' }), {
          status: 200,
          body: Buffer.alloc(0),
          headers: plain,
        });
        const part = await get(client.url, path, { headers: { range: 'bytes=10-19' } });
        t.match(part, { status: 206, body: Buffer.from(text.slice(10, 20)) });
      }
      for (const path of [`${two.storeHash}.narinfo`, 'nonsense.narinfo', `x/../${two.storeHash}.narinfo`]) {
        const absent = await get(client.url, path);
        t.match(absent, { status: 404, body: Buffer.from('not found\n') });
        t.match(absent.headers, { 'cache-control': 'no-store', 'content-type': 'text/plain; charset=utf-8' });
      }
      t.equal((await get(client.url, `${one.storeHash}.narinfo`, { method: 'POST' })).status, 405);
    }
  },
);
