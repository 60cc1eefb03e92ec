import { writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Catalog, openCatalog } from '../../catalog/catalog.ts';
import { openDatabase } from '../../catalog/database.ts';
import { CatalogFiles } from '../../catalog/files.ts';
import { type CatalogTransport, followCatalog, readView } from '../../catalog/follow.ts';
import { openFollowed } from '../../catalog/followed.ts';
import { segmentsToFuse } from '../../catalog/fusion.ts';
import { parseHead, revocationsView, verifyHead } from '../../catalog/head.ts';
import { CatalogLog } from '../../catalog/log.ts';
import { segmentLimits } from '../../catalog/segment.ts';
import { secretKeyFromSeed } from '../../nar/signature.ts';
import { storeHashOf } from '../../nar/store-path.ts';
import { type PublishOptions, publish, retiredKeepMs } from '../../seeder/publish.ts';
import { narInfoName, row, source } from '../catalog/made-rows.ts';

const key = secretKeyFromSeed('seeder.example-1', Buffer.alloc(32, 1));
const nextKey = secretKeyFromSeed('seeder.example-2', Buffer.alloc(32, 2));
const startMs = 1_800_000_000_000;
const hourMs = 3_600_000;
const nixStoreDir = '/nix/store';

interface Lab {
  catalog: Catalog;
  files: CatalogFiles;
  transport: CatalogTransport;
  publish(nowMs?: number, more?: Partial<PublishOptions>): ReturnType<typeof publish>;
  head(): Promise<ReturnType<typeof parseHead>>;
}

async function lab(t: Test): Promise<Lab> {
  const dir = t.testdir();
  const path = join(dir, 'catalog.sqlite');
  const catalog = openCatalog(path);
  // The publisher has a connection of its own, as on its thread.
  const db = openDatabase(path, { checkpoints: 'elsewhere' });
  t.teardown(() => {
    catalog.close();
    db.close();
  });
  const log = new CatalogLog(db);
  const files = await CatalogFiles.open(join(dir, 'catalog'));
  const head = async () => parseHead((await files.head()) ?? '');
  return {
    catalog,
    files,
    head,
    publish: (nowMs = startMs, more = {}) =>
      publish({
        ...{ log, files, nixStoreDir, nowMs, lifetimeMs: 168 * hourMs, secretKeys: [key] },
        isGentle: () => false,
        durably: (action) => action(),
        ...more,
      }),
    transport: {
      fetchHead: async () => ({ text: (await files.head()) ?? '' }),
      async *fetchFile({ sha256 }) {
        const file = await files.open(sha256);
        if (file === undefined) throw new Error('no file');
        yield await file.read(0, file.sizeBytes);
        await file.close();
      },
    },
  };
}

async function follow(t: Test, { transport }: Lab, nowMs = startMs) {
  const followed = openFollowed(join(t.testdirName, `followed-${Math.random()}.sqlite`));
  t.teardown(() => followed.close());
  await followCatalog(followed, transport, { keys: [key.publicKey], nixStoreDir, now: () => nowMs });
  return followed;
}

t.test('what is accepted is published once, and followers find it', async (t) => {
  const { catalog, ...rest } = await lab(t);
  const all = { catalog, ...rest };
  for (let n = 1; n <= 5; n++) catalog.accept(row(n));
  catalog.acceptAlias({
    ...row(6, { path: 6 }),
    fileHash: row(1).entry.fileHash,
    narInfo: row(1, { path: 6 }).narInfo,
  });
  t.match(await all.publish(), { sequence: 1, newRecords: 11, unreadable: 0 });
  const head = await all.head();
  t.equal(verifyHead(head, [key.publicKey]), key.name);
  t.equal(head.records, 11);
  const followed = await follow(t, all);
  for (let n = 1; n <= 5; n++) {
    const { fileHash } = row(n).entry;
    t.equal(followed.ordinal(fileHash), n - 1);
    t.equal(catalog.log.ordinal(fileHash), n - 1);
    t.equal(catalog.log.byOrdinal(n - 1), fileHash);
    t.equal(followed.narInfo(storeHashOf(row(n).narInfo.storePath))?.text, row(n).narInfo.text);
  }
  t.equal(followed.storeHashesOf(row(1).entry.fileHash).length, 2);
  t.notOk(catalog.log.hasPending());

  catalog.accept(row(3));
  catalog.accept({ ...row(4), fingerprint: 'another' });
  t.match(await all.publish(), { newRecords: 0 }, 'what says nothing new is no record');
  t.equal((await all.head()).sequence, 1);
  catalog.accept({ ...row(4), entry: { ...row(4).entry, sigs: ['seeder-2:AAAA'] } });
  catalog.accept(row(7));
  t.match(await all.publish(), { sequence: 2, newRecords: 3 });
  t.equal(catalog.log.ordinal(row(4).entry.fileHash), 3, 'it keeps its number');
  t.equal(catalog.log.ordinal(row(7).entry.fileHash), 6, 'which nobody else gets');
  const later = await follow(t, all);
  t.equal(later.ordinal(row(7).entry.fileHash), 6);
  t.equal(later.ordinals, catalog.log.ordinals);
});

t.test('what goes and comes back is not published again', async (t) => {
  const all = await lab(t);
  const { catalog } = all;
  catalog.accept(row(1));
  await all.publish();
  catalog.forget(source, narInfoName(1));
  t.equal(catalog.counts().nars, 0);
  t.match(await all.publish(), { newRecords: 0 });
  catalog.accept(row(1));
  t.match(await all.publish(), { newRecords: 0 });
  catalog.accept(row(2));
  catalog.forget(source, narInfoName(2));
  t.match(await all.publish(), { newRecords: 0 }, 'nor what was never there for anybody');
});

t.test('the narinfo that takes the place of one that went is published', async (t) => {
  const all = await lab(t);
  const { catalog } = all;
  const other = row(1, { source: 'file:///srv/other', url: 'elsewhere.nar.xz' });
  catalog.accept(row(1));
  catalog.accept(other);
  await all.publish();
  const { storePath } = row(1).narInfo;
  const before = await follow(t, all);
  t.equal(before.narInfo(storeHashOf(storePath))?.text, row(1).narInfo.text);
  catalog.forget(source, narInfoName(1));
  t.match(await all.publish(), { newRecords: 1 });
  const after = await follow(t, all);
  t.equal(after.narInfo(storeHashOf(storePath))?.text, other.narInfo.text);
});

t.test('a revoked NAR file is called back, and never accepted again', async (t) => {
  const all = await lab(t);
  const { catalog } = all;
  const { entry, narInfo } = row(1);
  catalog.accept(row(1));
  catalog.accept(row(2));
  await all.publish();
  const revocation = { time: 1_800_000_100, reason: 'another package’s NAR' };
  t.equal(catalog.revoke(entry.fileHash, revocation), true);
  t.equal(catalog.revoke(entry.fileHash, revocation), false);
  t.equal(catalog.byFileHash(entry.fileHash), undefined);
  t.equal(catalog.hasInfoHash(entry.infoHash), false);
  t.equal(catalog.pieces(entry.infoHash), undefined);
  t.equal(catalog.narInfo(storeHashOf(narInfo.storePath)), undefined);
  t.match(catalog.known(source, narInfoName(1)), { state: 'refused', fingerprint: row(1).fingerprint });
  t.throws(() => catalog.accept(row(1)), { code: 'revoked' });
  t.match(catalog.counts(), { nars: 1, narinfos: 1, rejectedByCode: { revoked: 1 } });
  t.match(await all.publish(), { newRecords: 1 });
  const followed = await follow(t, all);
  t.strictSame(followed.revoked(entry.fileHash), revocation);
  t.equal(followed.ordinal(entry.fileHash), undefined);
  t.equal(followed.ordinal(row(2).entry.fileHash), 1);

  // For those who do not follow the log there is a view of all revocations, made again after each.
  const readRevocations = async () => {
    const view = (await all.head()).views.find(({ name }) => name === revocationsView);
    const into = openFollowed(join(t.testdirName, `view-${Math.random()}.sqlite`));
    t.teardown(() => into.close());
    if (view !== undefined) await readView(into, all.transport, view, { nixStoreDir });
    return into.revocations(undefined, 10).map(({ fileHash }) => fileHash);
  };
  t.strictSame(await readRevocations(), [entry.fileHash]);
  const { sequence } = await all.head();
  await all.publish();
  t.equal((await all.head()).sequence, sequence, 'nothing new');
  catalog.revoke(row(2).entry.fileHash, revocation);
  await all.publish();
  t.strictSame((await readRevocations()).sort(), [entry.fileHash, row(2).entry.fileHash].sort());
});

t.test('a head is renewed when a third of its time is over, or when its keys change', async (t) => {
  const all = await lab(t);
  all.catalog.accept(row(1));
  t.match(await all.publish(), { sequence: 1 });
  t.equal((await all.publish(startMs + 50 * hourMs)).sequence, undefined);
  t.match(await all.publish(startMs + 56 * hourMs), { sequence: 2, newRecords: 0 });
  t.equal((await all.head()).expires * 1000, startMs + (56 + 168) * hourMs);
  const nowMs = startMs + 57 * hourMs;
  t.match(await all.publish(nowMs, { secretKeys: [key, nextKey] }), { sequence: 3 });
  const head = await all.head();
  t.equal(verifyHead(head, [nextKey.publicKey]), nextKey.name);
  t.equal(verifyHead(head, [key.publicKey]), key.name);
  t.equal(head.keys.length, 2);
});

t.test('many small segments become one, and the old ones stay for a while', async (t) => {
  const all = await lab(t);
  const names = new Set<string>();
  for (let n = 1; n <= 66; n++) {
    all.catalog.accept(row(n));
    await all.publish(startMs + n * 60_000);
    for (const { sha256 } of (await all.head()).segments) names.add(sha256);
  }
  const head = await all.head();
  t.equal(head.segments.length, 2, 'the 65th publication fuses');
  t.equal(head.records, 132);
  t.equal((await all.files.list()).length, 67);
  t.equal((await follow(t, all)).ordinals, 66);
  await all.publish(startMs + 2 * retiredKeepMs);
  t.strictSame(new Set(await all.files.list()), new Set(head.segments.map(({ sha256 }) => sha256)));
  for (const { infoHash } of head.segments) t.ok(all.catalog.log.hasFileOfInfoHash(infoHash));
});

t.test('which segments are fused', async (t) => {
  const end = (counts: number[], bytes = 0) => {
    let records = 0;
    return counts.map((count) => {
      records += count;
      return { records, plainBytes: bytes };
    });
  };
  t.equal(segmentsToFuse([]), 0);
  t.equal(segmentsToFuse(end(Array(64).fill(10))), 0);
  t.equal(segmentsToFuse(end(Array(65).fill(10))), 65);
  t.equal(segmentsToFuse(end([segmentLimits.records, ...Array(65).fill(10)])), 65, 'full ones stay');
  t.equal(segmentsToFuse(end(Array(65).fill(10), segmentLimits.bytes)), 0, 'full in bytes');
  t.equal(segmentsToFuse(end(Array(80).fill(4000))), 0);
  t.equal(segmentsToFuse(end([...Array(16).fill(4000), ...Array(64).fill(10)])), 0);
  t.equal(segmentsToFuse(end([...Array(17).fill(4000), ...Array(64).fill(10)])), 81);
  t.equal(segmentsToFuse(end(Array(97).fill(20_000))), 97);
  t.equal(segmentsToFuse(end(Array(100).fill(40_000))), 0);
});

t.test('a publication that dies anywhere is made good by the next one', async (t) => {
  const all = await lab(t);
  const { catalog } = all;
  for (let n = 1; n <= 3; n++) catalog.accept(row(n));
  const dying = (at: number): Partial<PublishOptions> => {
    let calls = 0;
    return {
      durably(action) {
        if (++calls === at) throw new Error('killed');
        return action();
      },
    };
  };
  await t.rejects(all.publish(startMs, dying(1)), { message: 'killed' }, 'before its segment counts');
  t.equal(await all.files.head(), undefined);
  t.equal(catalog.log.records, 0);
  t.equal(catalog.log.ordinal(row(1).entry.fileHash), undefined);
  catalog.forget(source, narInfoName(1));
  await t.rejects(all.publish(startMs, dying(2)), { message: 'killed' }, 'before its head');
  t.equal(await all.files.head(), undefined);
  t.equal(catalog.log.records, 4);
  t.match(await all.publish(), { sequence: 1, newRecords: 0 });
  t.equal((await all.head()).records, 4);
  const followed = await follow(t, all);
  t.equal(followed.ordinal(row(2).entry.fileHash), 0);
  t.equal(followed.ordinal(row(1).entry.fileHash), undefined);
});

t.test('a database from a backup does not publish over what it forgot', async (t) => {
  const all = await lab(t);
  all.catalog.accept(row(1));
  await all.publish();
  const text = await all.files.head();
  all.catalog.accept(row(2));
  await all.publish();
  const later = (await all.files.head()) ?? '';
  const fresh = await lab(t);
  fresh.catalog.accept(row(1));
  await fresh.files.putHead(later);
  await t.rejects(fresh.publish(), { code: 'catalog-rollback' });
  t.equal(await fresh.files.head(), later);
  t.not(text, later);
});

t.test('a segment that was spoilt on the disk is not fused, and the head still comes', async (t) => {
  const all = await lab(t);
  for (let n = 1; n <= 64; n++) {
    all.catalog.accept(row(n));
    await all.publish();
  }
  const [first] = (await all.head()).segments;
  if (first === undefined) throw new Error('no segment');
  const path = all.files.path(first.sha256);
  await rm(path);
  writeFileSync(path, 'nonsense');
  all.catalog.accept(row(65));
  const { fusionFault, sequence } = await all.publish();
  t.ok(fusionFault);
  t.equal(sequence, 65);
});
