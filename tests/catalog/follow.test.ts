import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { CatalogFiles } from '../../catalog/files.ts';
import { type FollowOptions, fetchSegments, followCatalog, readView } from '../../catalog/follow.ts';
import { type FollowedCatalog, openFollowed } from '../../catalog/followed.ts';
import { frameRecord, recordMaxBytes } from '../../catalog/record.ts';
import { segmentLimits, segmentMagic } from '../../catalog/segment.ts';
import { printTorrentInfo } from '../../catalog/torrentinfo.ts';
import { parseSha256, sha256FromDigest } from '../../nar/hash.ts';
import { secretKeyFromSeed } from '../../nar/signature.ts';
import { storeHashOf } from '../../nar/store-path.ts';
import { headTime, logKey, MadeLog, MadeTransport, narFiles, nixStoreDir, recordsOf } from './made-log.ts';
import { row } from './made-rows.ts';

const options: FollowOptions = { keys: [logKey.publicKey], nixStoreDir, now: () => (headTime + 60) * 1000 };
const secondKey = secretKeyFromSeed('catalog.example-2', Buffer.alloc(32, 2));
const thirdKey = secretKeyFromSeed('catalog.example-3', Buffer.alloc(32, 3));

/** A catalog that is followed, and closed with the test. */
function opened(t: Test, name = 'followed.sqlite'): FollowedCatalog {
  const followed = openFollowed(join(t.testdirName, name));
  t.teardown(() => followed.close());
  return followed;
}

async function twoSegments(): Promise<{ log: MadeLog; transport: MadeTransport }> {
  const log = new MadeLog();
  await log.add(narFiles(1, 10));
  await log.add(narFiles(11, 5));
  return { log, transport: new MadeTransport(log, log.head()) };
}

t.test('a catalog is followed from nothing, and everything in it is found', async (t) => {
  t.testdir();
  const followed = opened(t);
  t.equal(followed.head(), undefined);
  t.strictSame(followed.keys(), []);
  const { log, transport } = await twoSegments();
  t.match(await followCatalog(followed, transport, options), { state: 'advanced', records: 30, refused: [] });
  t.equal(followed.head()?.text, transport.head);
  t.equal(followed.ordinals, 15);
  for (let n = 1; n <= 15; n++) {
    const { entry, narInfo } = row(n);
    const { fileHash, infoHash, fileSize } = entry;
    const storeHash = storeHashOf(narInfo.storePath);
    t.strictSame(followed.narInfo(storeHash), { text: narInfo.text, fileHash });
    const torrentInfo = followed.torrentInfo(fileHash);
    t.equal(torrentInfo && printTorrentInfo(torrentInfo), printTorrentInfo(entry));
    t.equal(followed.byInfoHash(infoHash), fileHash);
    t.equal(followed.byInfoHash(entry.narInfoHash), undefined);
    t.equal(followed.ordinal(fileHash), n - 1);
    t.equal(followed.byOrdinal(n - 1), fileHash);
    t.strictSame(followed.storeHashesOf(fileHash), [storeHash]);
    t.strictSame(followed.entries(n - 2, 1), [{ ordinal: n - 1, fileHash, fileSize }]);
    t.equal(followed.revoked(fileHash), undefined);
    t.equal(followed.packOf(fileHash), undefined);
  }
  t.equal(followed.byOrdinal(15), undefined);
  t.equal(followed.entries(-1, 100).length, 15);
  t.equal(log.files.size, 2);
});

t.test('what did not change is not fetched again, and what is new alone is fetched', async (t) => {
  t.testdir();
  const followed = opened(t);
  const { log, transport } = await twoSegments();
  await followCatalog(followed, transport, options);
  transport.asked.length = 0;
  t.match(await followCatalog(followed, transport, options), { state: 'unchanged', records: 30 });
  t.strictSame(transport.asked, ['head if changed']);
  const third = await log.add(narFiles(16, 3));
  transport.head = log.head();
  t.match(await followCatalog(followed, transport, options), { state: 'advanced', records: 36 });
  t.strictSame(transport.asked.slice(1), ['head if changed', third.sha256]);
  t.equal(followed.ordinals, 18);

  await log.fuse();
  transport.head = log.head();
  transport.asked.length = 0;
  t.match(await followCatalog(followed, transport, options), { state: 'advanced', records: 36 });
  t.strictSame(transport.asked, ['head if changed'], 'the same records in other files are fetched by nobody');
});

t.test('a follower in the middle of a fused segment takes the rest of it', async (t) => {
  t.testdir();
  const followed = opened(t);
  const { log, transport } = await twoSegments();
  await followCatalog(followed, transport, options);
  await log.add(narFiles(16, 3));
  await log.fuse();
  transport.head = log.head();
  t.match(await followCatalog(followed, transport, options), { records: 36 });
  t.equal(followed.ordinals, 18);
  t.equal(followed.entries(-1, 100).length, 18);
});

t.test('a head that is not right is refused, each for its own reason', async (t) => {
  t.testdir();
  const followed = opened(t);
  const { log, transport } = await twoSegments();
  const refused = async (code: string, head: string, why: string, more: Partial<FollowOptions> = {}) => {
    const before = { head: followed.head()?.text, records: followed.records };
    transport.head = head;
    await t.rejects(followCatalog(followed, transport, { ...options, ...more }), { code }, why);
    t.strictSame(
      { head: followed.head()?.text, records: followed.records },
      before,
      `${why}: nothing changed`,
    );
  };
  const first = transport.head;
  await refused('head-untrusted', first, 'another key', { keys: [secondKey.publicKey] });
  await refused('head-untrusted', first.replace('Time: 18', 'Time: 17'), 'a changed text');
  await refused('head-untrusted', first.replace(/Sig: .*\n/, ''), 'no signature');
  await refused('head-corrupt', `${first}more\n`, 'more text');
  await refused('store-dir-mismatch', first, 'another store', { nixStoreDir: '/gnu/store' });
  const expiryMs = (headTime + 7 * 24 * 3600) * 1000;
  await refused('head-expired', first, 'expired', { now: () => expiryMs });
  const [a, b] = log.segments;
  if (a === undefined || b === undefined) throw new Error('no segments');
  t.throws(() => log.head({ segments: [b, a] }), { code: 'catalog-gap' }, 'segments in another order');
  t.throws(() => log.head({ segments: [a, a] }), { code: 'catalog-gap' }, 'a segment twice');
  t.throws(
    () => log.head({ segments: [{ ...a, sizeBytes: 2 ** 30 }, b] }),
    { code: 'head-corrupt' },
    'too large',
  );

  transport.head = first;
  await followCatalog(followed, transport, options);
  const second = log.head();
  const { sequence } = log;
  transport.head = second;
  await followCatalog(followed, transport, options);
  await refused('catalog-rollback', first, 'an earlier head');
  await refused('catalog-rollback', log.head({ segments: [a] }), 'fewer records under a later number');
  await refused('catalog-fork', log.head({ sequence, time: headTime + 1 }), 'the same number, another text');
  const otherChain = sha256FromDigest(Buffer.alloc(32, 9));
  const forged = log.head({ segments: [a, { ...b, chain: otherChain }] });
  await refused('catalog-fork', forged, 'the same number of records, another chain');
  const expired = { now: () => expiryMs };
  await refused('head-expired', second, 'a head that was taken, and is handed over for ever', expired);
});

t.test('records that were seen before cannot be replaced by others', async (t) => {
  t.testdir();
  const followed = opened(t);
  const { transport } = await twoSegments();
  await followCatalog(followed, transport, options);
  const other = new MadeLog();
  await other.add([...narFiles(1, 14), ...narFiles(99, 1)]);
  await other.add(narFiles(16, 3));
  other.sequence = 10;
  const apart = new MadeTransport(other, other.head());
  await t.rejects(followCatalog(followed, apart, options), { code: 'catalog-fork' }, 'seen at a boundary');
  await other.fuse();
  apart.head = other.head();
  await t.rejects(followCatalog(followed, apart, options), { code: 'catalog-fork' }, 'seen within a segment');
  t.equal(followed.records, 30);
  t.equal(followed.ordinal(row(99).entry.fileHash), undefined, 'nothing of it stays');
});

t.test('a segment that is not what the head says is refused, and leaves nothing', async (t) => {
  t.testdir();
  const { transport } = await twoSegments();
  const half = (bytes: Buffer) => bytes.subarray(0, bytes.length / 2);
  const flipped = (bytes: Buffer) => Buffer.from(bytes).fill(0, 100, 110);
  const longer = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(1)]);
  for (const [code, spoil] of [
    ['segment-truncated', half],
    ['segment-mismatch', flipped],
    ['segment-mismatch', longer],
  ] as const) {
    const followed = opened(t, `${code}-${spoil.name}.sqlite`);
    transport.spoil = spoil;
    await t.rejects(followCatalog(followed, transport, options), { code }, spoil.name);
    t.equal(followed.records, 0);
    transport.spoil = (bytes) => bytes;
    t.match(await followCatalog(followed, transport, options), { records: 30 }, 'and the right one is taken');
  }
  transport.files.clear();
  await t.rejects(followCatalog(opened(t), transport, options), { code: 'segment-missing' });
});

t.test('a signer who signs nonsense is refused as well', async (t) => {
  t.testdir();
  const [first] = recordsOf(1);
  if (first === undefined) throw new Error('no record');
  const framed = frameRecord(first);
  const large = [Buffer.from(`unheard-of ${recordMaxBytes}\n`), Buffer.alloc(recordMaxBytes)];
  const zeros = Buffer.concat([Buffer.from(segmentMagic), ...large, ...large, ...large, ...large]);
  const many = Buffer.from(segmentMagic + 'unheard-of 0\n'.repeat(segmentLimits.records + 1));
  const cases: [code: string, why: string, file: Buffer][] = [
    ['segment-corrupt', 'no zstd', Buffer.from('no segment')],
    ['segment-truncated', 'zstd that ends early', zstdCompressSync(Buffer.alloc(9)).subarray(0, 8)],
    ['segment-corrupt', 'other words', zstdCompressSync(Buffer.from('other words, and more of them'))],
    ['segment-truncated', 'nothing', zstdCompressSync(Buffer.alloc(0))],
    [
      'segment-truncated',
      'half a record',
      zstdCompressSync(Buffer.concat([Buffer.from(segmentMagic), framed.subarray(0, 99)])),
    ],
    ['segment-corrupt', 'a line that is none', zstdCompressSync(Buffer.from(`${segmentMagic}Record 1\n1`))],
    ['segment-corrupt', 'fewer records than the head says', zstdCompressSync(Buffer.from(segmentMagic))],
    [
      'segment-corrupt',
      'more records than the head says',
      zstdCompressSync(Buffer.concat([Buffer.from(segmentMagic), framed, framed])),
    ],
    [
      'segment-corrupt',
      'another chain than the head says',
      zstdCompressSync(Buffer.from(`${segmentMagic}unheard-of 1\n1`)),
    ],
    ['decompression-bomb', 'too many bytes', zstdCompressSync(zeros)],
    ['segment-corrupt', 'too many records', zstdCompressSync(many)],
  ];
  for (const [index, [code, why, file]] of cases.entries()) {
    const log = new MadeLog();
    const segment = await log.add([first]);
    const records = code === 'decompression-bomb' ? 9 : segment.records;
    log.segments[0] = { ...segment, ...log.putFile(file), records };
    const followed = opened(t, `nonsense-${index}.sqlite`);
    const transport = new MadeTransport(log, log.head());
    await t.rejects(followCatalog(followed, transport, options), { code }, why);
    t.equal(followed.records, 0, why);
  }
});

t.test('a record that breaks its format is refused, one of an unknown kind is passed over', async (t) => {
  t.testdir();
  const [torrentInfo, narInfo] = recordsOf(1);
  if (torrentInfo?.kind !== 'torrentinfo' || narInfo?.kind !== 'narinfo') throw new Error('no records');
  const { fileHash } = narInfo;
  const bad: [code: string, why: string, record: string][] = [
    ['record-corrupt', 'a torrentinfo', 'torrentinfo 4\nabc\n'],
    ['record-corrupt', 'a narinfo', `narinfo ${fileHash} 4\nabc\n`],
    ['record-corrupt', 'a narinfo without its FileHash', `narinfo ${narInfo.text.length}\n${narInfo.text}`],
    [
      'record-corrupt',
      'a narinfo of another file',
      `narinfo ${row(2).entry.fileHash} ${narInfo.text.length}\n${narInfo.text}`,
    ],
    ['record-corrupt', 'a narinfo before its torrentinfo', frameRecord(narInfo).toString()],
    ['record-corrupt', 'a revocation of nothing', 'revocation 4\nabc\n'],
    ['record-corrupt', 'a revocation without a reason', `revocation ${fileHash} 5 0\n`],
    ['record-corrupt', 'a reason that is no text', `revocation ${fileHash} 5 1\n\u0007`],
    ['record-corrupt', 'a pack', `pack ${'0'.repeat(40)} 4\nabc\n`],
  ];
  for (const [index, [code, why, record]] of bad.entries()) {
    const log = new MadeLog();
    await log.addFramed([Buffer.from(record)]);
    const followed = opened(t, `bad-${index}.sqlite`);
    await t.rejects(followCatalog(followed, new MadeTransport(log, log.head()), options), { code }, why);
  }
  const log = new MadeLog();
  await log.addFramed([Buffer.from('unheard-of a b c 3\n\0\0\0'), frameRecord(torrentInfo)]);
  const followed = opened(t);
  t.match(await followCatalog(followed, new MadeTransport(log, log.head()), options), { records: 2 });
  t.equal(followed.ordinal(fileHash), 0);
});

t.test('records of another store are refused', async (t) => {
  t.testdir();
  const log = new MadeLog();
  log.nixStoreDir = '/gnu/store';
  await log.add(recordsOf(1));
  const followed = opened(t);
  const transport = new MadeTransport(log, log.head());
  const other = { ...options, nixStoreDir: '/gnu/store' };
  await t.rejects(followCatalog(followed, transport, other), { code: 'store-dir-mismatch' });
});

t.test('a revoked NAR file is gone, for good, and its number is nobody else’s', async (t) => {
  t.testdir();
  const followed = opened(t);
  const log = new MadeLog();
  await log.add(narFiles(1, 3));
  const transport = new MadeTransport(log, log.head());
  await followCatalog(followed, transport, options);
  const { entry, narInfo } = row(2);
  const { fileHash } = entry;
  await log.add([
    { kind: 'revocation', fileHash, time: headTime, reason: 'it held another package’s NAR' },
    ...narFiles(2, 1),
    ...narFiles(4, 1),
    { kind: 'revocation', fileHash: row(9).entry.fileHash, time: headTime, reason: 'before it was there' },
    ...narFiles(9, 1),
  ]);
  transport.head = log.head();
  await followCatalog(followed, transport, options);
  t.strictSame(followed.revoked(fileHash), { time: headTime, reason: 'it held another package’s NAR' });
  t.equal(followed.narInfo(storeHashOf(narInfo.storePath)), undefined);
  t.equal(followed.torrentInfo(fileHash), undefined);
  t.equal(followed.byInfoHash(entry.infoHash), undefined);
  t.equal(followed.ordinal(fileHash), undefined);
  t.equal(followed.byOrdinal(1), undefined);
  t.equal(followed.byOrdinal(3), undefined, 'nor that of its return');
  t.equal(followed.ordinal(row(4).entry.fileHash), 4);
  t.equal(followed.ordinal(row(9).entry.fileHash), undefined);
  t.equal(followed.revocations(undefined, 10).length, 2);
  const [one] = followed.revocations(undefined, 1);
  t.equal(followed.revocations(one?.fileHash, 10).length, 1);
});

t.test('a torrentinfo that comes again keeps its first number', async (t) => {
  t.testdir();
  const followed = opened(t);
  const log = new MadeLog();
  const { entry } = row(1);
  const again = printTorrentInfo({ ...entry, sigs: ['seeder-2:AAAA'] });
  await log.add([...narFiles(1, 2), { kind: 'torrentinfo', text: again }, ...narFiles(3, 1)]);
  await followCatalog(followed, new MadeTransport(log, log.head()), options);
  t.equal(followed.ordinal(entry.fileHash), 0);
  t.strictSame(followed.torrentInfo(entry.fileHash)?.sigs, ['seeder-2:AAAA']);
  t.equal(followed.byOrdinal(2), undefined);
  t.equal(followed.ordinal(row(3).entry.fileHash), 3);
  t.equal(followed.ordinals, 4);
});

t.test('a new key is introduced by the old one, and the old one can be retired', async (t) => {
  t.testdir();
  const followed = opened(t);
  const { log, transport } = await twoSegments();
  await followCatalog(followed, transport, options);
  const headBy = (signers: (typeof logKey)[], keys: (typeof logKey)[]): string => {
    log.signers = signers;
    log.keys = keys;
    return log.head();
  };
  const tooEarly = headBy([secondKey], [secondKey]);
  transport.head = tooEarly;
  await t.rejects(followCatalog(followed, transport, options), { code: 'head-untrusted' }, 'unheard of');
  transport.head = headBy([logKey, secondKey], [logKey, secondKey]);
  await followCatalog(followed, transport, options);
  t.strictSame(
    followed.keys().map(({ name }) => name),
    [logKey.name, secondKey.name],
  );
  transport.head = headBy([secondKey], [secondKey]);
  await followCatalog(followed, transport, options);
  t.strictSame(
    followed.keys().map(({ name }) => name),
    [secondKey.name],
  );
  transport.head = headBy([logKey], [logKey]);
  await t.rejects(followCatalog(followed, transport, options), { code: 'head-untrusted' }, 'retired');
  transport.head = headBy([thirdKey], [thirdKey]);
  const byHand = { ...options, keys: [...options.keys, thirdKey.publicKey] };
  t.match(await followCatalog(followed, transport, byHand), { state: 'advanced' }, 'added by hand');
});

t.test(
  'of several places the newest valid head counts, and each file comes from whoever has it',
  async (t) => {
    t.testdir();
    const followed = opened(t);
    const { log, transport: old } = await twoSegments();
    const added = await log.add(narFiles(16, 3));
    const fresh = new MadeTransport(log, log.head());
    const dead = new MadeTransport(log, 'nonsense');
    const result = await followCatalog(followed, [dead, old, fresh], options);
    t.match(result, { state: 'advanced', records: 36, refused: [{ code: 'head-corrupt' }] });
    t.equal(followed.head()?.text, fresh.head);
    t.match(await followCatalog(followed, [old, fresh], options), {
      state: 'unchanged',
      refused: [{ code: 'catalog-rollback' }],
    });
    await t.rejects(followCatalog(followed, [dead, old], options), { code: 'head-corrupt' });

    const empty = new MadeTransport(new MadeLog(), fresh.head);
    const other = opened(t, 'other.sqlite');
    t.match(await followCatalog(other, [empty, fresh], options), { records: 36 });
    t.ok(empty.asked.includes(added.sha256), 'the first was asked');

    const two = new MadeTransport(log, log.head({ sequence: 50 }));
    const faces = new MadeTransport(log, log.head({ sequence: 50, time: headTime + 1 }));
    await t.rejects(followCatalog(followed, [two, faces], options), { code: 'catalog-fork' });
  },
);

t.test('the files are kept for whoever wants to serve them', async (t) => {
  const files = await CatalogFiles.open(join(t.testdir(), 'files'));
  const { log, transport } = await twoSegments();
  await followCatalog(opened(t), transport, { ...options, files });
  t.strictSame((await files.list()).sort(), [...log.files.keys()].sort());
  const before = transport.asked.length;
  await followCatalog(opened(t, 'other.sqlite'), transport, { ...options, files });
  t.equal(transport.asked.length, before + 1, 'only the head: the files are there');
});

t.test('a file whose records came in others is fetched for whoever serves it', async (t) => {
  const files = await CatalogFiles.open(join(t.testdir(), 'files'));
  const { log, transport } = await twoSegments();
  const followed = opened(t);
  await followCatalog(followed, transport, { ...options, files });
  await log.fuse();
  transport.head = log.head();
  await followCatalog(followed, transport, { ...options, files });
  await fetchSegments(followed, [transport], { files });
  const [fused] = log.segments;
  t.ok(fused && (await files.list()).includes(fused.sha256));
  const before = transport.asked.length;
  await fetchSegments(followed, [transport], { files });
  t.equal(transport.asked.length, before, 'once');
});

t.test('files of nonsense do not pile up, and one that the disk has spoilt is fetched again', async (t) => {
  const files = await CatalogFiles.open(join(t.testdir(), 'files'));
  const log = new MadeLog();
  await log.addFramed([Buffer.from('torrentinfo 4\nabc\n')]);
  await log.add(narFiles(1, 5));
  await log.addFramed([Buffer.from(`view ${'0'.repeat(9)} 1\n0`)]);
  const transport = new MadeTransport(log, log.head());
  const followed = opened(t);
  await t.rejects(followCatalog(followed, transport, { ...options, files }), { code: 'record-corrupt' });
  t.strictSame(await files.list(), []);
  const view = await log.addView('bad', []);
  const nonsense = { ...view, ...log.putFile(Buffer.from('no segment')) };
  await t.rejects(readView(followed, transport, nonsense, { nixStoreDir, files }), {
    code: 'segment-corrupt',
  });
  t.strictSame(await files.list(), []);

  const good = await twoSegments();
  const [first] = good.log.segments;
  if (first === undefined) throw new Error('no segment');
  await writeFile(files.path(first.sha256), Buffer.alloc(first.sizeBytes));
  await t.rejects(followCatalog(followed, good.transport, { ...options, files }), {
    code: 'segment-corrupt',
  });
  t.match(await followCatalog(followed, good.transport, { ...options, files }), { records: 30 });
});

t.test('following that is given up leaves whole segments, and goes on from there', async (t) => {
  t.testdir();
  const followed = opened(t);
  const { transport, log } = await twoSegments();
  const giveUp = new AbortController();
  const [, second] = log.segments;
  transport.spoil = (bytes) => {
    if (bytes.length === second?.sizeBytes) giveUp.abort();
    return bytes;
  };
  await t.rejects(followCatalog(followed, transport, { ...options, signal: giveUp.signal }));
  t.ok([0, 20].includes(followed.records), `${followed.records} records`);
  transport.spoil = (bytes) => bytes;
  t.match(await followCatalog(followed, transport, options), { records: 30 });
});

t.test('a view is read alone, and replaces the one before', async (t) => {
  t.testdir();
  const followed = opened(t, 'view.sqlite');
  const { log, transport } = await twoSegments();
  const view = await log.addView('nixos-26.05', narFiles(3, 4));
  t.match(await readView(followed, transport, view, options), { state: 'advanced', records: 8 });
  const { entry, narInfo } = row(5);
  t.equal(followed.narInfo(storeHashOf(narInfo.storePath))?.text, narInfo.text);
  t.match(await readView(followed, transport, view, options), { state: 'unchanged', records: 8 });
  const next = await log.addView('nixos-26.11', narFiles(7, 1));
  t.match(await readView(followed, transport, next, options), { state: 'advanced', records: 2 });
  t.equal(followed.torrentInfo(entry.fileHash), undefined);
  transport.spoil = (bytes) => bytes.subarray(1);
  await t.rejects(readView(followed, transport, view, options), { code: 'segment-truncated' });
  t.equal(followed.records, 2, 'what was there stays');
  t.equal(followed.torrentInfo(parseSha256(row(7).entry.fileHash))?.fileHash, row(7).entry.fileHash);
});
