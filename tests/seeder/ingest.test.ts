import { link, mkdir, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import t from 'tap';
import { verifyTorrentInfo } from '../../catalog/torrentinfo.ts';
import { secretKeyFromSeed } from '../../nar/signature.ts';
import { storeHashOf } from '../../nar/store-path.ts';
import { narFilesOnDisk } from '../../seeder/nar-files.ts';
import {
  type Built,
  CacheBuilder,
  compressNar,
  makeNar,
  sha256,
  storePath,
  withoutLines,
} from '../helpers/cache-builder.ts';
import { catalogKey, type Lab, openLab } from './ingest-lab.ts';

/** The narinfo with lines replaced that no signature covers. */
function reworded(built: Built, lines: Record<string, string>): string {
  let { text } = built.narInfo;
  for (const [name, value] of Object.entries(lines)) {
    text = text.replace(new RegExp(`^${name}: .*$`, 'm'), `${name}: ${value}`);
  }
  return text;
}

t.test('a cache is taken in whole, and signed', async (t) => {
  const { cache, catalog, ingest, dir } = await openLab(t);
  const built = [
    await cache.add({ name: 'one' }),
    await cache.add({ name: 'two', compression: 'zstd', references: [storePath('one')] }),
    await cache.add({ name: 'three', compression: 'none' }),
    await cache.add({ name: 'source', compression: 'gzip', contentAddressed: true }),
    await cache.add({ name: 'large', tree: { data: Buffer.alloc(6_000_000, 'large ') } }),
  ];
  await ingest.run();
  t.match(catalog.counts(), { nars: 5, narinfos: 5, rejected: 0 });
  for (const { narInfo, narFile, nar, storePath: path } of built) {
    t.equal(catalog.narInfo(storeHashOf(path)), narInfo.text, 'verbatim');
    const entry = catalog.byFileHash(sha256(narFile));
    if (entry === undefined) throw new Error(`no entry for ${path}`);
    t.equal(verifyTorrentInfo(entry, [catalogKey.publicKey]), 'catalog.test-1');
    t.match(entry, { fileSize: narFile.length, narHash: sha256(nar), narSize: nar.length });
    t.ok(catalog.pieces(entry.infoHash));
    t.ok(catalog.pieces(entry.narInfoHash));
    const file = await narFilesOnDisk(join(dir, 'store')).open(entry);
    t.ok((await file.read(0, narFile.length)).equals(narFile), 'served in place');
    await file.close();
  }
  t.match(ingest.progress(), { running: false, pending: 0, done: 5, refused: 0, failed: [] });
});

t.test('what has not changed is not read again; what has, is', async (t) => {
  const { cache, catalog, ingest } = await openLab(t);
  const kept = await cache.add({ name: 'kept' });
  const gone = await cache.add({ name: 'gone' });
  await cache.add({ name: 'also-kept', compression: 'none' });
  await ingest.run();
  t.equal(ingest.progress().bytes, catalog.counts().bytes);
  await ingest.run();
  t.match(ingest.progress(), { bytes: 0, done: 3 });
  await unlink(cache.path(gone.narInfoName));
  const added = await cache.add({ name: 'added' });
  await ingest.run();
  t.match(ingest.progress(), { bytes: added.narFile.length, done: 3 });
  t.equal(catalog.narInfo(storeHashOf(gone.storePath)), undefined, 'what is gone is forgotten');
  // The same bytes written again are read again: nobody knows that they are the same.
  await cache.put(kept);
  await ingest.run();
  t.equal(ingest.progress().bytes, kept.narFile.length);
  t.match(catalog.counts(), { nars: 3, narinfos: 3 });
});

t.test(
  'a directory that is not there, or has lost its nix-cache-info, costs nothing of the catalog',
  async (t) => {
    const { cache, catalog, ingest, dir } = await openLab(t);
    await cache.add({ name: 'one' });
    await ingest.run();
    await rename(cache.directory, join(dir, 'elsewhere'));
    await t.rejects(ingest.run(), { code: 'store-failed' });
    t.match(ingest.progress().failed, [{ source: cache.url }]);
    await mkdir(cache.directory);
    await ingest.run();
    t.equal(catalog.counts().narinfos, 1);
    await rm(cache.directory, { recursive: true });
    await rename(join(dir, 'elsewhere'), cache.directory);
    await ingest.run();
    t.match(ingest.progress(), { bytes: 0, done: 1 });
  },
);

type Fault = (lab: Pick<Lab, 'cache' | 'dir'>) => Promise<Built>;
const other = secretKeyFromSeed('other.test-1', Buffer.alloc(32, 2));

/** Each puts a path with just that fault into the cache. */
const faults: [string, string, Fault][] = [
  [
    'signed by nobody trusted',
    'signature-untrusted',
    ({ cache }) => new CacheBuilder(cache.directory, other).add({ name: 'bad' }),
  ],
  [
    'not signed',
    'signature-untrusted',
    async ({ cache }) => {
      const built = await cache.add({ name: 'bad' });
      await cache.write(built.narInfoName, withoutLines(built.narInfo.text, 'Sig'));
      return built;
    },
  ],
  [
    'a signature of something else',
    'signature-untrusted',
    async ({ cache }) => {
      const built = await cache.add({ name: 'bad' });
      await cache.write(built.narInfoName, reworded(built, { NarSize: String(built.nar.length + 8) }));
      return built;
    },
  ],
  [
    'content-addressed, but by another address',
    'signature-untrusted',
    async ({ cache }) => {
      const built = cache.build({ name: 'bad', contentAddressed: true });
      const moved = { ...built, narInfoName: `${storeHashOf(storePath('bad'))}.narinfo` };
      await cache.put(built);
      await unlink(cache.path(built.narInfoName));
      await cache.write(moved.narInfoName, reworded(built, { StorePath: storePath('bad') }));
      return moved;
    },
  ],
  [
    'FileHash',
    'file-hash-mismatch',
    async ({ cache }) =>
      cache.put(cache.build({ name: 'bad', values: { fileHash: sha256(Buffer.from('x')) } })),
  ],
  [
    'FileSize',
    'file-size-mismatch',
    async ({ cache }) => cache.put(cache.build({ name: 'bad', values: { fileSize: 99 } })),
  ],
  [
    'NarHash',
    'nar-hash-mismatch',
    async ({ cache }) =>
      cache.put(cache.build({ name: 'bad', values: { narHash: sha256(Buffer.from('x')) } })),
  ],
  [
    'NarSize',
    'nar-size-mismatch',
    async ({ cache }) => cache.put(cache.build({ name: 'bad', values: { narSize: 128 } })),
  ],
  [
    'cut short',
    'file-size-mismatch',
    async ({ cache }) => {
      const built = await cache.add({ name: 'bad' });
      await cache.write(built.narInfo.url, built.narFile.subarray(0, -10));
      return built;
    },
  ],
  [
    'cut short, without FileSize and FileHash',
    'decompression-failed',
    async ({ cache }) => {
      const built = await cache.add({ name: 'bad' });
      await cache.write(built.narInfo.url, built.narFile.subarray(0, -10));
      await cache.write(built.narInfoName, withoutLines(built.narInfo.text, 'FileSize', 'FileHash'));
      return built;
    },
  ],
  [
    'a NAR cut short before it was compressed',
    'nar-truncated',
    async ({ cache }) => cache.add({ name: 'bad', nar: makeNar({ data: 'bad' }).subarray(0, -8) }),
  ],
  [
    'not a NAR',
    'nar-corrupt',
    async ({ cache }) => cache.add({ name: 'bad', nar: Buffer.from('not a NAR at all') }),
  ],
  [
    'a bomb',
    'decompression-bomb',
    async ({ cache }) =>
      cache.add({
        name: 'bad',
        nar: makeNar({ zeros: Buffer.alloc(8_000_000) }),
        values: { narSize: 1000 },
      }),
  ],
  [
    'another compression than the narinfo says',
    'decompression-failed',
    async ({ cache }) => {
      const built = await cache.add({ name: 'bad' });
      await cache.write(built.narInfoName, reworded(built, { Compression: 'zstd' }));
      return built;
    },
  ],
  [
    'a compression that nobody has heard of',
    'compression-unsupported',
    async ({ cache }) => {
      const built = await cache.add({ name: 'bad' });
      await cache.write(built.narInfoName, reworded(built, { Compression: 'lzip' }));
      return built;
    },
  ],
  [
    'a narinfo that is none',
    'narinfo-corrupt',
    async ({ cache }) => {
      const built = await cache.add({ name: 'bad' });
      await cache.write(built.narInfoName, built.narInfo.text.slice(0, -1));
      return built;
    },
  ],
  [
    'a narinfo that is no text',
    'narinfo-corrupt',
    async ({ cache }) => {
      const built = await cache.add({ name: 'bad' });
      await cache.write(
        built.narInfoName,
        Buffer.concat([Buffer.from(built.narInfo.text), Buffer.from([0xff, 10])]),
      );
      return built;
    },
  ],
  [
    'a narinfo of another path',
    'narinfo-corrupt',
    async ({ cache }) => {
      const built = await cache.add({ name: 'bad' });
      const name = `${storeHashOf(storePath('elsewhere'))}.narinfo`;
      await rename(cache.path(built.narInfoName), cache.path(name));
      return { ...built, narInfoName: name };
    },
  ],
  [
    'a narinfo with an impossible name',
    'narinfo-corrupt',
    async ({ cache }) => {
      const built = await cache.add({ name: 'bad' });
      await rename(cache.path(built.narInfoName), cache.path('hello.narinfo'));
      return { ...built, narInfoName: 'hello.narinfo' };
    },
  ],
  [
    'a directory in place of a narinfo',
    'narinfo-corrupt',
    async ({ cache }) => {
      const built = await cache.add({ name: 'bad' });
      await unlink(cache.path(built.narInfoName));
      await mkdir(cache.path(built.narInfoName));
      return built;
    },
  ],
  [
    'another store directory',
    'store-dir-mismatch',
    async ({ cache }) => {
      const built = cache.build({ name: 'bad' });
      await cache.put(built);
      await cache.write(
        built.narInfoName,
        reworded(built, { StorePath: built.storePath.replace('/nix/', '/other/') }),
      );
      return built;
    },
  ],
  [
    'no NAR file',
    'nar-file-missing',
    async ({ cache }) => {
      const built = await cache.add({ name: 'bad' });
      await unlink(cache.path(built.narInfo.url));
      return built;
    },
  ],
  [
    'a directory in place of the NAR file',
    'nar-file-missing',
    async ({ cache }) => {
      const built = await cache.add({ name: 'bad' });
      await unlink(cache.path(built.narInfo.url));
      await mkdir(cache.path(built.narInfo.url));
      return built;
    },
  ],
  ...[
    '../outside.nar.xz',
    'nar/../../outside.nar.xz',
    '/etc/passwd',
    'http://cache.test/nar/x.nar.xz',
    'file:///etc/passwd',
    'nar/%2e%2e/%2e%2e/outside.nar.xz',
    '%2Fetc/passwd',
    'nar%2f..%2f..%2foutside.nar.xz',
    'nar/%252e%252e/%252e%252e/outside.nar.xz',
  ].map((url): [string, string, Fault] => [
    `the URL ${url}`,
    'path-escapes',
    async ({ cache, dir }) => {
      const built = cache.build({ name: 'bad' });
      await writeFile(join(dir, 'outside.nar.xz'), built.narFile);
      await cache.write(built.narInfoName, reworded(built, { URL: url }));
      return built;
    },
  ]),
  [
    'a NAR file that is a link out of the directory',
    'path-escapes',
    async ({ cache, dir }) => {
      const built = await cache.add({ name: 'bad' });
      await rename(cache.path(built.narInfo.url), join(dir, 'outside'));
      await symlink(join(dir, 'outside'), cache.path(built.narInfo.url));
      return built;
    },
  ],
  [
    'a directory on the way that is a link out of it',
    'path-escapes',
    async ({ cache, dir }) => {
      const built = await cache.add({ name: 'bad' });
      await rename(cache.path('nar'), join(dir, 'outside'));
      await symlink(join(dir, 'outside'), cache.path('nar'));
      return built;
    },
  ],
  [
    'a narinfo that is a link out of the directory',
    'path-escapes',
    async ({ cache, dir }) => {
      const built = await cache.add({ name: 'bad' });
      await rename(cache.path(built.narInfoName), join(dir, 'outside'));
      await symlink(join(dir, 'outside'), cache.path(built.narInfoName));
      return built;
    },
  ],
];

t.test('each fault is refused by its name, stays so unread, and repaired it is accepted', async (t) => {
  const lab = await openLab(t);
  const { catalog } = lab;
  // Each in a source of its own, all read by one ingest.
  const cases = await Promise.all(
    faults.map(async ([what, code, fault], index) => {
      const dir = join(lab.dir, `${index}`);
      await mkdir(join(dir, 'cache'), { recursive: true });
      const cache = await new CacheBuilder(join(dir, 'cache')).open();
      return { what, code, cache, bad: await fault({ dir, cache }) };
    }),
  );
  const count = cases.length;
  const refusals = (url: string): Record<string, string> =>
    Object.fromEntries(
      catalog
        .refusals(1000)
        .filter(({ source }) => source === url)
        .map(({ narInfoName, code }) => [narInfoName, code]),
    );
  const sources = cases.map(({ cache }) => cache.url);
  const ingest = await lab.open({ sources });
  await ingest.run();
  for (const { what, code, cache, bad } of cases)
    t.same(refusals(cache.url), { [bad.narInfoName]: code }, what);
  t.match(catalog.counts(), { nars: 0, narinfos: 0, rejected: count });
  t.match(ingest.progress(), { done: count, refused: count });
  for (const { message } of catalog.refusals(1000)) t.not(message, '');

  // Nothing has changed: it stays refused, and is not read again.
  const again = await lab.open({ sources });
  await again.run();
  for (const { what, code, cache, bad } of cases)
    t.same(refusals(cache.url), { [bad.narInfoName]: code }, what);
  t.match(again.progress(), { done: count, refused: count, bytes: 0 });

  for (const { cache, bad } of cases) {
    await rm(cache.path(bad.narInfoName), { recursive: true });
    await rm(cache.path('nar'), { recursive: true, force: true });
    await cache.add({ name: 'bad' });
  }
  await again.run();
  t.match(catalog.counts(), { nars: 1, narinfos: count, rejected: 0 });
  for (const { what, cache, bad } of cases) {
    const name = `${storeHashOf(storePath('bad'))}.narinfo`;
    t.equal(catalog.known(cache.url, name)?.state, 'accepted', what);
    if (bad.narInfoName !== name) t.equal(catalog.known(cache.url, bad.narInfoName), undefined, what);
  }
});

t.test('a NAR file that was accepted and then spoilt is refused, and no longer served', async (t) => {
  const { cache, catalog, ingest, refusals } = await openLab(t);
  const built = await cache.add({ name: 'one' });
  await ingest.run();
  await cache.write(built.narInfo.url, Buffer.alloc(built.narFile.length));
  await ingest.run();
  t.same(refusals(), { [built.narInfoName]: 'file-hash-mismatch' });
  t.equal(catalog.counts().nars, 0);
  await cache.put(built);
  await ingest.run();
  t.match(catalog.counts(), { nars: 1, rejected: 0 });
});

t.test('two narinfos of one NAR file share a torrent, and the file is read once', async (t) => {
  const { cache, catalog, ingest } = await openLab(t);
  const nar = makeNar({ same: 'content' });
  const one = await cache.add({ name: 'one', nar });
  const two = await cache.add({ name: 'two', nar });
  t.equal(one.narInfo.url, two.narInfo.url);
  await ingest.run();
  t.match(catalog.counts(), { nars: 1, narinfos: 2 });
  t.equal(ingest.progress().bytes, one.narFile.length);
  // A third comes later.
  await cache.write(
    cache.build({ name: 'three', nar }).narInfoName,
    cache.build({ name: 'three', nar }).narInfo.text,
  );
  await ingest.run();
  t.match(catalog.counts(), { nars: 1, narinfos: 3 });
  t.equal(ingest.progress().bytes, 0);
  // One that lies about the NAR is refused without reading it again.
  const liar = cache.build({ name: 'liar', nar, values: { narSize: nar.length + 8 } });
  await cache.write(liar.narInfoName, liar.narInfo.text);
  await ingest.run();
  t.equal(ingest.progress().bytes, 0);
  t.match(catalog.counts(), { nars: 1, narinfos: 3, rejectedByCode: { 'nar-size-mismatch': 1 } });
  // The one under which it was verified goes; the others stay.
  await unlink(cache.path(one.narInfoName));
  await ingest.run();
  t.match(catalog.counts(), { nars: 1, narinfos: 2 });
});

t.test('narinfos without FileHash and FileSize are seeded by the FileHash of the bytes', async (t) => {
  const { cache, catalog, ingest } = await openLab(t);
  const built = await cache.add({ name: 'one' });
  await cache.write(built.narInfoName, withoutLines(built.narInfo.text, 'FileHash', 'FileSize'));
  await ingest.run();
  t.match(catalog.byFileHash(sha256(built.narFile)), { fileSize: built.narFile.length });
  await ingest.run();
  t.equal(ingest.progress().bytes, 0);
});

t.test('a question mark in a URL is part of the name of the file, as in Nix', async (t) => {
  const { cache, catalog, ingest } = await openLab(t);
  const built = cache.build({ name: 'one' });
  const text = reworded(built, { URL: 'nar/x.nar.xz?v=1' });
  await cache.write('nar/x.nar.xz?v=1', built.narFile);
  await cache.write(built.narInfoName, text);
  await ingest.run();
  t.equal(catalog.byUrl('nar/x.nar.xz?v=1')?.fileHash, sha256(built.narFile));
});

t.test('links that stay within the directory are followed', async (t) => {
  const { cache, catalog, ingest } = await openLab(t);
  const built = await cache.add({ name: 'one' });
  await mkdir(cache.path('files'));
  await rename(cache.path(built.narInfo.url), cache.path('files/x'));
  await symlink('../files/x', cache.path(built.narInfo.url));
  const two = await cache.add({ name: 'two' });
  await link(cache.path(two.narInfo.url), join(dirname(cache.path(two.narInfo.url)), 'hard'));
  await ingest.run();
  t.equal(catalog.counts().nars, 2);
});

t.test('other keys: all narinfos are looked at again, and no NAR file is', async (t) => {
  const lab = await openLab(t);
  const { cache, catalog, ingest } = lab;
  const mine = await cache.add({ name: 'mine' });
  const theirs = await new CacheBuilder(cache.directory, other).add({ name: 'theirs' });
  await ingest.run();
  t.same(lab.refusals(), { [theirs.narInfoName]: 'signature-untrusted' });
  const newKey = secretKeyFromSeed('catalog.test-2', Buffer.alloc(32, 4));
  const more = await lab.open({ trustedKeys: [cache.publicKey, other.publicKey], secretKey: newKey });
  await more.run();
  t.match(catalog.counts(), { nars: 2, rejected: 0 });
  t.equal(more.progress().bytes, theirs.narFile.length);
  const entry = catalog.byFileHash(sha256(mine.narFile));
  t.equal(entry && verifyTorrentInfo(entry, [newKey.publicKey]), 'catalog.test-2', 'signed anew');
  const fewer = await lab.open({ trustedKeys: [other.publicKey], secretKey: newKey });
  await fewer.run();
  t.same(lab.refusals(), { [mine.narInfoName]: 'signature-untrusted' });
});

t.test('a source that fails does not keep the others from being read', async (t) => {
  const lab = await openLab(t);
  await lab.cache.add({ name: 'one' });
  const ingest = await lab.open({ sources: [`file://${lab.dir}/nothing`, lab.cache.url] });
  await t.rejects(ingest.run(), { code: 'store-failed' });
  t.equal(lab.catalog.counts().nars, 1);
  t.match(ingest.progress().failed, [{ source: `file://${lab.dir}/nothing` }]);
});

t.test('all narinfos of a catalog are for one store directory', async (t) => {
  const lab = await openLab(t);
  await lab.cache.add({ name: 'one' });
  await lab.ingest.run();
  t.equal(lab.ingest.nixStoreDir, '/nix/store');
  await lab.cache.write('nix-cache-info', 'StoreDir: /other/store\n');
  await t.rejects(lab.ingest.run(), { code: 'store-dir-mismatch' });
  t.equal(lab.catalog.counts().narinfos, 1);
});

t.test('an abort ends it soon; the next run goes on', async (t) => {
  const lab = await openLab(t);
  const { cache, catalog, ingest } = lab;
  for (let i = 0; i < 40; i++) {
    await cache.add({ name: `n${i}`, tree: { data: Buffer.alloc(500_000, `${i} `) } });
  }
  const abort = new AbortController();
  const stopping = await lab.open({
    onProgress: ({ done }) => {
      if (done >= 3) abort.abort();
    },
    clock: (() => {
      let now = 0;
      return () => (now += 1000);
    })(),
  });
  await t.rejects(stopping.run(abort.signal), { code: 'aborted' });
  const before = catalog.counts();
  t.ok(before.nars >= 3 && before.nars < 40, `${before.nars} were done`);
  t.equal(before.rejected, 0);
  await ingest.run();
  t.equal(catalog.counts().nars, 40);
  t.equal(ingest.progress().bytes, catalog.counts().bytes - before.bytes, 'nothing twice');
});

t.test('every compression of a large NAR', async (t) => {
  const { cache, catalog, ingest, refusals } = await openLab(t);
  const nar = makeNar({ data: Buffer.alloc(5_000_000, 'abcdefg') });
  for (const compression of ['none', 'xz', 'zstd', 'br', 'gzip'] as const) {
    await cache.add({ name: compression, nar, compression });
  }
  // Two streams one after the other, as pixz and pzstd write them.
  const halves = [nar.subarray(0, 2_000_000), nar.subarray(2_000_000)];
  for (const compression of ['xz', 'zstd', 'gzip'] as const) {
    const narFile = Buffer.concat(halves.map((half) => compressNar(half, compression)));
    await cache.add({ name: `${compression}-twice`, nar, compression, narFile });
  }
  await ingest.run();
  t.same(refusals(), {});
  t.equal(catalog.counts().nars, 8);
});

t.test('the event loop answers while a thousand small NARs are taken in', async (t) => {
  const { cache, catalog, ingest } = await openLab(t, { workers: 2 });
  for (let i = 0; i < 1000; i++) {
    await cache.add({ name: `n${i}`, tree: { data: Buffer.alloc(20_000, `${i} `) }, compression: 'zstd' });
  }
  // What this thread does between two turns, in its own CPU time: that other programs are busy is nothing that it does.
  let before = process.threadCpuUsage();
  let turns = 0;
  let longestMs = 0;
  const turn = (): void => {
    const { user, system } = process.threadCpuUsage(before);
    before = process.threadCpuUsage();
    turns++;
    longestMs = Math.max(longestMs, (user + system) / 1000);
  };
  const timer = setInterval(turn, 2);
  await ingest.run().finally(() => clearInterval(timer));
  turn();
  t.comment(`${turns} turns, the longest ${longestMs.toFixed(1)} ms`);
  t.equal(catalog.counts().nars, 1000);
  t.ok(turns > 10, 'it came around');
  // Reading one directory or table as a whole, or hashing here, would be far beyond.
  t.ok(longestMs < 100, `${longestMs} ms`);
});
