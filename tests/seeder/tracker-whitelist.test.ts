/** The whitelist for another tracker: always whole, and never older than a moment. */

import { readdir, readFile, watch } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openCatalog } from '../../catalog/catalog.ts';
import { TrackerWhitelist } from '../../seeder/tracker-whitelist.ts';
import { makeLogger } from '../../web/log.ts';
import { narInfoName, row, source } from '../catalog/made-rows.ts';

const logger = makeLogger({ level: 'error' });

/** Waits until the file has so many lines. */
async function lines(t: Test, dir: string, file: string, count: number): Promise<string[]> {
  const read = async (): Promise<string[]> =>
    (await readFile(join(dir, file), 'utf8').catch(() => '')).split('\n').slice(0, -1);
  const ending = new AbortController();
  t.teardown(() => ending.abort());
  // Watching begins before the first look, so that nothing is missed in between.
  const changes = watch(dir, { signal: ending.signal })[Symbol.asyncIterator]();
  for (;;) {
    const next = changes.next();
    next.catch(() => {});
    const found = await read();
    if (found.length === count) return found;
    await next;
  }
}

t.test(
  'every torrent of the catalog, again after each change, and a command after each version',
  async (t) => {
    const dir = t.testdir();
    const catalog = openCatalog(':memory:');
    t.teardown(() => catalog.close());
    catalog.transaction(() => {
      for (let n = 0; n < 2_500; n++) catalog.accept(row(n, n === 0 ? { compression: 'none' } : {}));
    });
    const file = join(dir, 'whitelist.txt');
    const reloadCommand = `wc -l < ${file} >> ${join(dir, 'reloads.txt')}`;
    const whitelist = new TrackerWhitelist({ catalog, file, reloadCommand, logger, everyMs: 1 });
    t.teardown(() => whitelist.close());

    const first = await lines(t, dir, 'whitelist.txt', 4_999);
    t.equal(new Set(first).size, 4_999, 'the uncompressed one has one torrent, the others have two');
    const { infoHash, narInfoHash } = row(2_499).entry;
    t.ok(first.includes(infoHash) && first.includes(narInfoHash));
    t.ok(first.every((line) => /^[0-9a-f]{40}$/.test(line)));

    catalog.forget(source, narInfoName(2_499));
    const second = await lines(t, dir, 'whitelist.txt', 4_997);
    t.notOk(second.includes(infoHash));
    const reloads = await lines(t, dir, 'reloads.txt', 2);
    t.same(reloads.map(Number), [4_999, 4_997]);

    await Promise.all([whitelist.close(), whitelist.close()]);
    t.same((await readdir(dir)).sort(), ['reloads.txt', 'whitelist.txt']);
  },
);

t.test('a directory that cannot be written to is told, and tried again', async (t) => {
  const dir = t.testdir();
  const catalog = openCatalog(':memory:');
  t.teardown(() => catalog.close());
  const said: string[] = [];
  const failed = new Promise<void>((resolve) => {
    const note = (event: string): void => {
      if (said.push(event) === 2) resolve();
    };
    const file = join(dir, 'missing', 'whitelist.txt');
    const silent = { ...logger, info: () => {}, error: note };
    const whitelist = new TrackerWhitelist({ catalog, file, logger: silent, everyMs: 1 });
    t.teardown(() => whitelist.close());
  });
  await failed;
  t.same(said, ['whitelist-failed', 'whitelist-failed']);
});
