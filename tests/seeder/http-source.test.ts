import { once } from 'node:events';
import { readdir, readFile, rm, unlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type StorePath, storeHashOf } from '../../nar/store-path.ts';
import type { Ingest, IngestOptions } from '../../seeder/ingest.ts';
import { narFilesOnDisk } from '../../seeder/nar-files.ts';
import {
  type Built,
  type CacheBuilder,
  makeNar,
  sha256,
  storePath,
  withoutLines,
} from '../helpers/cache-builder.ts';
import { type Lab, openLab } from './ingest-lab.ts';

interface HttpLab extends Lab {
  url: string;
  /** What was asked for since it was last looked at. */
  asked(): string[];
  /** Answers of the server that are not those of the directory. */
  answers: Map<string, { status: number; body?: Buffer; lengthBytes?: number }>;
  begin(paths: StorePath[], options?: Partial<IngestOptions>): Promise<Ingest>;
}

async function openHttpLab(t: Test): Promise<HttpLab> {
  const lab = await openLab(t);
  const answers: HttpLab['answers'] = new Map();
  let log: string[] = [];
  const server = createServer(async (request, response) => {
    const name = (request.url ?? '').slice(1);
    log.push(name);
    const answer = answers.get(name);
    try {
      const body = answer?.body ?? (await readFile(lab.cache.path(name)));
      response.writeHead(answer?.status ?? 200, { 'content-length': answer?.lengthBytes ?? body.length });
      response.end(body);
      if (answer?.lengthBytes !== undefined) response.destroy();
    } catch {
      response.writeHead(answer?.status ?? 404).end();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    ...lab,
    url,
    answers,
    asked() {
      const all = log.sort();
      log = [];
      return all;
    },
    async begin(paths, options = {}) {
      const storePaths = join(lab.dir, 'store-paths');
      await writeFile(storePaths, `${paths.join('\n')}\n`);
      return lab.open({ sources: [url], storePaths, ...options });
    },
  };
}

/** A chain of five, each of which refers to the next and to itself. */
async function addChain(cache: CacheBuilder): Promise<Built[]> {
  const built: Built[] = [];
  for (let i = 0; i < 5; i++) {
    const references = [storePath(`n${i}`), ...(i < 4 ? [storePath(`n${i + 1}`)] : [])];
    built.push(await cache.add({ name: `n${i}`, references, compression: i % 2 === 0 ? 'xz' : 'zstd' }));
  }
  return built;
}

t.test('the closure of the listed paths is downloaded, verified and stored', async (t) => {
  const lab = await openHttpLab(t);
  const built = await addChain(lab.cache);
  await lab.cache.add({ name: 'not-asked-for' });
  const ingest = await lab.begin([storePath('n0'), storePath('n3')]);
  await ingest.run();
  t.match(lab.catalog.counts(), { nars: 5, narinfos: 5, rejected: 0 });
  t.equal(lab.asked().length, 11, 'one request for each file');
  for (const { narFile, storePath: path, narInfo } of built) {
    t.equal(lab.catalog.narInfo(storeHashOf(path)), narInfo.text);
    const entry = lab.catalog.byFileHash(sha256(narFile));
    if (entry === undefined) throw new Error('no entry');
    const file = await narFilesOnDisk(join(lab.dir, 'store')).open(entry);
    t.ok((await file.read(0, narFile.length)).equals(narFile));
    await file.close();
  }

  await t.test('again, it asks for nothing but nix-cache-info', async (t) => {
    await ingest.run();
    t.same(lab.asked(), ['nix-cache-info']);
    t.match(ingest.progress(), { done: 5, refused: 0, bytes: 0 });
  });

  await t.test('what was lost from the store is downloaded again', async (t) => {
    const { location } = lab.catalog.byFileHash(sha256(built[2]?.narFile ?? Buffer.alloc(0))) ?? {};
    await unlink(join(lab.dir, 'store', location?.path ?? ''));
    await ingest.run();
    t.same(lab.asked(), [built[2]?.narInfo.url, built[2]?.narInfoName, 'nix-cache-info'].sort());
    t.match(ingest.progress(), { done: 5, refused: 0, bytes: built[2]?.narFile.length });
  });
});

t.test('what the upstream does not give is refused, and asked for again', async (t) => {
  const lab = await openHttpLab(t);
  const built = await addChain(lab.cache);
  const [, one, two, three, four] = built;
  if (!one || !two || !three || !four) throw new Error('no chain');
  await rm(lab.cache.path(four.narInfoName));
  lab.answers.set(three.narInfo.url, { status: 500 });
  await rm(lab.cache.path(two.narInfo.url));
  lab.answers.set(one.narInfo.url, {
    status: 200,
    body: one.narFile.subarray(0, 40),
    lengthBytes: one.narFile.length,
  });
  const ingest = await lab.begin([storePath('n0')]);
  await ingest.run();
  t.same(lab.refusals(), {
    [one.narInfoName]: 'upstream-failed',
    [two.narInfoName]: 'nar-file-missing',
    [three.narInfoName]: 'upstream-failed',
    [four.narInfoName]: 'upstream-failed',
  });
  t.match(lab.catalog.counts(), { nars: 1, rejected: 4 });
  lab.answers.clear();
  await lab.cache.put(two);
  await lab.cache.put(four);
  await ingest.run();
  t.same(lab.refusals(), {});
  t.match(lab.catalog.counts(), { nars: 5, rejected: 0 });
});

t.test(
  'what is wrong with a NAR file is found; nothing of it is kept; repaired, it is accepted',
  async (t) => {
    const lab = await openHttpLab(t);
    const { cache } = lab;
    const unsigned = cache.build({ name: 'unsigned' });
    await cache.put(unsigned);
    await cache.write(unsigned.narInfoName, withoutLines(unsigned.narInfo.text, 'Sig'));
    const hash = await cache.put(
      cache.build({ name: 'hash', values: { fileHash: sha256(Buffer.from('x')) } }),
    );
    const size = await cache.put(cache.build({ name: 'size', values: { fileSize: 99 } }));
    const narHash = await cache.put(
      cache.build({ name: 'nar-hash', values: { narHash: sha256(Buffer.from('y')) } }),
    );
    const notNar = await cache.add({ name: 'not-nar', nar: Buffer.from('this is not a NAR') });
    const bomb = await cache.add({
      name: 'bomb',
      nar: makeNar({ zeros: Buffer.alloc(8_000_000) }),
      values: { narSize: 1000 },
    });
    const endless = cache.build({ name: 'endless' });
    await cache.put(endless);
    await cache.write(endless.narInfoName, withoutLines(endless.narInfo.text, 'FileHash', 'FileSize'));
    await cache.write(endless.narInfo.url, Buffer.alloc(1_000_000));
    const names = ['unsigned', 'hash', 'size', 'nar-hash', 'not-nar', 'bomb', 'endless'];
    const ingest = await lab.begin(names.map(storePath));
    await ingest.run();
    const expected = {
      [unsigned.narInfoName]: 'signature-untrusted',
      [hash.narInfoName]: 'file-hash-mismatch',
      [size.narInfoName]: 'file-size-mismatch',
      [narHash.narInfoName]: 'nar-hash-mismatch',
      [notNar.narInfoName]: 'nar-corrupt',
      [bomb.narInfoName]: 'decompression-bomb',
      [endless.narInfoName]: 'file-size-mismatch',
    };
    t.same(lab.refusals(), expected);
    t.equal(lab.catalog.counts().nars, 0);
    const kept = await readdir(join(lab.dir, 'store'), { recursive: true });
    t.same(
      kept.filter((name) => name.includes('.nar')),
      [],
    );
    await ingest.run();
    t.same(lab.refusals(), expected);
    for (const name of names) await cache.add({ name });
    await ingest.run();
    t.same(lab.refusals(), {});
    t.equal(lab.catalog.counts().nars, names.length);
  },
);

t.test('narinfos without FileHash, and two for one NAR file', async (t) => {
  const lab = await openHttpLab(t);
  const nar = makeNar({ same: 'content' });
  const [one, two] = [await lab.cache.add({ name: 'one', nar }), await lab.cache.add({ name: 'two', nar })];
  const bare = await lab.cache.add({ name: 'bare' });
  await lab.cache.write(bare.narInfoName, withoutLines(bare.narInfo.text, 'FileHash', 'FileSize'));
  const ingest = await lab.begin([one.storePath, two.storePath, bare.storePath]);
  await ingest.run();
  t.match(lab.catalog.counts(), { nars: 2, narinfos: 3, rejected: 0 });
  t.equal(lab.asked().filter((name) => name === one.narInfo.url).length, 1);
  await ingest.run();
  t.same(lab.asked(), ['nix-cache-info']);
});

t.test('a NAR file that a killed seeder had downloaded is not downloaded again', async (t) => {
  const lab = await openHttpLab(t);
  const built = await lab.cache.add({ name: 'one' });
  const first = await lab.begin([built.storePath]);
  await first.run();
  lab.catalog.forget(lab.url, built.narInfoName);
  t.equal(lab.catalog.counts().nars, 0);
  lab.asked();
  // The download is opened, to see whether it is there, and broken off.
  lab.answers.set(built.narInfo.url, { status: 200, body: Buffer.alloc(built.narFile.length) });
  await first.run();
  t.match(lab.catalog.counts(), { nars: 1, rejected: 0 });
});

t.test('URLs that lead to private addresses elsewhere are not followed', async (t) => {
  const lab = await openHttpLab(t);
  const elsewhere = await openHttpLab(t);
  const built = await lab.cache.add({ name: 'one' });
  await elsewhere.cache.write(built.narInfo.url, built.narFile);
  const text = built.narInfo.text.replace(/^URL: /m, `URL: ${elsewhere.url}/`);
  await lab.cache.write(built.narInfoName, text);
  const ingest = await lab.begin([built.storePath]);
  await ingest.run();
  t.same(lab.refusals(), { [built.narInfoName]: 'upstream-failed' });
  t.same(elsewhere.asked(), []);
  await lab.cache.write(built.narInfoName, built.narInfo.text.replace(/^URL: /m, `URL: ${lab.url}/`));
  await ingest.run();
  t.same(lab.refusals(), {}, 'its own origin is no stranger');
});

t.test('an upstream that is down is one failed source, and costs nothing of the catalog', async (t) => {
  const lab = await openHttpLab(t);
  const built = await addChain(lab.cache);
  const ingest = await lab.begin([storePath('n0')]);
  await ingest.run();
  lab.answers.set('nix-cache-info', { status: 503 });
  await t.rejects(ingest.run(), { code: 'upstream-failed' });
  t.equal(lab.catalog.counts().narinfos, built.length);
});

t.test('an abort ends the walk', async (t) => {
  const lab = await openHttpLab(t);
  await addChain(lab.cache);
  const ingest = await lab.begin([storePath('n0')]);
  const abort = new AbortController();
  const running = ingest.run(abort.signal);
  abort.abort();
  await t.rejects(running, { code: 'aborted' });
  await ingest.run();
  t.match(lab.catalog.counts(), { nars: 5, rejected: 0 });
});

t.test('a source behind HTTP needs a list of store paths', async (t) => {
  const lab = await openHttpLab(t);
  await t.rejects(lab.open({ sources: [lab.url] }), { code: 'config-invalid' });
});
