import { execFile } from 'node:child_process';
import { readdir, stat } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { openCatalog } from '../../catalog/catalog.ts';
import { parsePack, verifyPack } from '../../catalog/pack.ts';
import { remakePack } from '../../parts/remake-pack.ts';
import { makeNar } from '../helpers/cache-builder.ts';
import { catalogKey, openPackLab, partsOf } from './pack-lab.ts';

const run = promisify(execFile);
const child = fileURLToPath(new URL('./pack-child.ts', import.meta.url));
/** Enough for two packs, of which the first is noted in two turns. */
const narFiles = 110;
/** Where it is killed, one after the other: before the so many-th call of a method. */
const kills = [
  ['open', 30],
  // The 65 to 99 of the first pack are looked at, then read.
  ['open', 100],
  ['write', 1],
  ['nameIt', 1],
  ['put', 1],
  ['putPlaces', 1],
  ['putPlaces', 2],
  ['complete', 1],
  ['onClosed', 1],
] as const;

t.test('killed at any step of closing a pack, it leaves whole packs and goes on', async (t) => {
  const { cache, dir, start } = await openPackLab(t);
  for (let n = 0; n < narFiles; n++) {
    const nar = makeNar({ data: `${n} `.repeat(20) });
    await cache.add({ name: `n${n}`, nar, compression: 'none' });
  }
  await (await start({ sizeBytes: 0 })).close();
  const data = `${dir}/data`;

  /** Everything that was promised holds. Gives how many packs there are, and how many NAR files wait. */
  const look = async (): Promise<{ packs: number; waiting: number }> => {
    const db = new DatabaseSync(`${data}/catalog.sqlite`);
    t.strictSame(db.prepare('PRAGMA integrity_check').all().map(Object.values), [['ok']]);
    const twice =
      'SELECT count(*) AS n FROM unpacked u JOIN nar_file f ON f.id = u.nar_file JOIN pack_nar k USING (file_hash)';
    t.equal(db.prepare(twice).get()?.n, 0, 'none waits that is in a pack');
    db.close();
    const catalog = openCatalog(`${data}/catalog.sqlite`);
    try {
      const infoHashes = catalog.packs.list(undefined, 100);
      const { closed, nars, unpacked } = catalog.packs.counts();
      t.equal(infoHashes.length, closed);
      let packed = 0;
      for (const infoHash of infoHashes) {
        const pack = parsePack(catalog.packs.manifest(infoHash) ?? '');
        t.ok(verifyPack(pack, [catalogKey.publicKey]));
        const entry = catalog.packs.get(infoHash);
        t.equal((await stat(`${data}/packs/${infoHash}.meta`)).size, entry?.metaBytes);
        for (const { fileHash } of pack.narFiles)
          if (catalog.packs.packOf(fileHash)?.infoHash !== infoHash) t.fail(fileHash);
        packed += pack.narFiles.length;
      }
      t.equal(packed, nars);
      return { packs: closed, waiting: unpacked.nars };
    } finally {
      catalog.close();
    }
  };

  const close = async (...at: readonly (string | number)[]): Promise<string> => {
    const { stdout } = await run(process.execPath, [child, data, ...at.map(String)]).catch(
      (error: unknown) => {
        if (error instanceof Error && 'signal' in error && error.signal === 'SIGKILL')
          return { stdout: 'killed' };
        throw error;
      },
    );
    return stdout.trim();
  };
  t.match(await look(), { packs: 0, waiting: narFiles });
  for (const at of kills) {
    t.equal(await close(...at), 'killed', at.join(' '));
    const { packs, waiting } = await look();
    // The first one is finished by the start after the last kill, which is killed after the second.
    t.equal(packs, at[0] === 'onClosed' ? 2 : 0);
    t.equal(
      waiting === narFiles,
      !['putPlaces', 'complete', 'onClosed'].includes(at[0]) || at.join() === 'putPlaces,1',
    );
  }
  t.equal(await close(), 'end');
  const end = await look();
  t.equal(end.waiting, 0);
  const catalog = openCatalog(`${data}/catalog.sqlite`);
  t.teardown(() => catalog.close());
  t.same(catalog.packs.incomplete(), []);
  for (const infoHash of catalog.packs.list(undefined, 100)) {
    const pack = parsePack(catalog.packs.manifest(infoHash) ?? '');
    t.match(await remakePack(pack, partsOf(cache), new AbortController().signal), { torrent: { infoHash } });
  }
  const names = await readdir(`${data}/packs`);
  t.same(
    names.sort(),
    catalog.packs
      .list(undefined, 100)
      .map((infoHash) => `${infoHash}.meta`)
      .sort(),
    'nothing is left over',
  );
});
