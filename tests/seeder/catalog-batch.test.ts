import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { openCatalog } from '../../catalog/catalog.ts';
import { catalogBusyMs } from '../../catalog/database.ts';
import { batchMaxChanges, CatalogBatch } from '../../seeder/catalog-batch.ts';

t.test('a change that throws is undone alone; the others of its transaction stay', async (t) => {
  const catalog = openCatalog(':memory:');
  t.teardown(() => catalog.close());
  const batch = new CatalogBatch(catalog);
  const ends = await Promise.allSettled([
    batch.run(() => catalog.setMeta('a', '1')),
    batch.run(() => {
      catalog.setMeta('b', '1');
      throw new Error('no');
    }),
    batch.run(() => {
      catalog.setMeta('c', '1');
      return 'done';
    }),
  ]);
  t.same(
    ends.map((end) => (end.status === 'fulfilled' ? end.value : String(end.reason))),
    [undefined, 'Error: no', 'done'],
  );
  t.same(
    ['a', 'b', 'c'].map((key) => catalog.getMeta(key)),
    ['1', undefined, '1'],
  );
});

t.test('a full batch is written at once, and nobody hears of a change before it is', async (t) => {
  const catalog = openCatalog(':memory:');
  t.teardown(() => catalog.close());
  const batch = new CatalogBatch(catalog);
  const changes: Promise<void>[] = [];
  for (let i = 1; i < batchMaxChanges; i++) changes.push(batch.run(() => catalog.setMeta(`${i}`, '')));
  t.equal(catalog.getMeta('1'), undefined);
  changes.push(batch.run(() => catalog.setMeta('last', '')));
  t.equal(catalog.getMeta('1'), '');
  await Promise.all(changes);
});

t.test('a transaction that cannot be written is an error for everyone in it', async (t) => {
  const catalog = openCatalog(':memory:');
  const batch = new CatalogBatch(catalog);
  const changes = [1, 2].map((value) => batch.run(() => value));
  const ends = Promise.allSettled(changes);
  catalog.close();
  t.same(
    (await ends).map(({ status }) => status),
    ['rejected', 'rejected'],
  );
});

t.test('while another thread writes, changes wait for it and the event loop does not', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-batch-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const path = join(dir, 'catalog.sqlite');
  const catalog = openCatalog(path);
  t.teardown(() => catalog.close());
  const other = new DatabaseSync(path);
  t.teardown(() => other.close());
  const batch = new CatalogBatch(catalog);

  other.exec('BEGIN IMMEDIATE');
  const beganMs = performance.now();
  const changes = Array.from({ length: batchMaxChanges + 1 }, (_none, n) =>
    batch.run(() => catalog.setMeta(`${n}`, '')),
  );
  t.ok(performance.now() - beganMs < catalogBusyMs / 2, 'a full batch waits for nobody');
  await sleep(1);
  t.equal(catalog.getMeta('0'), undefined);
  other.exec('COMMIT');
  await Promise.all(changes);
  t.equal(catalog.getMeta(`${batchMaxChanges}`), '');
});

t.test('changes that take long are written in turns', async (t) => {
  const catalog = openCatalog(':memory:');
  t.teardown(() => catalog.close());
  const batch = new CatalogBatch(catalog);
  const order: string[] = [];
  const slow = (name: string) => () => {
    for (const endMs = performance.now() + 15; performance.now() < endMs; );
    order.push(name);
  };
  await Promise.all([
    batch.run(slow('first')).then(() => order.push('first is written')),
    batch.run(slow('second')),
  ]);
  t.same(order, ['first', 'first is written', 'second']);
});
