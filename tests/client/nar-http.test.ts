import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { fetchNar, get, Lab, statusOf, until } from './lab.ts';
import { type MadeNar, madeNar } from './made-nar.ts';

const small = madeNar({ name: 'small', sizeBytes: 5_000 });
const large = madeNar({ name: 'large', sizeBytes: 3_000_000, compression: 'none' });

t.test('a NAR file comes over HTTP, is checked, kept, and then given from the store', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([small, large]);
  const client = await lab.client([upstream]);
  for (const nar of [small, large]) {
    const answer = await fetchNar(client, nar);
    t.equal(answer.status, 200);
    t.ok(answer.body.equals(nar.bytes));
    t.equal(answer.headers['content-length'], String(nar.bytes.length));
    t.equal(answer.headers['accept-ranges'], 'bytes');
    t.equal(answer.headers.etag, `"${nar.fileHash}"`);
    t.notOk(answer.headers['content-encoding']);
  }
  await until(() => statusOf(client).cache.files === 2 && statusOf(client).transfers.running.length === 0);
  const again = await fetchNar(client, large);
  t.ok(again.body.equals(large.bytes));
  t.equal(again.headers.etag, `"${large.fileHash}"`, 'the same tag from whichever source');
  const total = small.bytes.length + large.bytes.length;
  t.match(statusOf(client), {
    bytes: { http: total, swarm: 0, held: large.bytes.length },
    nars: { http: 2, swarm: 0, mixed: 0, held: 1 },
  });
  t.equal(upstream.narBytes, total);
});

t.test('ranges are answered from a held file and from one that is being fetched', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([large]);
  const client = await lab.client([upstream]);
  const from = 2_000_000;
  for (const state of ['fetched', 'held']) {
    const range = await fetchNar(client, large, { headers: { range: `bytes=${from}-` } });
    t.equal(range.status, 206, state);
    t.equal(range.headers['content-range'], `bytes ${from}-2999999/3000000`);
    t.ok(range.body.equals(large.bytes.subarray(from)));
    const ifRange = { range: 'bytes=1-2', 'if-range': `"${large.fileHash}"` };
    t.same((await fetchNar(client, large, { headers: ifRange })).body, large.bytes.subarray(1, 3));
    const other = { range: 'bytes=1-2', 'if-range': '"other"' };
    t.equal((await fetchNar(client, large, { headers: other })).status, 200);
    t.equal((await fetchNar(client, large, { headers: { range: 'bytes=9999999-' } })).status, 416);
    await until(() => statusOf(client).cache.files === 1 && statusOf(client).transfers.running.length === 0);
  }
  t.equal(upstream.narBytes, large.bytes.length, 'it was fetched once');
});

t.test('HEAD fetches nothing', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([large]);
  const client = await lab.client([upstream]);
  const head = await fetchNar(client, large, { method: 'HEAD' });
  t.match(head, { status: 200, body: { length: 0 } });
  t.equal(head.headers['content-length'], '3000000');
  t.equal(head.headers['accept-ranges'], 'bytes');
  t.equal(head.headers.etag, `"${large.fileHash}"`);
  t.equal(upstream.requestsFor(large.narInfo.url), 0);
});

t.test('a URL given out before a restart is served after it, also when the narinfo is gone', async (t) => {
  const lab = await Lab.open(t);
  const query = madeNar({ name: 'query', sizeBytes: 4_000, narInfo: { url: 'nar/x.nar.xz?hash=a%20b' } });
  const upstream = await lab.upstream([small, query]);
  const before = await lab.client([upstream]);
  for (const nar of [small, query]) await get(before.url, `${nar.storeHash}.narinfo`);
  await before.close();
  upstream.files.delete(`/${small.storeHash}.narinfo`);
  const after = await lab.client([upstream]);
  for (const nar of [small, query]) t.same((await get(after.url, nar.narInfo.url)).body, nar.bytes);
});

t.test('held files survive a restart, also with the upstream down', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([small]);
  const before = await lab.client([upstream]);
  await fetchNar(before, small);
  await until(() => statusOf(before).cache.files === 1);
  await before.close();
  await upstream.close();
  const after = await lab.client([upstream.url]);
  t.same((await fetchNar(after, small)).body, small.bytes);
  t.match(statusOf(after), { nars: { held: 1, http: 0 }, cache: { files: 1, bytes: 5_000 } });
});

t.test('small wrong bytes never reach Nix: the next upstream is taken', async (t) => {
  const lab = await Lab.open(t);
  const [bad, good] = [await lab.upstream([small]), await lab.upstream([small])];
  bad.put(small.narInfo.url, Buffer.alloc(small.bytes.length, 7));
  const client = await lab.client([bad, good]);
  const answer = await fetchNar(client, small);
  t.equal(answer.status, 200);
  t.same(answer.body, small.bytes);
  t.ok(answer.complete);
  t.equal(statusOf(client).wrong, 1);
});

t.test('wrong bytes never end cleanly', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([large, small]);
  const wrong = Buffer.from(large.bytes);
  wrong[2_999_999] = ~(wrong[2_999_999] ?? 0);
  upstream.put(large.narInfo.url, wrong);
  upstream.put(small.narInfo.url, Buffer.alloc(small.bytes.length, 7));
  const client = await lab.client([upstream]);
  const answer = await fetchNar(client, large);
  t.notOk(answer.complete);
  t.ok(answer.body.length < large.bytes.length);
  t.equal((await fetchNar(client, small)).status, 404);
  await until(() => statusOf(client).transfers.running.length === 0);
  t.equal(statusOf(client).cache.files, 0);
  // Nix tries to go on where it broke: the bad source is not asked again.
  const requests = upstream.requestsFor(large.narInfo.url);
  t.equal((await fetchNar(client, large, { headers: { range: 'bytes=100-' } })).status, 404);
  t.equal(upstream.requestsFor(large.narInfo.url), requests);
});

t.test(
  'a body that breaks off goes on from the next upstream at that byte, in the same answer',
  async (t) => {
    const lab = await Lab.open(t);
    const [breaking, good] = [await lab.upstream([large]), await lab.upstream([large])];
    breaking.intercept = (request, response) => {
      if (!request.url?.includes('nar/')) return false;
      response.writeHead(200, { 'content-length': large.bytes.length });
      response.write(large.bytes.subarray(0, 1_000_000), () => response.destroy());
      return true;
    };
    const client = await lab.client([breaking, good]);
    const answer = await fetchNar(client, large);
    t.ok(answer.complete);
    t.ok(answer.body.equals(large.bytes));
    const ranges = good.requests.map(({ range }) => range).filter((range) => range !== undefined);
    t.equal(ranges.length, 1);
    t.match(ranges[0], /^bytes=[1-9]\d*-$/);
  },
);

t.test(
  'a truncated, lying or refusing upstream is left for the next one before the first byte',
  async (t) => {
    const lab = await Lab.open(t);
    const [bad, good] = [await lab.upstream([small]), await lab.upstream([small])];
    const answers: ((response: import('node:http').ServerResponse) => void)[] = [
      (response) => response.writeHead(404).end(),
      (response) => response.writeHead(503).end(),
      (response) => response.end(small.bytes.subarray(0, 100)),
      (response) => response.end(Buffer.concat([small.bytes, small.bytes])),
      (response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(small.bytes),
      (response) => response.destroy(),
    ];
    for (const [n, answer] of answers.entries()) {
      bad.intercept = (request, response) => {
        if (!request.url?.includes('nar/')) return false;
        answer(response);
        return true;
      };
      const client = await lab.client([bad, good], [], { dataDir: `${lab.dir}/${n}` });
      t.same((await fetchNar(client, small)).body, small.bytes, `answer ${n}`);
      await client.close();
    }
  },
);

t.test('a NAR file that nobody has is 404', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([small]);
  upstream.files.delete(`/${small.narInfo.url}`);
  const client = await lab.client([upstream]);
  t.equal((await fetchNar(client, small)).status, 404);
  await upstream.close();
  t.equal((await get(client.url, small.narInfo.url)).status, 404);
  t.equal((await get(client.url, 'nar/unknown.nar.xz')).status, 404);
});

t.test(
  'many requests for one NAR file are one fetch, and one that is cancelled disturbs no other',
  async (t) => {
    const lab = await Lab.open(t);
    const upstream = await lab.upstream([large]);
    let release = (): void => undefined;
    upstream.intercept = (request, response) => {
      if (!request.url?.includes('nar/')) return false;
      response.writeHead(200, { 'content-length': large.bytes.length });
      response.write(large.bytes.subarray(0, 1_000_000));
      release = () => response.end(large.bytes.subarray(1_000_000));
      return true;
    };
    const client = await lab.client([upstream]);
    const cancelled = fetchNar(client, large, { onBytes: (_bytes, stop) => stop() });
    const others = [1, 2, 3].map(() => fetchNar(client, large));
    t.notOk((await cancelled).complete);
    release();
    for (const answer of await Promise.all(others)) t.ok(answer.body.equals(large.bytes));
    t.equal(upstream.requestsFor(large.narInfo.url), 1);
    t.match(statusOf(client).nars, { http: 1 });
  },
);

t.test('a fetch that nobody reads any more stops after a while', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([large]);
  let closed = false;
  upstream.intercept = (request, response) => {
    if (!request.url?.includes('nar/')) return false;
    response.writeHead(200, { 'content-length': large.bytes.length });
    response.write(large.bytes.subarray(0, 1_000_000));
    response.once('close', () => {
      closed = true;
    });
    return true;
  };
  const client = await lab.client([upstream], [], { limits: { lingerMs: 50, nearlyDoneBytes: 100_000 } });
  await fetchNar(client, large, { onBytes: (_bytes, stop) => stop() });
  await until(() => closed && statusOf(client).transfers.running.length === 0);
  t.match(statusOf(client), { failed: 0, cache: { files: 0 } });
});

t.test(
  'without FileHash a NAR comes straight from the upstream, Range and all, and is not kept',
  async (t) => {
    const lab = await Lab.open(t);
    const nar = madeNar({
      name: 'bare',
      sizeBytes: 9_000,
      narInfo: { url: 'nar/bare.nar.xz', fileHash: undefined },
    });
    const upstream = await lab.upstream([nar]);
    const client = await lab.client([upstream]);
    t.same((await fetchNar(client, nar)).body, nar.bytes);
    const range = await fetchNar(client, nar, { headers: { range: 'bytes=100-' } });
    t.equal(range.status, 206);
    t.same(range.body, nar.bytes.subarray(100));
    t.match(statusOf(client), { passedThrough: 2, cache: { files: 0 } });
  },
);

t.test('an upstream that says Content-Encoding: identity does not keep Nix from resuming', async (t) => {
  const lab = await Lab.open(t);
  const bare = madeNar({
    name: 'bare',
    sizeBytes: 9_000,
    narInfo: { url: 'nar/bare.nar.xz', fileHash: undefined },
  });
  const upstream = await lab.upstream([bare, small]);
  upstream.intercept = (request, response) => {
    if (request.url?.includes('nar/') === true) response.setHeader('content-encoding', 'identity');
    return false;
  };
  const client = await lab.client([upstream]);
  for (const nar of [bare, small]) {
    const answer = await fetchNar(client, nar);
    t.same(answer.body, nar.bytes);
    t.notOk('content-encoding' in answer.headers);
  }
});

t.test('without FileSize the size is what the upstream says, or unknown until the end', async (t) => {
  const lab = await Lab.open(t);
  const nar = madeNar({ name: 'unsized', sizeBytes: 200_000, narInfo: { fileSize: undefined } });
  const upstream = await lab.upstream([nar]);
  const client = await lab.client([upstream]);
  const sized = await fetchNar(client, nar);
  t.equal(sized.headers['content-length'], '200000');
  t.ok(sized.body.equals(nar.bytes));
  const other = madeNar({ name: 'chunked', sizeBytes: 200_000, narInfo: { fileSize: undefined } });
  upstream.add(other);
  upstream.intercept = (request, response) => {
    if (!request.url?.includes('nar/')) return false;
    response.write(other.bytes.subarray(0, 100_000));
    response.end(other.bytes.subarray(100_000));
    return true;
  };
  const chunked = await fetchNar(client, other);
  t.ok(chunked.complete && chunked.body.equals(other.bytes));
  t.notOk(chunked.headers['content-length']);
});

t.test(
  'a body that does not end is cut where no NAR file of its NarSize can be, whatever is said of its size',
  async (t) => {
    const lab = await Lab.open(t);
    const upstream = await lab.upstream();
    let sent = 0;
    upstream.intercept = (request, response) => {
      if (!request.url?.includes('nar/')) return false;
      const block = Buffer.alloc(64 * 1024, 7);
      const more = (): void => {
        // Bounded, for when the client is not.
        while (!response.destroyed && sent < 100_000_000) {
          sent += block.length;
          if (!response.write(block)) return void response.once('drain', more);
        }
      };
      more();
      return true;
    };
    const client = await lab.client([upstream]);
    for (const fileSize of [undefined, Number.MAX_SAFE_INTEGER]) {
      const nar = madeNar({ name: `endless-${fileSize}`, sizeBytes: 1_000_000, narInfo: { fileSize } });
      upstream.put(`${nar.storeHash}.narinfo`, nar.narInfo.text);
      sent = 0;
      const answer = await fetchNar(client, nar);
      t.notOk(answer.complete && answer.status === 200);
      t.ok(answer.body.length < 4_000_000, 'NarSize is three megabytes');
      await until(() => statusOf(client).transfers.running.length === 0);
      t.ok(sent < 50_000_000, `${sent} bytes left the upstream`);
    }
  },
);

t.test(
  'who goes away from an answer of unknown length leaves nothing running, whenever it does',
  async (t) => {
    const lab = await Lab.open(t);
    const nar = madeNar({ name: 'left', sizeBytes: 20_000_000, narInfo: { fileSize: undefined } });
    const upstream = await lab.upstream([nar]);
    upstream.intercept = (request, response) => {
      if (!request.url?.includes('nar/')) return false;
      response.write(nar.bytes.subarray(0, 10_000_000));
      return true;
    };
    const client = await lab.client([upstream], [], { limits: { lingerMs: 10, nearlyDoneBytes: 0 } });
    for (const bytes of [1, 200_000, 1_000_000, 3_000_000, 5_000_000, 9_000_000]) {
      await fetchNar(client, nar, {
        onBytes: (received, stop) => {
          if (received >= bytes) stop();
        },
      }).catch(() => undefined);
      await until(() => statusOf(client).transfers.running.length === 0);
    }
    t.match(statusOf(client), { failed: 0 });
  },
);

t.test('an upstream that gives a byte now and then counts as silent', async (t) => {
  const lab = await Lab.open(t);
  const nar = madeNar({ name: 'dripping', sizeBytes: 100_000 });
  const upstream = await lab.upstream([nar]);
  upstream.intercept = (request, response) => {
    if (!request.url?.includes('nar/')) return false;
    response.writeHead(200, { 'content-length': nar.bytes.length });
    let at = 0;
    const drip = setInterval(() => response.write(nar.bytes.subarray(at, ++at)), 10);
    response.once('close', () => clearInterval(drip));
    return true;
  };
  const limits = { httpStallMs: 200, restingStallMs: 100, hungStallMs: 50, lingerMs: 10 };
  const client = await lab.client([upstream], [], { limits });
  t.equal((await fetchNar(client, nar)).status, 404);
});

t.test('FileSize 0 means that it is not known, as it does to Nix', async (t) => {
  const lab = await Lab.open(t);
  const nar = madeNar({ name: 'zero', sizeBytes: 9_000, narInfo: { fileSize: 0 } });
  const client = await lab.client([await lab.upstream([nar])]);
  const answer = await fetchNar(client, nar);
  t.equal(answer.status, 200);
  t.ok(answer.body.equals(nar.bytes));
});

t.test('the least recently used files go when the cache is full', async (t) => {
  const lab = await Lab.open(t);
  const nars = ['a', 'b', 'c'].map((name) => madeNar({ name, sizeBytes: 100_000 }));
  const huge = madeNar({ name: 'huge', sizeBytes: 300_000 });
  const upstream = await lab.upstream([...nars, huge]);
  const client = await lab.client([upstream], [], { cacheSizeBytes: 250_000 });
  const idle = () => until(() => statusOf(client).transfers.running.length === 0);
  const [a, b, c] = nars;
  if (a === undefined || b === undefined || c === undefined) throw new Error('unreachable');
  for (const nar of [a, b, a, c]) {
    await fetchNar(client, nar);
    await idle();
  }
  t.match(statusOf(client).cache, { files: 2, bytes: 200_000, evicted: 1 });
  await fetchNar(client, a);
  t.equal(statusOf(client).nars.held, 2, 'the one used in between was kept');
  t.ok(
    (await fetchNar(client, huge)).body.equals(huge.bytes),
    'a file larger than the cache is given all the same',
  );
  await idle();
  t.match(statusOf(client).cache, { files: 2, bytes: 200_000 });
  await client.close();
  const smaller = await lab.client([upstream], [], { cacheSizeBytes: 100_000 });
  t.match(statusOf(smaller).cache, { files: 1, bytes: 100_000 });
});

t.test('a held file that is missing or of another size is fetched again', async (t) => {
  const { readdir, rm, truncate } = await import('node:fs/promises');
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([small]);
  const client = await lab.client([upstream]);
  const damage = [rm, (path: string) => truncate(path, 10)];
  for (const [n, spoil] of damage.entries()) {
    await fetchNar(client, small);
    await until(() => statusOf(client).cache.files === 1 && statusOf(client).transfers.running.length === 0);
    const files = await readdir(`${lab.dir}/data/nar-files`, { recursive: true });
    await spoil(`${lab.dir}/data/nar-files/${files.find((name) => name.endsWith('.nar.xz'))}`);
    t.same((await fetchNar(client, small)).body, small.bytes);
    t.equal(upstream.requestsFor(small.narInfo.url), n + 2);
    await until(() => statusOf(client).transfers.running.length === 0);
  }
});

t.test('a held file that was changed is never given to Nix as whole, and is fetched again', async (t) => {
  const { chmod, readdir, stat, writeFile } = await import('node:fs/promises');
  const { execFileSync } = await import('node:child_process');
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([small, large]);
  const client = await lab.client([upstream]);
  const idle = () => until(() => statusOf(client).transfers.running.length === 0);
  const held = async (nar: MadeNar): Promise<string> => {
    await fetchNar(client, nar);
    await idle();
    const names = await readdir(`${lab.dir}/data/nar-files`, { recursive: true });
    const name = names.find((each) => nar.narInfo.url.endsWith(`/${basename(each)}`));
    return `${lab.dir}/data/nar-files/${name}`;
  };
  const changed = (bytes: Buffer, at: number): Buffer => {
    const other = Buffer.from(bytes);
    other[at] = (other[at] ?? 0) ^ 1;
    return other;
  };
  for (const nar of [small, large]) {
    const file = await held(nar);
    const { mtimeNs } = await stat(file, { bigint: true });
    await writeFile(file, changed(nar.bytes, 10));
    // Of any other time it is compared before a byte of it leaves.
    const time = `${mtimeNs / 10n ** 9n}.${`${mtimeNs % 10n ** 9n}`.padStart(9, '0')}`;
    execFileSync('touch', ['-m', '-d', `@${time}`, file]);
    const spoilt = await fetchNar(client, nar);
    t.equal(spoilt.complete && !spoilt.body.equals(nar.bytes), false, 'no wrong bytes end cleanly');
    // Of a small one nothing had left.
    t.equal(spoilt.complete, nar === small);
    await idle();
    const again = await fetchNar(client, nar);
    t.ok(again.complete && again.body.equals(nar.bytes));
    t.equal(upstream.requestsFor(nar.narInfo.url), 2);
    await idle();
  }
  if (process.getuid?.() !== 0) {
    await chmod(await held(small), 0);
    t.ok(
      (await fetchNar(client, small)).body.equals(small.bytes),
      'one that cannot be opened is as good as none',
    );
  }
});

t.test('the first bytes leave before the last ones have come', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([large]);
  let release = (): void => undefined;
  upstream.intercept = (request, response) => {
    if (!request.url?.includes('nar/')) return false;
    response.writeHead(200, { 'content-length': large.bytes.length });
    response.write(large.bytes.subarray(0, 2_000_000));
    release = () => response.end(large.bytes.subarray(2_000_000));
    return true;
  };
  const client = await lab.client([upstream]);
  let early = 0;
  const answer = await fetchNar(client, large, {
    onBytes: (bytes) => {
      early = bytes;
      if (bytes >= 1_900_000) release();
    },
  });
  t.ok(early > 0);
  t.equal(
    createHash('sha256').update(answer.body).digest('hex'),
    createHash('sha256').update(large.bytes).digest('hex'),
  );
});

t.test('a large file is held whole however soon it is asked for again', async (t) => {
  const lab = await Lab.open(t);
  const huge = madeNar({ name: 'huge', sizeBytes: 40_000_000, compression: 'none' });
  const upstream = await lab.upstream([huge]);
  const client = await lab.client([upstream]);
  for (let n = 0; n < 4; n++) {
    const answer = await fetchNar(client, huge);
    t.ok(answer.complete && answer.body.equals(huge.bytes));
  }
  t.equal(upstream.narBytes, huge.bytes.length);
  await until(() => statusOf(client).transfers.running.length === 0);
  t.match(statusOf(client).cache, { files: 1, bytes: huge.bytes.length });
});

t.test('status, metrics and page say what came from where', async (t) => {
  const lab = await Lab.open(t);
  const client = await lab.client([await lab.upstream([small])]);
  await fetchNar(client, small);
  await sleep(0);
  const status = JSON.parse((await get(client.url, '_narswarm/status')).body.toString());
  t.match(status, { role: 'client', bytes: { http: 5_000 }, nars: { http: 1 }, share: { uploadedBytes: 0 } });
  t.match(
    (await get(client.url, '_narswarm/metrics')).body.toString(),
    /narswarm_nar_bytes\{source="http"\} 5000/,
  );
  t.match((await get(client.url, '_narswarm/')).body.toString(), /<title>narswarm client/);
  t.equal((await get(client.url, '_narswarm/other')).status, 404);
  t.equal((await get(client.url, 'nix-cache-info', { method: 'POST' })).status, 405);
});
