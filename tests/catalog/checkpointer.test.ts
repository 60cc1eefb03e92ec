import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import t from 'tap';
import { openCatalog } from '../../catalog/catalog.ts';
import { isWorthMoving, openCheckpointer } from '../../catalog/checkpointer.ts';
import { catalogLogPages } from '../../catalog/database.ts';
import { until } from '../helpers/program.ts';
import { row } from './made-rows.ts';

t.test('what is in the log comes into the database while the catalog is open and written to', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-checkpoints-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const path = join(dir, 'catalog.sqlite');
  const catalog = openCatalog(path, { checkpoints: 'elsewhere' });
  const checkpointer = openCheckpointer(path, (error) => t.fail(String(error)), { patienceMs: 0 });
  for (let n = 0; n < 500; n++) catalog.accept(row(n));

  // Without its log, a copy of the database has only what was moved into it.
  const copy = join(dir, 'copy.sqlite');
  await until(async () => {
    await copyFile(path, copy);
    const copied = openCatalog(copy);
    const { nars } = copied.counts();
    copied.close();
    return nars === 500;
  });
  catalog.accept(row(500));
  t.equal(catalog.counts().nars, 501);

  await checkpointer.close();
  await checkpointer.close();
  catalog.close();
  const again = openCatalog(path);
  t.equal(again.counts().nars, 501);
  again.close();
});

t.test(
  'after all is moved the same thread writes next, so that nobody else waits for the disk',
  async (t) => {
    const dir = await mkdtemp(join(tmpdir(), 'narswarm-checkpoints-'));
    t.teardown(() => rm(dir, { recursive: true }));
    const path = join(dir, 'catalog.sqlite');
    const catalog = openCatalog(path, { checkpoints: 'elsewhere' });
    const checkpointer = openCheckpointer(path, (error) => t.fail(String(error)), { patienceMs: 0 });
    const db = new DatabaseSync(path);
    const look = db.prepare('PRAGMA wal_checkpoint(NOOP)');
    for (let n = 0; n < 50; n++) catalog.accept(row(n));
    await until(async () => look.get()?.log === 1);
    t.same(
      { ...look.get() },
      { busy: 0, log: 1, checkpointed: 0 },
      'its own page is no reason to begin again',
    );
    db.close();
    await checkpointer.close();
    catalog.close();
  },
);

t.test(
  'a short log is left alone for a while, because beginning it anew costs whoever writes a sync',
  async (t) => {
    const patienceMs = 1_000;
    t.notOk(isWorthMoving({ pages: catalogLogPages - 1, forMs: 999, patienceMs }));
    t.ok(isWorthMoving({ pages: catalogLogPages, forMs: 0, patienceMs }));
    t.ok(isWorthMoving({ pages: 1, forMs: 1_000, patienceMs }));
    t.notOk(isWorthMoving({ pages: 0, forMs: 1_000, patienceMs }), 'what is moved already');
  },
);
