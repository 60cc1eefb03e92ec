/** The catalogs of the benchmarks are made, and still nothing about them is pretended. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import t from 'tap';
import { openCatalog } from '../../catalog/catalog.ts';
import { verifyTorrentInfo } from '../../catalog/torrentinfo.ts';
import { verifyNarInfo } from '../../nar/signature.ts';
import { verifyNarFile } from '../../parts/verify.ts';
import { makeCatalog } from '../../scripts/bench/made-catalog.ts';
import { MadeHasher, makeFile, readMadeFile } from '../../scripts/bench/made-files.ts';
import { acceptedOf, cacheKey, catalogKey, madeNarFiles, storeDir } from '../../scripts/bench/made-rows.ts';
import { storeDirKey } from '../../seeder/ingest.ts';

const dir = await mkdtemp(join(tmpdir(), 'narswarm-made-'));
t.teardown(() => rm(dir, { recursive: true }));
const hasher = new MadeHasher();

t.test('a made NAR file passes every check of a seeder', async (t) => {
  for (let number = 0; number < 60; number++) {
    const { narInfo, entry, filePieces, narPieces } = acceptedOf(number, hasher);
    const file = await madeNarFiles.open(entry);
    const path = join(dir, 'file');
    await writeFile(path, await file.read(0, file.sizeBytes));
    const { compression, fileHash, fileSize, narHash, narSize } = entry;
    const verified = await verifyNarFile({ path, compression, fileHash, fileSize, narHash, narSize });
    t.equal(verified.file.infoHash, entry.infoHash);
    t.equal(verified.nar.infoHash, entry.narInfoHash);
    t.same(verified.file.pieces, filePieces);
    t.same(verified.nar.pieces, narPieces);
    t.equal(verifyNarInfo(narInfo, [cacheKey.publicKey]), cacheKey.name);
    t.equal(verifyTorrentInfo(entry, [catalogKey.publicKey]), catalogKey.name);
  }
});

t.test('any part of a made NAR file can be read by itself', async (t) => {
  const file = makeFile(largest(500));
  const whole = readMadeFile(file, 0, file.fileSize);
  for (let part = 0; part < 200; part++) {
    const position = Math.floor((file.fileSize / 201) * part);
    const lengthBytes = Math.min(1 + part * 97, file.fileSize - position);
    const bytes = readMadeFile(file, position, lengthBytes);
    if (!bytes.equals(whole.subarray(position, position + lengthBytes))) t.fail(`at ${position}`);
  }
});

t.test(
  'the sizes are those of a binary cache: half are below 33 KB, one in a hundred is above 1.5 MB',
  async (t) => {
    const sizes = Array.from({ length: 20_000 }, (_none, number) => makeFile(number).fileSize).sort(
      (a, b) => a - b,
    );
    t.ok(Math.abs((sizes[10_000] ?? 0) - 33_000) < 3_000);
    t.ok((sizes[19_800] ?? 0) > 1_500_000);
  },
);

t.test('a catalog that is made in bulk is the one that accept makes', async (t) => {
  const rows = 2_500;
  const bulk = join(dir, 'bulk.sqlite');
  await makeCatalog(bulk, { rows });
  const accepted = join(dir, 'accepted.sqlite');
  const catalog = openCatalog(accepted);
  catalog.setMeta(storeDirKey, storeDir);
  catalog.transaction(() => {
    for (let number = 0; number < rows; number++) catalog.accept(acceptedOf(number, hasher));
  });
  catalog.close();
  const of = dump(bulk);
  const expected = dump(accepted);
  t.same([...of.keys()].sort(), [...expected.keys()].sort());
  for (const [what, lines] of expected) t.same(of.get(what), lines, what);
});

t.test('in a catalog of which not all is whole, what is whole is found', async (t) => {
  const path = join(dir, 'sparse.sqlite');
  await makeCatalog(path, { rows: 205, wholeEvery: 50 });
  const catalog = openCatalog(path);
  t.teardown(() => catalog.close());
  t.equal(catalog.counts().nars, 205);
  t.equal(catalog.counts().narinfos, 205);
  for (const number of [0, 50, 100, 150, 200]) {
    const { entry, filePieces } = acceptedOf(number, hasher);
    t.same(catalog.fileByInfoHash(entry.infoHash), { entry, pieces: filePieces });
  }
  t.equal(catalog.entries(undefined, 1000).length, 205);
});

function largest(count: number): number {
  const numbers = Array.from({ length: count }, (_none, number) => number);
  return numbers.reduce((a, b) => (makeFile(b).fileSize > makeFile(a).fileSize ? b : a));
}

/** Schema and rows by table, in one order, each row as text. */
function dump(path: string): Map<string, string[]> {
  const db = new DatabaseSync(path, { readOnly: true });
  try {
    const dumped = new Map<string, string[]>();
    const schema = db.prepare('SELECT type, name, sql FROM sqlite_schema ORDER BY type, name').all();
    dumped.set(
      'schema',
      schema.map((row) => JSON.stringify(row)),
    );
    for (const { type, name } of schema) {
      if (type !== 'table' || String(name).startsWith('sqlite_')) continue;
      // A made catalog has nothing that waits to be published: benchmarks are about what there is.
      if (name === 'log_queue') continue;
      // Since when a NAR file waits is all that differs.
      const columns = name === 'unpacked' ? 'nar_file, size' : '*';
      const statement = db.prepare(`SELECT ${columns} FROM ${name} ORDER BY 1, 2`);
      statement.setReadBigInts(true);
      dumped.set(
        String(name),
        statement.all().map((row) => JSON.stringify(Object.values(row).map(printed))),
      );
    }
    return dumped;
  } finally {
    db.close();
  }
}

function printed(value: unknown): unknown {
  return value instanceof Uint8Array ? Buffer.from(value).toString('hex') : String(value);
}
