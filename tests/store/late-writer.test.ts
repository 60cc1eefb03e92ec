import t, { type Test } from 'tap';
import { openDirectoryStore } from '../../store/directory-store.ts';
import { LateWriter } from '../../store/late-writer.ts';
import type { NarFileStore, NarFileWriter } from '../../store/nar-file-store.ts';

const name = `${'0'.repeat(52)}.nar`;

async function opened(
  t: Test,
): Promise<{ store: NarFileStore; writer: LateWriter; created: NarFileWriter[] }> {
  const store = await openDirectoryStore(t.testdir());
  t.teardown(() => store.close());
  const created: NarFileWriter[] = [];
  const writer = new LateWriter(async () => {
    const each = await store.create(name);
    created.push(each);
    return each;
  });
  return { store, writer, created };
}

t.test('nothing is written before the end, and then all of it', async (t) => {
  const { store, writer, created } = await opened(t);
  const writes = [writer.write(Buffer.from('first ')), writer.write(Buffer.from('second'))];
  t.equal(writer.sizeBytes, 12);
  t.equal((await writer.read(4, 5)).toString(), 't sec');
  t.equal(created.length, 0);
  await writer.commit({ durable: false });
  await Promise.all(writes);
  const file = await store.open(name);
  t.equal((await file?.read(0, 12))?.toString(), 'first second');
  await file?.close();
  t.equal((await writer.read(0, 5)).toString(), 'first', 'also once it is on the disk');
  await writer.commit();
  await writer.abort();
  t.equal(created.length, 1, 'once');
  await t.rejects(writer.write(Buffer.from('more')), { code: 'store-failed' });
});

t.test('one that is given up leaves nothing, and lets go of what it was given', async (t) => {
  const { store, writer, created } = await opened(t);
  const written = writer.write(Buffer.from('bytes'));
  await writer.abort();
  await written;
  await t.rejects(writer.commit(), { code: 'store-failed' });
  await t.rejects(writer.read(0, 5), { code: 'store-failed' });
  t.equal(created.length, 0);
  t.equal(await store.open(name), undefined);
});

t.test('a disk that takes nothing is told to whoever commits and to whoever wrote', async (t) => {
  const { store, writer } = await opened(t);
  const written = writer.write(Buffer.from('bytes'));
  const refused = t.rejects(written, { code: 'store-failed' });
  await store.close();
  await t.rejects(writer.commit(), { code: 'store-failed' });
  await refused;
});
