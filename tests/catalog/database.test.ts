import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import t from 'tap';
import { openCatalog } from '../../catalog/catalog.ts';
import { catalogApplicationId } from '../../catalog/database.ts';
import { migrations } from '../../catalog/schema.ts';
import { row } from './made-rows.ts';

function fileHash(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

t.test('a new file becomes a catalog that says what it is', async (t) => {
  const path = `${t.testdir()}/catalog.sqlite`;
  openCatalog(path).close();
  const db = new DatabaseSync(path);
  t.strictSame({ ...db.prepare('PRAGMA application_id').get() }, { application_id: catalogApplicationId });
  t.strictSame({ ...db.prepare('PRAGMA user_version').get() }, { user_version: migrations.length });
  t.strictSame({ ...db.prepare('PRAGMA journal_mode').get() }, { journal_mode: 'wal' });
  t.equal(readFileSync(path).subarray(68, 72).toString(), 'narw', 'as file(1) sees it');
  db.close();
});

t.test('what is written is there after opening again', async (t) => {
  const path = `${t.testdir()}/catalog.sqlite`;
  const first = openCatalog(path);
  first.accept(row(1));
  first.close();
  first.close();
  const second = openCatalog(path);
  t.strictSame(second.byFileHash(row(1).entry.fileHash), row(1).entry);
  second.close();
});

t.test('a catalog of a newer narswarm is refused and left alone', async (t) => {
  const path = `${t.testdir()}/catalog.sqlite`;
  openCatalog(path).close();
  const db = new DatabaseSync(path);
  db.exec(`PRAGMA user_version = ${migrations.length + 1}`);
  db.close();
  const before = fileHash(path);
  t.throws(() => openCatalog(path), { code: 'catalog-incompatible', message: /newer narswarm/ });
  t.equal(fileHash(path), before);
});

t.test('a database of another program is refused and left alone', async (t) => {
  const path = `${t.testdir()}/other.sqlite`;
  const db = new DatabaseSync(path);
  db.exec('CREATE TABLE mine (x)');
  db.close();
  const before = fileHash(path);
  t.throws(() => openCatalog(path), { code: 'catalog-incompatible', message: /another program/ });
  t.equal(fileHash(path), before);
});

t.test('a file that is no database is refused and left alone', async (t) => {
  const path = `${t.testdir()}/notes.txt`;
  writeFileSync(path, 'not a database, but long enough that it could be one\n'.repeat(100));
  const before = fileHash(path);
  t.throws(() => openCatalog(path), { code: 'catalog-incompatible' });
  t.equal(fileHash(path), before);
});

t.test('a catalog that cannot be opened is a failure of the store', async (t) => {
  t.throws(() => openCatalog(`${t.testdir()}/missing/catalog.sqlite`), { code: 'store-failed' });
});

t.test('damage is reported as such', async (t) => {
  const path = `${t.testdir()}/catalog.sqlite`;
  const catalog = openCatalog(path);
  catalog.transaction(() => {
    for (let n = 0; n < 200; n++) catalog.accept(row(n));
  });
  catalog.close();
  const bytes = readFileSync(path);
  writeFileSync(path, Buffer.concat([bytes.subarray(0, 8192), Buffer.alloc(bytes.length - 8192, 0x5a)]));
  t.throws(
    () => {
      const damaged = openCatalog(path);
      try {
        damaged.byFileHash(row(1).entry.fileHash);
      } finally {
        damaged.close();
      }
    },
    { code: 'catalog-corrupt' },
  );
});

t.test('a catalog of the first schema is brought up to date, with all that is in it', async (t) => {
  const path = `${t.testdir()}/catalog.sqlite`;
  const db = new DatabaseSync(path);
  db.exec(migrations[0] ?? '');
  db.exec(`PRAGMA application_id = ${catalogApplicationId}; PRAGMA user_version = 1`);
  db.exec("INSERT INTO meta VALUES ('storeDir', '/nix/store')");
  db.close();
  const catalog = openCatalog(path);
  t.equal(catalog.getMeta('storeDir'), '/nix/store');
  t.strictSame(catalog.counts().uploads, { swarming: 0, capped: 0 });
  const made = row(1);
  catalog.accept(made);
  const upload = { capped: true, uploadedBytes: 1, roundBytes: 1, lonelySinceMs: undefined };
  catalog.putUploads([[made.entry.infoHash, upload]]);
  t.strictSame(catalog.upload(made.entry.infoHash), upload);
  catalog.close();
});
