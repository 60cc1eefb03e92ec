import { DatabaseSync } from 'node:sqlite';
import t from 'tap';
import { type Catalog, openCatalog } from '../../catalog/catalog.ts';
import { catalogApplicationId } from '../../catalog/database.ts';
import { type PackPlace, packNarFileMaxBytes, packStatements } from '../../catalog/packs.ts';
import { migrations } from '../../catalog/schema.ts';
import { type InfoHash, infoHashFromDigest } from '../../nar/hash.ts';
import { row, source } from './made-rows.ts';

function infoHashOf(n: number): InfoHash {
  return infoHashFromDigest(Buffer.alloc(20, n));
}

function accept(catalog: Catalog, count: number): void {
  for (let n = 1; n <= count; n++) catalog.accept(row(n));
}

/** Where NAR files lie that follow each other from byte 100 on. */
function placesOf(...numbers: number[]): PackPlace[] {
  let offset = 100;
  return numbers.map((n) => {
    const { fileHash, fileSize } = row(n).entry;
    const place = { fileHash, offset, sizeBytes: fileSize };
    offset += fileSize;
    return place;
  });
}

/** Closes pack `n` of these NAR files. */
function pack(catalog: Catalog, n: number, places: PackPlace[]): InfoHash {
  begin(catalog, n, places);
  catalog.packs.putPlaces(infoHashOf(n), places);
  catalog.packs.complete(infoHashOf(n));
  return infoHashOf(n);
}

function begin(catalog: Catalog, n: number, places: PackPlace[]): void {
  const length = 100 + places.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const texts = { manifest: `manifest ${n}\n`, info: Buffer.from(`info ${n}`) };
  catalog.packs.put({
    infoHash: infoHashOf(n),
    length,
    metaBytes: 100,
    nars: places.length,
    closedMs: 1_000 + n,
    ...texts,
  });
}

t.test('what waits for a pack is counted as it comes and goes, up to 1 MiB', async (t) => {
  const catalog = openCatalog(':memory:');
  t.teardown(() => catalog.close());
  t.match(catalog.packs.counts().unpacked, { nars: 0, bytes: 0, oldestMs: undefined });
  const beforeMs = Date.now();
  accept(catalog, 3);
  const made = row(4);
  const sized = (n: number, fileSize: number) => {
    const { narInfo, entry, ...rest } = row(n);
    const { fileSize: _said, ...unsized } = narInfo;
    return { ...rest, narInfo: unsized, entry: { ...entry, fileSize } };
  };
  catalog.accept(sized(4, packNarFileMaxBytes));
  catalog.accept(sized(5, packNarFileMaxBytes + 1));
  const bytes = 501 + 502 + 503 + packNarFileMaxBytes;
  const { oldestMs = 0, ...counts } = catalog.packs.counts().unpacked;
  t.match(counts, { nars: 4, bytes });
  t.ok(oldestMs >= beforeMs - 1 && oldestMs <= Date.now(), `${oldestMs}`);
  catalog.accept(row(1));
  t.match(catalog.packs.counts().unpacked, { nars: 4 }, 'one that is accepted again is counted once');
  catalog.forget(source, made.narInfoName);
  t.match(catalog.packs.counts().unpacked, { nars: 3, bytes: 501 + 502 + 503 });
  t.match(catalog.counts(), { rejected: 0, rejectedByCode: {} }, 'and these are no refusals');
});

t.test('NAR files wait in the order in which they came, page by page', async (t) => {
  const catalog = openCatalog(':memory:');
  t.teardown(() => catalog.close());
  accept(catalog, 7);
  const [first, second] = catalog.packs.unpacked(undefined, 2);
  t.equal(second?.entry.fileHash, row(2).entry.fileHash);
  const rest = catalog.packs.unpacked(second, 100);
  t.same(
    rest.map(({ entry }) => entry.fileHash),
    [3, 4, 5, 6, 7].map((n) => row(n).entry.fileHash),
  );
  if (first === undefined || second === undefined) throw new Error('nothing waits');
  catalog.packs.putOff(first, Date.now() + 1000);
  t.equal(catalog.packs.unpacked(undefined, 100).at(-1)?.id, first.id, 'one that is put off waits anew');
  catalog.packs.leaveOut(second);
  t.notOk(catalog.packs.unpacked(undefined, 100).some(({ id }) => id === second.id));
  t.match(catalog.packs.counts().unpacked, { nars: 6 });
});

t.test('the narinfos of a NAR file are those that are served', async (t) => {
  const catalog = openCatalog(':memory:');
  t.teardown(() => catalog.close());
  accept(catalog, 2);
  catalog.acceptAlias({ ...row(1, { path: 9 }), fileHash: row(1).entry.fileHash });
  // Elsewhere, the second path has the first NAR file: the narinfo that was accepted first goes on being served.
  catalog.acceptAlias({ ...row(1, { path: 2, source: 'file:///b' }), fileHash: row(1).entry.fileHash });
  const [first] = catalog.packs.unpacked(undefined, 1);
  if (first === undefined) throw new Error('nothing waits');
  const texts = catalog.packs.narInfos(first, 10).map(({ text }) => text);
  t.same(texts.sort(), [row(1).narInfo.text, row(1, { path: 9 }).narInfo.text].sort());
  t.equal(catalog.packs.narInfos(first, 1).length, 1);
});

t.test('a pack is there once it is complete: by infohash, by NAR file, by byte', async (t) => {
  const catalog = openCatalog(':memory:');
  t.teardown(() => catalog.close());
  accept(catalog, 5);
  const places = placesOf(3, 1, 2);
  const [of3, of1, of2] = places as [PackPlace, PackPlace, PackPlace];
  begin(catalog, 1, places);
  catalog.packs.putPlaces(infoHashOf(1), places);
  t.same(catalog.packs.incomplete(), [infoHashOf(1)]);
  t.equal(catalog.packs.has(infoHashOf(1)), false);
  t.equal(catalog.packs.packOf(of3.fileHash), undefined);
  t.same(catalog.packs.list(undefined, 10), []);
  t.match(catalog.packs.counts(), { closed: 0, unpacked: { nars: 2 } });
  const { torrentChanges } = catalog;
  catalog.packs.complete(infoHashOf(1));
  t.equal(catalog.torrentChanges, torrentChanges + 1);
  const length = 100 + 501 + 502 + 503;
  t.same(catalog.packs.get(infoHashOf(1)), {
    infoHash: infoHashOf(1),
    length,
    metaBytes: 100,
    nars: 3,
    infoBytes: 6,
    closedMs: 1_001,
  });
  t.match(catalog.packs.counts(), { closed: 1, nars: 3, bytes: length, unpacked: { nars: 2 } });
  t.equal(catalog.packs.manifest(infoHashOf(1)), 'manifest 1\n');
  t.equal(catalog.packs.info(infoHashOf(1))?.toString(), 'info 1');
  t.same(catalog.packs.packOf(of1.fileHash), { infoHash: infoHashOf(1), offset: of1.offset });
  t.equal(catalog.packs.packOf(row(4).entry.fileHash), undefined);
  const files = (from: number, to: number, limit = 10) =>
    catalog.packs.filesFrom(infoHashOf(1), from, to, limit).map(({ offset }) => offset);
  t.same(files(0, length), [of3.offset, of1.offset, of2.offset]);
  t.same(files(0, length, 2), [of3.offset, of1.offset]);
  t.same(files(of1.offset, of1.offset + 1), [of1.offset]);
  t.same(files(of1.offset - 1, of1.offset), [of3.offset]);
  t.same(files(of1.offset + 5, of2.offset + 1), [of1.offset, of2.offset]);
  t.same(files(0, 100), [], 'before the NAR files lie the narinfos');
  t.match(catalog.packs.filesFrom(infoHashOf(1), 100, 101, 1), [{ ...of3, entry: row(3).entry }]);
});

t.test('a NAR file is in one pack at most, and stays in it when it goes and comes back', async (t) => {
  const catalog = openCatalog(':memory:');
  t.teardown(() => catalog.close());
  accept(catalog, 3);
  const [of1] = placesOf(1) as [PackPlace];
  pack(catalog, 1, placesOf(1, 2));
  pack(catalog, 2, placesOf(1, 3));
  t.equal(catalog.packs.packOf(of1.fileHash)?.infoHash, infoHashOf(1));
  t.equal(catalog.packs.filesFrom(infoHashOf(2), 0, 10_000, 10).length, 1);
  catalog.forget(source, row(1).narInfoName);
  t.equal(catalog.byFileHash(of1.fileHash), undefined);
  t.match(catalog.packs.filesFrom(infoHashOf(1), 100, 101, 1), [{ ...of1, entry: undefined }]);
  catalog.accept(row(1));
  t.match(catalog.packs.counts().unpacked, { nars: 0 }, 'it does not wait for another one');
  t.match(catalog.packs.filesFrom(infoHashOf(1), 100, 101, 1), [{ ...of1, entry: row(1).entry }]);
});

t.test('a pack that was never completed is forgotten, and its NAR files wait again', async (t) => {
  const catalog = openCatalog(':memory:');
  t.teardown(() => catalog.close());
  accept(catalog, 3);
  begin(catalog, 1, placesOf(1, 2));
  catalog.packs.putPlaces(infoHashOf(1), placesOf(1, 2));
  catalog.packs.drop(infoHashOf(1), 77);
  t.match(catalog.packs.counts(), { closed: 0, unpacked: { nars: 3, oldestMs: 77 } });
  t.same(catalog.packs.incomplete(), []);
  pack(catalog, 1, placesOf(1, 2));
  t.throws(() => catalog.packs.drop(infoHashOf(1), 77), { code: 'catalog-corrupt' });
});

t.test('packs are listed by infohash and by age; what is uploaded of them is kept', async (t) => {
  const catalog = openCatalog(':memory:');
  t.teardown(() => catalog.close());
  accept(catalog, 3);
  for (const [index, n] of [7, 3, 5].entries()) pack(catalog, n, placesOf(index + 1));
  t.same(catalog.packs.list(undefined, 2), [infoHashOf(3), infoHashOf(5)]);
  t.same(catalog.packs.list(infoHashOf(5), 2), [infoHashOf(7)]);
  t.same(
    catalog.packs.newest(2).map(({ infoHash }) => infoHash),
    [infoHashOf(5), infoHashOf(3)],
  );
  const upload = { capped: true, uploadedBytes: 9, roundBytes: 9, lonelySinceMs: undefined };
  catalog.putUploads([[infoHashOf(3), upload]]);
  t.same(catalog.upload(infoHashOf(3)), upload);
});

t.test('a catalog from before packs: its small NAR files wait from now on', async (t) => {
  const path = `${t.testdir()}/catalog.sqlite`;
  const db = new DatabaseSync(path);
  const before = migrations.findIndex((sql) => sql.includes('CREATE TABLE pack ('));
  for (const sql of migrations.slice(0, before)) db.exec(sql);
  db.exec(`PRAGMA application_id = ${catalogApplicationId}; PRAGMA user_version = ${before}`);
  for (const size of [5, packNarFileMaxBytes, packNarFileMaxBytes + 1]) {
    db.exec(`INSERT INTO nar_file (file_hash, file_size, compression, nar_hash, nar_size, info_hash, nar_info_hash, sigs)
      VALUES (randomblob(32), ${size}, 'xz', randomblob(32), 1, randomblob(20), randomblob(20), '')`);
  }
  db.close();
  const catalog = openCatalog(path);
  t.match(catalog.packs.counts().unpacked, { nars: 2, bytes: 5 + packNarFileMaxBytes });
  catalog.close();
});

t.test('no lookup reads a whole table that grows with the NAR files', async (t) => {
  const path = `${t.testdir()}/catalog.sqlite`;
  openCatalog(path).close();
  const db = new DatabaseSync(path);
  t.teardown(() => db.close());
  for (const [name, sql] of Object.entries(packStatements)) {
    const plan = db.prepare(`EXPLAIN QUERY PLAN ${sql}`).all();
    for (const { detail } of plan) {
      const scanned = /^SCAN (\w+)/.exec(String(detail))?.[1];
      // `counter` has a row for each count; a thousand packs hold a quarter of a terabyte.
      t.ok([undefined, 'counter', 'pack', 'p', 'CONSTANT'].includes(scanned), `${name}: ${detail}`);
    }
  }
});
