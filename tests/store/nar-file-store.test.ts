/** The promises of the store's port, kept by each of its adapters. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openDirectoryStore } from '../../store/directory-store.ts';
import { MemoryStore } from '../../store/memory-store.ts';
import type { NarFileStore } from '../../store/nar-file-store.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

const name = `${'0'.repeat(51)}1.nar.xz`;
const other = `${'1'.repeat(52)}.nar`;

const adapters: Record<string, (t: Test) => Promise<NarFileStore>> = {
  async 'directory store'(t) {
    const directory = await mkdtemp(join(tmpdir(), 'narswarm-store-'));
    t.teardown(() => rm(directory, { recursive: true, force: true }));
    return openDirectoryStore(directory);
  },
  async 'memory store'() {
    return new MemoryStore();
  },
};

for (const [title, make] of Object.entries(adapters)) {
  t.test(title, async (t) => {
    const promise = (title: string, check: (t: Test, store: NarFileStore) => Promise<void>): void => {
      t.test(title, async (t) => {
        provesNothingStaysOpen(t);
        const store = await make(t);
        t.teardown(() => store.close());
        await check(t, store);
      });
    };

    promise('what is committed is read back, whole and in parts', async (t, store) => {
      const bytes = Buffer.from('a NAR file, for all that the store knows');
      const writer = await store.create(name);
      await writer.write(bytes.subarray(0, 10));
      await writer.write(bytes.subarray(10));
      await writer.commit();
      const handle = await store.open(name);
      t.ok(handle);
      t.equal(handle?.sizeBytes, bytes.length);
      t.same(await handle?.read(0, bytes.length), bytes);
      t.same(await handle?.read(7, 5), bytes.subarray(7, 12));
      t.same(await handle?.read(bytes.length, 0), Buffer.alloc(0));
      await handle?.close();
      await handle?.close();
    });

    promise('what is committed without being forced to the disk is read back as well', async (t, store) => {
      const writer = await store.create(name);
      await writer.write(Buffer.from('abc'));
      await writer.commit({ durable: false });
      const file = await store.open(name);
      t.same(await file?.read(0, 3), Buffer.from('abc'));
      await file?.close();
    });

    promise('a file that was never committed is absent', async (t, store) => {
      t.equal(await store.open(name), undefined);
      const writer = await store.create(name);
      await writer.write(Buffer.from('half'));
      t.equal(await store.open(name), undefined);
      t.same(await listed(store), []);
      await writer.abort();
      t.equal(await store.open(name), undefined);
    });

    promise('a reader can have what is written so far, and no more', async (t, store) => {
      const writer = await store.create(name);
      await writer.write(Buffer.from('abcdef'));
      t.equal(writer.sizeBytes, 6);
      t.same(await writer.read(2, 3), Buffer.from('cde'));
      await t.rejects(writer.read(4, 3), { code: 'store-failed' });
      await writer.write(Buffer.from('ghi'));
      t.same(await writer.read(4, 5), Buffer.from('efghi'));
      await writer.commit();
      t.same(await writer.read(0, 9), Buffer.from('abcdefghi'), 'and goes on after the commit');
    });

    promise('writes that overlap land in their order', async (t, store) => {
      const writer = await store.create(name);
      const parts = Array.from({ length: 20 }, (_, at) => Buffer.alloc(1 + (at % 3), 65 + at));
      await Promise.all(parts.map((part) => writer.write(part)));
      t.same(await writer.read(0, writer.sizeBytes), Buffer.concat(parts));
      await writer.abort();
    });

    promise('an empty file is a file', async (t, store) => {
      const writer = await store.create(name);
      await writer.commit();
      const handle = await store.open(name);
      t.equal(handle?.sizeBytes, 0);
      await handle?.close();
    });

    promise('commit and abort may be repeated, and the first of them counts', async (t, store) => {
      const kept = await store.create(name);
      await kept.write(Buffer.from('kept'));
      await Promise.all([kept.commit(), kept.commit()]);
      await kept.abort();
      await t.rejects(kept.write(Buffer.from('more')), { code: 'store-failed' });
      const dropped = await store.create(other);
      await Promise.all([dropped.abort(), dropped.abort()]);
      await t.rejects(dropped.commit(), { code: 'store-failed' });
      await t.rejects(dropped.write(Buffer.from('more')), { code: 'store-failed' });
      t.same(await listed(store), [{ name, sizeBytes: 4 }]);
    });

    promise('two writers of one name do not disturb each other', async (t, store) => {
      const [first, second] = [await store.create(name), await store.create(name)];
      await first.write(Buffer.from('same'));
      await second.write(Buffer.from('sa'));
      await first.commit();
      await second.write(Buffer.from('me'));
      await second.commit();
      const handle = await store.open(name);
      t.same(await handle?.read(0, 4), Buffer.from('same'));
      await handle?.close();
      t.equal((await listed(store)).length, 1);
    });

    promise('a removed file is absent, and still whole to who has it open', async (t, store) => {
      const writer = await store.create(name);
      await writer.write(Buffer.from('bytes'));
      await writer.commit();
      const handle = await store.open(name);
      await store.remove(name);
      await store.remove(name);
      t.equal(await store.open(name), undefined);
      t.same(await handle?.read(0, 5), Buffer.from('bytes'));
      await handle?.close();
      t.same(await listed(store), []);
    });

    promise('reading outside of a file is an error, never other bytes', async (t, store) => {
      const writer = await store.create(name);
      await writer.write(Buffer.from('bytes'));
      await writer.commit();
      const handle = await store.open(name);
      for (const [position, lengthBytes] of [
        [0, 6],
        [5, 1],
        [-1, 1],
        [0, -1],
        [0.5, 1],
        [Number.NaN, 1],
      ] as const) {
        await t.rejects(Promise.resolve(handle?.read(position, lengthBytes)), { code: 'store-failed' });
      }
      await handle?.close();
    });

    promise('a name that is not that of a NAR file leads nowhere', async (t, store) => {
      const names = [
        '',
        '.',
        '..',
        '../x',
        '/etc/passwd',
        `../${name}`,
        `a/${name}`,
        `${name}/..`,
        `${name}\0`,
      ];
      for (const bad of [...names, 'tmp', `${name}.part`, name.toUpperCase(), name.replace('0', 'e')]) {
        await t.rejects(store.open(bad), { code: 'path-escapes' }, JSON.stringify(bad));
        await t.rejects(store.create(bad), { code: 'path-escapes' });
        await t.rejects(store.remove(bad), { code: 'path-escapes' });
      }
    });

    promise('every committed file is listed with its size', async (t, store) => {
      for (const [index, each] of [name, other].entries()) {
        const writer = await store.create(each);
        await writer.write(Buffer.alloc(index + 1));
        await writer.commit();
      }
      const found = (await listed(store)).sort((a, b) => a.sizeBytes - b.sizeBytes);
      t.same(found, [
        { name, sizeBytes: 1 },
        { name: other, sizeBytes: 2 },
      ]);
    });

    promise('a closed store has given up its writers and takes no more', async (t, store) => {
      const writer = await store.create(name);
      await writer.write(Buffer.from('half'));
      await Promise.all([store.close(), store.close()]);
      await t.rejects(writer.commit(), { code: 'store-failed' });
      await t.rejects(store.open(name), { code: 'store-failed' });
      await t.rejects(store.create(name), { code: 'store-failed' });
      await t.rejects(listed(store), { code: 'store-failed' });
    });
  });
}

async function listed(store: NarFileStore): Promise<{ name: string; sizeBytes: number }[]> {
  const found = [];
  for await (const file of store.list()) found.push(file);
  return found;
}
