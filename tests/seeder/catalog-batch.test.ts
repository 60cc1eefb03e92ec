import t from 'tap';
import { openCatalog } from '../../catalog/catalog.ts';
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
