import { DatabaseSync } from 'node:sqlite';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { type Catalog, openCatalog, refusalMessageMax } from '../../catalog/catalog.ts';
import { parseStoreHash } from '../../nar/store-path.ts';
import { hashOf, narInfoName, row, source, storeHashText } from './made-rows.ts';

const otherSource = 'https://cache.example';

function open(t: Test): Catalog {
  const catalog = openCatalog(':memory:');
  t.teardown(() => catalog.close());
  return catalog;
}

function refusal(n: number, fingerprint = `fingerprint ${n}`) {
  const key = { source, narInfoName: narInfoName(n), fingerprint };
  return { ...key, code: 'nar-hash-mismatch', message: 'NarHash is wrong' } as const;
}

function narInfoOf(catalog: Catalog, n: number) {
  return catalog.narInfo(parseStoreHash(storeHashText(n)));
}

const nothing = {
  nars: 0,
  narinfos: 0,
  rejected: 0,
  rejectedByCode: {},
  bytes: 0,
  uploads: { swarming: 0, capped: 0 },
};

t.test('an accepted NAR file is found under every key', async (t) => {
  const catalog = open(t);
  const made = row(1);
  const { entry } = made;
  catalog.accept(made);
  t.strictSame(catalog.byFileHash(entry.fileHash), entry);
  t.strictSame(catalog.byInfoHash(entry.infoHash), { kind: 'file', entry });
  t.strictSame(catalog.byInfoHash(entry.narInfoHash), { kind: 'nar', entry });
  t.strictSame(catalog.byUrl(made.narInfo.url), entry);
  t.strictSame(catalog.pieces(entry.infoHash), made.filePieces);
  t.strictSame(catalog.pieces(entry.narInfoHash), made.narPieces);
  t.equal(narInfoOf(catalog, 1), made.narInfo.text);
  t.strictSame(catalog.known(source, made.narInfoName), { state: 'accepted', fingerprint: 'fingerprint 1' });
  t.ok(catalog.hasInfoHash(entry.infoHash) && catalog.hasInfoHash(entry.narInfoHash));
  t.strictSame(catalog.counts(), { ...nothing, nars: 1, narinfos: 1, bytes: entry.fileSize });
  t.strictSame(catalog.sources(), [source]);
});

t.test('what is not there is undefined', async (t) => {
  const catalog = open(t);
  const { entry, narInfo } = row(1);
  t.equal(catalog.byFileHash(entry.fileHash), undefined);
  t.equal(catalog.byInfoHash(entry.infoHash), undefined);
  t.equal(catalog.byUrl(narInfo.url), undefined);
  t.equal(catalog.pieces(entry.infoHash), undefined);
  t.equal(catalog.hasInfoHash(entry.infoHash), false);
  t.equal(narInfoOf(catalog, 1), undefined);
  t.equal(catalog.known(source, narInfoName(1)), undefined);
  t.strictSame(catalog.entries(undefined, 10), []);
  t.strictSame(catalog.refusals(10), []);
  t.strictSame(catalog.counts(), nothing);
  t.equal(catalog.upload(entry.infoHash), undefined);
  catalog.forget(source, narInfoName(1));
});

t.test('an uncompressed NAR file has one torrent, found as that of the file', async (t) => {
  const catalog = open(t);
  const made = row(1, { compression: 'none' });
  catalog.accept(made);
  t.equal(catalog.byInfoHash(made.entry.infoHash)?.kind, 'file');
  t.strictSame(catalog.pieces(made.entry.narInfoHash), made.filePieces);
});

t.test('two NAR files of one NAR share its torrent, which outlives either of them', async (t) => {
  const catalog = open(t);
  const xz = row(1);
  const zstd = row(2, { nar: 1, compression: 'zstd' });
  catalog.accept(xz);
  catalog.accept(zstd);
  const { narInfoHash } = xz.entry;
  t.strictSame(catalog.byInfoHash(narInfoHash), { kind: 'nar', entry: xz.entry });
  catalog.forget(source, xz.narInfoName);
  t.strictSame(catalog.byInfoHash(narInfoHash), { kind: 'nar', entry: zstd.entry });
  t.strictSame(catalog.pieces(narInfoHash), xz.narPieces);
  catalog.forget(source, zstd.narInfoName);
  t.equal(catalog.byInfoHash(narInfoHash), undefined);
  t.equal(catalog.pieces(narInfoHash), undefined);
});

t.test('two narinfos of one NAR file share it, and it goes with the last of them', async (t) => {
  const catalog = open(t);
  const first = row(1);
  const second = row(1, { path: 2, fingerprint: 'second' });
  catalog.accept(first);
  catalog.acceptAlias({ ...second, fileHash: first.entry.fileHash });
  t.match(catalog.counts(), { nars: 1, narinfos: 2, bytes: first.entry.fileSize });
  t.equal(narInfoOf(catalog, 2), second.narInfo.text);
  t.strictSame(catalog.known(source, second.narInfoName), { state: 'accepted', fingerprint: 'second' });
  catalog.forget(source, first.narInfoName);
  t.strictSame(catalog.byFileHash(first.entry.fileHash), first.entry, 'the same URL is the same file');
  catalog.forget(source, second.narInfoName);
  t.match(catalog.counts(), { nars: 0, narinfos: 0, bytes: 0 });
  t.equal(catalog.pieces(first.entry.infoHash), undefined);
});

t.test('nothing of a NAR file that went stays in the database', async (t) => {
  const path = `${t.testdir()}/catalog.sqlite`;
  const catalog = openCatalog(path);
  catalog.accept(row(1));
  catalog.accept(row(2, { path: 1, fingerprint: 'renewed' }));
  catalog.forget(source, narInfoName(1));
  catalog.close();
  const db = new DatabaseSync(path);
  for (const table of ['nar_file', 'piece_table', 'narinfo', 'refusal']) {
    t.strictSame({ ...db.prepare(`SELECT count(*) AS rows FROM ${table}`).get() }, { rows: 0 }, table);
  }
  db.close();
});

t.test('a narinfo whose NAR file was only seen elsewhere goes when that place goes', async (t) => {
  const catalog = open(t);
  const here = row(1);
  const there = row(1, { path: 2, source: otherSource });
  catalog.accept(here);
  catalog.acceptAlias({ ...there, fileHash: here.entry.fileHash });
  catalog.refuse(refusal(1, 'changed'));
  t.equal(catalog.byFileHash(here.entry.fileHash), undefined);
  t.equal(catalog.known(otherSource, there.narInfoName), undefined, 'it will be verified again');
  t.match(catalog.counts(), { nars: 0, narinfos: 0, rejected: 1 });
});

t.test('a NAR file verified in two places is served from the other when one goes', async (t) => {
  const catalog = open(t);
  const here = row(1);
  const there = row(1, { source: otherSource });
  catalog.accept(here);
  catalog.accept(there);
  t.strictSame(catalog.byFileHash(here.entry.fileHash)?.location, here.entry.location);
  catalog.forget(source, here.narInfoName);
  t.strictSame(catalog.byFileHash(here.entry.fileHash)?.location, there.entry.location);
  t.equal(narInfoOf(catalog, 1), there.narInfo.text);
});

t.test('of two sources with one store path, the narinfo accepted first is served', async (t) => {
  const catalog = open(t);
  const first = row(1, { url: 'nar/first.nar.xz' });
  const second = row(2, { path: 1, nar: 1, source: otherSource, compression: 'zstd' });
  catalog.accept(first);
  catalog.accept(second);
  t.equal(narInfoOf(catalog, 1), first.narInfo.text);
  t.equal(catalog.known(otherSource, second.narInfoName)?.state, 'accepted');
  catalog.refuse(refusal(1, 'changed'));
  t.equal(narInfoOf(catalog, 1), second.narInfo.text);
  t.strictSame(catalog.sources(), [source, otherSource]);
});

t.test(
  'a narinfo accepted again with another NAR file leaves the old one to those who still have it',
  async (t) => {
    const catalog = open(t);
    const old = row(1);
    const other = row(1, { path: 7 });
    const renewed = row(2, { path: 1, fingerprint: 'renewed' });
    catalog.accept(old);
    catalog.acceptAlias({ ...other, fileHash: old.entry.fileHash });
    catalog.accept(renewed);
    t.equal(narInfoOf(catalog, 1), renewed.narInfo.text);
    t.match(catalog.counts(), { nars: 2, narinfos: 2 });
    catalog.forget(source, other.narInfoName);
    t.equal(catalog.byFileHash(old.entry.fileHash), undefined);
    t.match(catalog.counts(), { nars: 1, narinfos: 1, bytes: renewed.entry.fileSize });
  },
);

t.test('a NAR file accepted again takes the new signatures', async (t) => {
  const catalog = open(t);
  const made = row(1);
  catalog.accept(made);
  catalog.accept({ ...made, entry: { ...made.entry, sigs: ['new-1:x', 'new-2:y'] } });
  t.strictSame(catalog.byFileHash(made.entry.fileHash)?.sigs, ['new-1:x', 'new-2:y']);
  t.match(catalog.counts(), { nars: 1, narinfos: 1, bytes: made.entry.fileSize });
});

t.test('a refusal is kept with its reason until the narinfo is accepted', async (t) => {
  const catalog = open(t);
  t.ok(catalog.refuse(refusal(1)));
  t.ok(catalog.refuse({ ...refusal(1, 'later'), code: 'nar-corrupt', message: 'x'.repeat(10_000) }));
  t.strictSame(catalog.known(source, narInfoName(1)), { state: 'refused', fingerprint: 'later' });
  t.match(catalog.counts(), { rejected: 1, rejectedByCode: { 'nar-corrupt': 1 } });
  const [kept] = catalog.refusals(10);
  t.match(kept, { source, narInfoName: narInfoName(1), code: 'nar-corrupt', fingerprint: 'later' });
  t.equal(kept?.message.length, refusalMessageMax);
  catalog.accept(row(1));
  t.match(catalog.counts(), { nars: 1, rejected: 0, rejectedByCode: {} });
  t.strictSame(catalog.refusals(10), []);
});

t.test('a refusal with the fingerprint that was accepted changes nothing', async (t) => {
  const catalog = open(t);
  catalog.accept(row(1));
  t.notOk(catalog.refuse(refusal(1)));
  t.equal(catalog.known(source, narInfoName(1))?.state, 'accepted');
  t.match(catalog.counts(), { nars: 1, narinfos: 1, rejected: 0 });
});

t.test('an accepted narinfo that changed and is refused is no longer served, nor its NAR file', async (t) => {
  const catalog = open(t);
  const made = row(1);
  catalog.accept(made);
  t.ok(catalog.refuse(refusal(1, 'changed')));
  t.equal(narInfoOf(catalog, 1), undefined);
  t.equal(catalog.byInfoHash(made.entry.infoHash), undefined);
  t.equal(catalog.byUrl(made.narInfo.url), undefined);
  t.equal(catalog.known(source, narInfoName(1))?.state, 'refused');
  t.match(catalog.counts(), { nars: 0, narinfos: 0, rejected: 1, bytes: 0 });
});

t.test('a narinfo is not taken with a NAR file that is another', async (t) => {
  const catalog = open(t);
  const made = row(1);
  const faults = [
    ['nar-hash-mismatch', { narHash: hashOf('x') }],
    ['nar-size-mismatch', { narSize: 1 }],
    ['file-hash-mismatch', { fileHash: hashOf('x') }],
    ['file-size-mismatch', { fileSize: 1 }],
    ['decompression-failed', { compression: 'gzip' }],
  ] as const;
  for (const [code, fault] of faults) {
    const narInfo = { ...made.narInfo, ...fault };
    t.throws(() => catalog.accept({ ...made, narInfo }), { code });
  }
  t.match(catalog.counts(), { nars: 0, narinfos: 0 });
  catalog.accept(made);
  const wrong = row(1, { path: 2, nar: 2 });
  t.throws(() => catalog.acceptAlias({ ...wrong, fileHash: made.entry.fileHash }), {
    code: 'nar-hash-mismatch',
  });
  t.throws(() => catalog.acceptAlias({ ...wrong, fileHash: hashOf('x') }), { code: 'not-held' });
  t.match(catalog.counts(), { nars: 1, narinfos: 1 });
});

t.test('the only narinfo under which bytes were seen is not replaced by hearsay', async (t) => {
  const catalog = open(t);
  const made = row(1);
  catalog.accept(made);
  const moved = row(1, { url: 'nar/elsewhere.nar.xz', fingerprint: 'moved' });
  t.throws(() => catalog.acceptAlias({ ...moved, fileHash: made.entry.fileHash }), { code: 'not-held' });
  t.strictSame(catalog.byUrl(made.narInfo.url), made.entry);
});

t.test('entries, refusals and names are read in pages', async (t) => {
  const catalog = open(t);
  catalog.transaction(() => {
    for (let n = 0; n < 25; n++) catalog.accept(row(n));
    for (let n = 25; n < 50; n++) catalog.refuse(refusal(n));
    catalog.refuse({ ...refusal(1), source: otherSource });
  });
  const hashes: string[] = [];
  for (let page = catalog.entries(undefined, 10); page.length > 0; ) {
    hashes.push(...page.map((entry) => entry.fileHash));
    page = catalog.entries(page.at(-1)?.fileHash, 10);
  }
  t.equal(new Set(hashes).size, 25);
  t.equal(hashes.length, 25);
  const refused: string[] = [];
  for (let page = catalog.refusals(10); page.length > 0; page = catalog.refusals(10, page.at(-1))) {
    refused.push(...page.map((one) => `${one.source} ${one.narInfoName}`));
  }
  t.equal(new Set(refused).size, 26);
  t.equal(refused.length, 26);
  const names = catalog.narInfoNames(source, undefined, 10);
  t.strictSame([...names].sort(), names);
  t.equal(names.length + catalog.narInfoNames(source, names.at(-1), 100).length, 25);
});

t.test('a transaction is whole or not at all, and one inside it can fail alone', async (t) => {
  const catalog = open(t);
  const failure = new Error('given up');
  t.throws(
    () =>
      catalog.transaction(() => {
        catalog.accept(row(1));
        throw failure;
      }),
    failure,
  );
  t.equal(catalog.counts().nars, 0);
  const result = catalog.transaction(() => {
    catalog.accept(row(1));
    t.throws(() => catalog.acceptAlias({ ...row(2), fileHash: hashOf('x') }), { code: 'not-held' });
    return 'done';
  });
  t.equal(result, 'done');
  t.match(catalog.counts(), { nars: 1, narinfos: 1 });
});

t.test('values are kept under names', async (t) => {
  const catalog = open(t);
  t.equal(catalog.getMeta('StoreDir'), undefined);
  catalog.setMeta('StoreDir', '/nix/store');
  catalog.setMeta('StoreDir', '/gnu/store');
  t.equal(catalog.getMeta('StoreDir'), '/gnu/store');
});

t.test('after any sequence of changes the counters and the rows agree with a simple model', async () => {
  const operation = fc.record({
    op: fc.constantFrom('accept', 'alias', 'refuse', 'forget'),
    path: fc.nat({ max: 3 }),
    file: fc.nat({ max: 3 }),
    source: fc.constantFrom(source, otherSource),
    fingerprint: fc.constantFrom('a', 'b'),
  });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 30 }), (operations) => {
      const catalog = openCatalog(':memory:');
      try {
        for (const { op, path, file, source: from, fingerprint } of operations) {
          const made = row(file, { path, source: from, fingerprint });
          if (op === 'accept') catalog.accept(made);
          if (op === 'alias' && catalog.byFileHash(made.entry.fileHash)) {
            try {
              catalog.acceptAlias({ ...made, fileHash: made.entry.fileHash });
            } catch {
              // Replacing the only narinfo under which the bytes were seen; tested above.
            }
          }
          if (op === 'refuse') catalog.refuse({ ...refusal(path, fingerprint), source: from });
          if (op === 'forget') catalog.forget(from, narInfoName(path));
        }
        return agrees(catalog);
      } finally {
        catalog.close();
      }
    }),
    { numRuns: 200 },
  );
});

/** Counters equal what a count gives; every entry is found by all its keys; every narinfo leads to its NAR file. */
function agrees(catalog: Catalog): boolean {
  const counts = catalog.counts();
  const entries = catalog.entries(undefined, 100);
  const names = catalog.sources().map((from) => catalog.narInfoNames(from, undefined, 100));
  const bytes = entries.reduce((sum, entry) => sum + entry.fileSize, 0);
  return (
    counts.nars === entries.length &&
    counts.bytes === bytes &&
    counts.narinfos === names.flat().length &&
    counts.rejected === catalog.refusals(100).length &&
    entries.every(
      (entry) => catalog.pieces(entry.infoHash)?.length === 20 && catalog.pieces(entry.narInfoHash),
    ) &&
    [0, 1, 2, 3].every(
      (n) => (narInfoOf(catalog, n) === undefined) === !names.flat().includes(narInfoName(n)),
    ) &&
    [0, 1, 2, 3].every((n) => {
      const url = row(n).narInfo.url;
      const entry = catalog.byUrl(url);
      return entry === undefined || (entry.location.path === url && entry.fileHash === row(n).entry.fileHash);
    })
  );
}

t.test('what was uploaded is kept with its NAR file, counted by state, and goes with it', async (t) => {
  const catalog = open(t);
  const [first, second] = [row(1), row(2)];
  catalog.accept(first);
  const free = { capped: false, uploadedBytes: 2 ** 40, roundBytes: 5, lonelySinceMs: undefined };
  const capped = { capped: true, uploadedBytes: 7, roundBytes: 7, lonelySinceMs: 1_700_000_000_000 };
  catalog.putUploads([
    [first.entry.infoHash, free],
    [second.entry.infoHash, free],
  ]);
  t.strictSame(catalog.upload(first.entry.infoHash), free);
  t.equal(catalog.upload(second.entry.infoHash), undefined, 'it is not in the catalog');
  t.strictSame(catalog.counts().uploads, { swarming: 1, capped: 0 });
  catalog.putUploads([[first.entry.infoHash, capped]]);
  t.strictSame(catalog.upload(first.entry.infoHash), capped);
  t.strictSame(catalog.counts().uploads, { swarming: 0, capped: 1 });
  catalog.forget(source, first.narInfoName);
  t.strictSame(catalog.counts(), nothing);
});
