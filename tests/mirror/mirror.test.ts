import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import t from 'tap';
import { openCatalog } from '../../catalog/catalog.ts';
import type { Mirror } from '../../mirror/main.ts';
import { Bitmap } from '../../nar/bitmap.ts';
import { narFileName } from '../../nar/compression.ts';
import { printCoverage } from '../../parts/coverage.ts';
import { openDirectoryStore, storedFilePath } from '../../store/directory-store.ts';
import { TorrentHasher } from '../../swarm/torrent/torrent.ts';
import { parseTorrentFile } from '../../swarm/torrent/torrent-file.ts';
import { type Built, CacheBuilder, sha256 } from '../helpers/cache-builder.ts';
import { until } from '../helpers/program.ts';
import { TestPeer } from '../helpers/test-peer.ts';
import { catalogKey, MirrorLab } from './lab.ts';

const KiB = 1024;
const holds = (mirror: Mirror, nars: number) => async () => mirror.status().held.files === nars;
const nameOf = ({ narFile }: Built): string => narFileName(sha256(narFile), 'none');
const fileIn = (lab: MirrorLab, mirror: string, built: Built): string =>
  storedFilePath(join(lab.dir, mirror, 'nar-files'), nameOf(built));
const get = async (url: string) => {
  const answer = await fetch(url);
  return { status: answer.status, bytes: Buffer.from(await answer.arrayBuffer()) };
};
const hasAll = async (mirror: Mirror, built: readonly Built[]): Promise<boolean> => {
  const found = await Promise.all(built.map((each) => get(`${mirror.url}/nar/${nameOf(each)}`)));
  return found.every(({ bytes }, index) => bytes.equals(built[index]?.narFile ?? Buffer.alloc(0)));
};

/** Changes bytes of a held file as a disk does: its size and time stay. */
async function spoil(path: string, sameTime: boolean): Promise<void> {
  const { mtimeNs } = await stat(path, { bigint: true });
  const file = await open(path, 'r+');
  await file.write(Buffer.from('spoilt'), 0, 6, 50_000);
  await file.close();
  // Dates have microseconds at most: `touch` has all of it.
  if (sameTime)
    execFileSync('touch', [
      '-m',
      '-d',
      `@${mtimeNs / 10n ** 9n}.${`${mtimeNs % 10n ** 9n}`.padStart(9, '0')}`,
      path,
    ]);
}

t.test('mirrors of one seeder', async (t) => {
  const lab = await MirrorLab.open(t);
  const chain = await lab.chain('a', 3, 100 * KiB);
  const strange = await lab.cache.add({ name: 'strange', values: { url: 'some/where?file=1' } });
  const seeder = await lab.seeder();
  const [leaf, root] = chain as [Built, Built];
  const select = [`closure:${root.storePath}`];

  await t.test('a mirror is a whole substituter and catalog of what it holds', async (t) => {
    const mirror = await lab.mirror('m', [seeder.url]);
    await until(holds(mirror, 4));
    await until(async () => seeder.status().coverage.mirrors[0]?.nars === 4);
    for (const built of [...chain, strange]) {
      const narInfo = await get(`${mirror.url}/${built.narInfoName}`);
      t.equal(narInfo.bytes.toString(), built.narInfo.text, 'verbatim');
      const nar = await fetch(`${mirror.url}/${built.narInfo.url}`, { headers: { range: 'bytes=10-19' } });
      t.equal(nar.status, 206);
      t.ok(Buffer.from(await nar.arrayBuffer()).equals(built.narFile.subarray(10, 20)));
    }
    const [first] = chain;
    const fileHash = sha256(first?.narFile ?? Buffer.alloc(0));
    for (const path of [
      'nix-cache-info',
      'healthz',
      'metrics',
      '',
      `${fileHash}.torrentinfo`,
      'catalog/head',
    ]) {
      t.equal((await get(`${mirror.url}/${path}`)).status, 200, path);
    }
    t.equal((await get(`${mirror.url}/of/catalog-1/catalog/head`)).status, 200);
    t.equal((await get(`${mirror.url}/of/another/catalog/head`)).status, 404);
    const answer = await fetch(`${mirror.url}/resolve`, {
      method: 'POST',
      body: JSON.stringify({ fileHashes: [fileHash, sha256(Buffer.from('x'))] }),
    });
    const lines = (await answer.text()).trim().split('\n');
    t.equal(lines.length, 1);
    const line = JSON.parse(lines[0] ?? '');
    t.same(line.peers, [mirror.peersAddress]);
    const infoHash = createHash('sha1').update(Buffer.from(line.info, 'base64')).digest('hex');
    const torrent = parseTorrentFile((await get(`${mirror.url}/${infoHash}.torrent`)).bytes);
    t.equal(torrent.infoHash, infoHash);
    t.match(mirror.status(), {
      role: 'mirror',
      catalog: { nars: 4 },
      ingest: { pending: 0 },
      fetching: { state: 'idle' },
    });
  });

  await t.test('what the disk spoils is taken out at once and fetched again', async (t) => {
    const path = fileIn(lab, 'spoilt', leaf);
    let mirror = await lab.mirror('spoilt', [seeder.url], { select });
    await until(holds(mirror, 2));
    await mirror.close();
    await spoil(path, false);
    mirror = await lab.mirror('spoilt', [seeder.url], { select });
    await until(async () => mirror.status().held.gone.damaged === 1 && mirror.status().held.files === 2);
    t.ok(await hasAll(mirror, [leaf, root]), 'seen by its time at start');
    await mirror.close();

    await rm(path);
    mirror = await lab.mirror('spoilt', [seeder.url], { select });
    await until(async () => mirror.status().held.gone.lost === 1 && mirror.status().held.files === 2);
    t.ok(await hasAll(mirror, [leaf, root]), 'one that is gone as well');
    await mirror.close();

    mirror = await lab.mirror('spoilt', [seeder.url], { select, verifyEveryMs: 1 });
    await spoil(path, true);
    await until(
      async () => mirror.status().verification.damagedFiles > 0 && mirror.status().held.files === 2,
    );
    t.ok(await hasAll(mirror, [leaf, root]), 'and by reading it when nothing else shows');
    t.ok(mirror.log.some(({ event }) => event === 'held-file-damaged'));
  });

  await t.test(
    'what comes back from a backup with another time is verified, not fetched again',
    async (t) => {
      let mirror = await lab.mirror('backup', [seeder.url], { select });
      await until(holds(mirror, 2));
      await mirror.close();
      await utimes(fileIn(lab, 'backup', leaf), 1_700_000_000, 1_700_000_000);
      mirror = await lab.mirror('backup', [seeder.url], { select });
      await until(async () => mirror.log.some(({ event }) => event === 'found-file-kept'));
      t.match(mirror.status().held, { files: 2, unverified: 0, gone: { damaged: 0, lost: 0 } });
      t.equal(mirror.status().fetching.bytes.swarm, 0);
      t.ok(await hasAll(mirror, [leaf, root]));
    },
  );

  await t.test('in metered hours nothing is fetched or offered; afterwards it is', async (t) => {
    const schedules = [{ cron: '* * * * *', bytesPerSecond: 0 }];
    const metered = await lab.mirror('metered', [seeder.url], { select, schedules });
    await until(async () => metered.status().plan.plans > 0 && metered.status().fetching.state === 'paused');
    t.equal(metered.status().held.files, 0);
    const { mirrors } = seeder.status().coverage;
    t.notOk(mirrors.some(({ peers }) => peers === metered.peersAddress));
    await metered.close();
    const free = await lab.mirror('metered', [seeder.url], { select });
    await until(holds(free, 2));
  });

  await t.test(
    'a file that was not yet verified when the mirror was killed is verified and kept; any other goes',
    async (t) => {
      const store = await openDirectoryStore(join(lab.dir, 'found', 'nar-files'));
      const put = async (name: string, bytes: Buffer): Promise<void> => {
        const writer = await store.create(name);
        await writer.write(bytes);
        await writer.commit();
      };
      await put(nameOf(leaf), leaf.narFile);
      await put(nameOf(root), Buffer.alloc(1_000));
      await put(narFileName(sha256(Buffer.from('strange')), 'none'), Buffer.from('strange'));
      await store.close();
      const mirror = await lab.mirror('found', [seeder.url], { select });
      await until(holds(mirror, 2));
      t.ok(await hasAll(mirror, [leaf, root]));
      await until(async () => mirror.status().held.unverified === 0);
      t.equal(
        mirror.status().fetching.bytes.swarm,
        root.narFile.length,
        'what was there is not fetched again',
      );
      t.equal(mirror.status().quota.heldBytes, leaf.narFile.length + root.narFile.length);
    },
  );

  await t.test(
    'a file that was half fetched when the mirror was killed is gone on with where it is right',
    async (t) => {
      const tmp = join(lab.dir, 'half', 'nar-files', 'tmp');
      await mkdir(tmp, { recursive: true });
      // A piece and a half, and then something else; of the other one nothing is right.
      const half = Buffer.concat([root.narFile.subarray(0, 90_000), Buffer.alloc(10_000, 'x')]);
      await writeFile(join(tmp, `3-${nameOf(root)}`), half);
      await writeFile(join(tmp, `left-${nameOf(leaf)}`), Buffer.alloc(200_000, 'x'));
      const mirror = await lab.mirror('half', [seeder.url], { select });
      await until(holds(mirror, 2));
      t.ok(await hasAll(mirror, [leaf, root]));
      t.equal(
        mirror.status().fetching.bytes.swarm,
        root.narFile.length + leaf.narFile.length - 65_536,
        'the piece that was right is not fetched again',
      );
      t.same(await readdir(tmp), []);
      t.match(mirror.status().quota, {
        heldBytes: root.narFile.length + leaf.narFile.length,
        reservedBytes: 0,
      });
    },
  );

  await t.test('a narinfo is answered only with all that it needs', async (t) => {
    const mirror = await lab.mirror('whole', [seeder.url], { select });
    await until(holds(mirror, 2));
    t.equal((await get(`${mirror.url}/${root.narInfoName}`)).status, 200);
    await seeder.close();
    await rm(fileIn(lab, 'whole', leaf));
    t.equal((await get(`${mirror.url}/nar/${nameOf(leaf)}`)).status, 404, 'found missing as it is asked for');
    t.equal((await get(`${mirror.url}/${root.narInfoName}`)).status, 404);
    t.equal((await get(`${mirror.url}/nar/${nameOf(root)}`)).status, 200, 'its own NAR file is there');
  });
});

t.test('a second mirror follows the first, also when it lost its disk and the seeder is gone', async (t) => {
  const lab = await MirrorLab.open(t);
  const chain = await lab.chain('a', 4, 50 * KiB);
  const seeder = await lab.seeder();
  const first = await lab.mirror('first', [seeder.url]);
  await until(holds(first, 4));
  await seeder.close();
  const catalogs = [seeder.url, first.url];
  const second = await lab.mirror('second', catalogs);
  await until(holds(second, 4));
  await until(async () => first.status().mirrors[0]?.mirrors[0]?.nars === 4);
  t.ok(await hasAll(second, chain));
  await second.close();
  await rm(join(lab.dir, 'second'), { recursive: true });
  const again = await lab.mirror('second', catalogs);
  await until(holds(again, 4));
  t.ok(await hasAll(again, chain));
});

t.test(
  'small NAR files that lie together in a pack come over one connection, and only those that are missing',
  async (t) => {
    const lab = await MirrorLab.open(t);
    const chain = await lab.chain('a', 12, 20 * KiB);
    const seeder = await lab.seeder({ packs: { ageMs: 0 } });
    await seeder.closePacks();
    await seeder.publish();
    const some = chain.slice(0, 3).map(({ storePath }) => `closure:${storePath}`);
    const before = await lab.mirror('m', [seeder.url], { select: some });
    await until(holds(before, 3));
    const { bytes } = before.status().fetching;
    await before.close();
    const mirror = await lab.mirror('m', [seeder.url]);
    await until(holds(mirror, 12));
    t.ok(await hasAll(mirror, chain));
    t.equal(mirror.status().fetching.fetchedInPacks, 9);
    const all = chain.reduce((sum, { narFile }) => sum + narFile.length, 0);
    t.equal(bytes.swarm + mirror.status().fetching.bytes.swarm, all, 'each of them once');
    await until(async () => mirror.status().packs.seeded === 1);
    await until(async () => seeder.status().tracker.torrents === 3);
    await seeder.close();
    const second = await lab.mirror('second', [mirror.url]);
    await until(holds(second, 12));
    t.ok(await hasAll(second, chain));
    t.equal(second.status().fetching.fetchedInPacks, 12, 'from the pack that the first one has made again');
    await until(async () => second.status().packs.seeded === 1);
    await second.close();
    const again = await lab.mirror('second', [mirror.url]);
    await until(async () => again.status().packs.seeded === 1);
    t.notOk(
      again.log.some(({ event }) => event === 'pack-seeded'),
      'it is not made anew at each start',
    );
    await rm(fileIn(lab, 'second', chain[5] as Built));
    t.equal((await get(`${again.url}/nar/${nameOf(chain[5] as Built)}`)).status, 404);
    await until(async () => again.status().held.files === 12 && again.status().packs.seeded === 1);
  },
);

/** Half a file: databases and their logs may have grown or shrunk by that, and as many files still fit. */
const quotaFileBytes = 900 * KiB;
const quotaSpareBytes = 450 * KiB;

t.test(
  'a smaller quota: what others have goes, and last copies only when nothing else is left',
  async (t) => {
    const lab = await MirrorLab.open(t);
    const bytes = quotaFileBytes;
    const all: Built[] = [];
    for (let index = 0; index < 8; index++) all.push(...(await lab.chain(`p${index}`, 1, bytes)));
    const seeder = await lab.seeder();
    const a = await lab.mirror('a', [seeder.url]);
    const shared = all.slice(2, 6);
    const select = shared.map(({ storePath }) => `closure:${storePath}`);
    const b = await lab.mirror('b', [seeder.url], { select });
    await Promise.all([until(holds(a, 8)), until(holds(b, 4))]);
    const other = a.status().quota.otherBytes;
    await a.close();
    await seeder.close();

    const quotaOf = (files: number): number => other + files * (bytes + 1 * KiB) + quotaSpareBytes;
    const smaller = await lab.mirror('a', [seeder.url, b.url], { quotaBytes: quotaOf(5) });
    await until(holds(smaller, 5));
    const kept = await Promise.all(all.map((each) => hasAll(smaller, [each])));
    t.same(kept.slice(0, 2), [true, true]);
    t.same(kept.slice(6), [true, true], 'what nobody else has stays');
    t.equal(kept.slice(2, 6).filter(Boolean).length, 1);
    t.notOk(smaller.log.some(({ event }) => event === 'evicting-last-copy'));
    const { quota, plan } = smaller.status();
    t.ok(quota.heldBytes + quota.otherBytes + quota.reservedBytes <= quota.quotaBytes);
    t.ok(plan.keptLastCopies.files > 0, 'and that it is kept for that alone is said');
    await smaller.close();

    const least = await lab.mirror('a', [seeder.url, b.url], { quotaBytes: quotaOf(2) });
    await until(holds(least, 2));
    t.equal(least.log.filter(({ event }) => event === 'evicting-last-copy').length, 2);
    t.equal(least.status().plan.evictedLastCopies, 2);
  },
);

t.test('what others are said to have is tried before it goes', async (t) => {
  const lab = await MirrorLab.open(t);
  const bytes = quotaFileBytes;
  const all: Built[] = [];
  for (let index = 0; index < 3; index++) all.push(...(await lab.chain(`p${index}`, 1, bytes)));
  const [a, b, c] = all as [Built, Built, Built];
  const seeder = await lab.seeder();
  const closureOf = ({ storePath }: Built): string => `closure:${storePath}`;
  const before = await lab.mirror('m', [seeder.url], { select: [a, b].map(closureOf) });
  await until(holds(before, 2));
  const quotaBytes = before.status().quota.otherBytes + 2 * (bytes + KiB) + quotaSpareBytes;
  await before.close();
  // The cloud was cleared; what the seeder has in its catalog it says that it has.
  await seeder.close();
  for (const { narInfo } of [a, b]) await rm(lab.cache.path(narInfo.url));
  const again = await lab.seeder();
  const mirror = await lab.mirror('m', [again.url], { select: [closureOf(c)], quotaBytes });
  await until(async () => mirror.log.some(({ event }) => event === 'copies-not-found'));
  await until(async () => mirror.status().plan.keptLastCopies.files === 2);
  t.ok(await hasAll(mirror, [a, b]), 'the last copies stay');
  t.equal(mirror.status().held.gone.evicted, 0);
});

t.test('several catalogs with different keys', async (t) => {
  const lab = await MirrorLab.open(t);
  const own = await lab.chain('a', 2, 20 * KiB);
  const seeder = await lab.seeder();
  const company = await new CacheBuilder(join(lab.dir, 'company'), catalogKey('company.test-1')).open();
  const theirs = await lab.chain('c', 2, 20 * KiB, company);
  const key = catalogKey('company-catalog-1');
  const other = await lab.seeder({
    dataDir: join(lab.dir, 'company-seeder'),
    sources: [company.url],
    trustedKeys: [company.publicKey],
    secretKey: key,
  });
  const catalogKeys = [[catalogKey('catalog-1').publicKey], [key.publicKey]];
  const trustedKeys = [lab.cache.publicKey, company.publicKey];
  const mirror = await lab.mirror('m', [seeder.url, other.url], { catalogKeys, trustedKeys });
  await until(holds(mirror, 4));
  t.ok(await hasAll(mirror, [...own, ...theirs]));
  await until(async () => other.status().coverage.mirrors[0]?.nars === 2);
  await Promise.all([seeder.close(), other.close()]);
  // Of the second catalog alone, from the mirror of both.
  const second = await lab.mirror('second', [`${mirror.url}/of/company-catalog-1`], {
    catalogKeys: [[key.publicKey]],
    trustedKeys,
  });
  await until(holds(second, 2));
  t.ok(await hasAll(second, theirs));

  const strict = await lab.mirror('strict', [mirror.url], { trustedKeys: [company.publicKey] });
  await until(async () => strict.status().fetching.refused === 2);
  t.equal(strict.status().held.files, 0, 'what no trusted key signed is not kept');
});

t.test('a liar is found out: it is not named, and its bytes are not kept', async (t) => {
  const lab = await MirrorLab.open(t);
  const [only] = (await lab.chain('a', 1, 100 * KiB)) as [Built];
  const seeder = await lab.seeder();
  const hasher = new TorrentHasher(only.narFile.length);
  hasher.write(only.narFile);
  const torrent = hasher.finish(nameOf(only));
  const liar = await TestPeer.open(t, {
    torrent,
    bytes: only.narFile,
    answer: (_, right) => Buffer.alloc(right.length, 1),
  });
  const held = new Bitmap(1, Uint8Array.of(1));
  const base = { ordinals: 1, byOrdinal: () => sha256(only.narFile) };
  const told = await fetch(`${seeder.url}/coverage`, {
    method: 'POST',
    body: await printCoverage({ port: liar.port, held }, base),
  });
  t.equal(told.status, 200);
  await until(async () => seeder.status().coverage.failedTrials === 1);
  t.same(seeder.status().coverage.mirrors, []);

  // A catalog server that names nobody but the liar, and says that hundreds have everything.
  const server = createServer(async (request, response) => {
    const answer = await fetch(`${seeder.url}${request.url}`, {
      method: request.method ?? 'GET',
      ...(request.method === 'POST' ? { body: Readable.toWeb(request), duplex: 'half' } : {}),
    } as RequestInit);
    const text = Buffer.from(await answer.arrayBuffer());
    response.statusCode = answer.status;
    if (request.url !== '/resolve') return void response.end(text);
    response.end(`${JSON.stringify({ ...JSON.parse(text.toString()), peers: [liar.key] })}\n`);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const lied = `http://127.0.0.1:${port}`;
  const fooled = await lab.mirror('fooled', [lied]);
  await until(async () => fooled.status().fetching.failures > 0);
  t.equal(fooled.status().held.files, 0);
  t.ok(liar.requests.length > 0);
  const wiser = await lab.mirror('wiser', [lied, seeder.url]);
  await until(holds(wiser, 1));
  t.ok(await hasAll(wiser, [only]));
});

t.test('what is revoked goes at once, from everywhere', async (t) => {
  const lab = await MirrorLab.open(t);
  const [leaf, root] = (await lab.chain('a', 2, 50 * KiB)) as [Built, Built];
  const seeder = await lab.seeder();
  const first = await lab.mirror('first', [seeder.url]);
  const second = await lab.mirror('second', [first.url]);
  await until(holds(second, 2));
  // As `narswarm revoke` does beside a running seeder.
  const catalog = openCatalog(join(lab.dir, 'seeder', 'catalog.sqlite'));
  catalog.revoke(sha256(leaf.narFile), { time: Math.floor(Date.now() / 1000), reason: 'spoilt' });
  await catalog.close();
  for (const mirror of [first, second]) {
    await until(async () => mirror.status().held.gone.revoked === 1);
    t.equal((await get(`${mirror.url}/nar/${nameOf(leaf)}`)).status, 404);
    t.equal((await get(`${mirror.url}/${leaf.narInfoName}`)).status, 404);
    t.equal((await get(`${mirror.url}/nar/${nameOf(root)}`)).status, 200, 'what needs it is not at fault');
    await until(async () => mirror.status().plan.wantedFiles === 1);
  }
  t.notOk(existsSync(fileIn(lab, 'second', leaf)));
});
