import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { openCatalog } from '../../catalog/catalog.ts';
import { followCatalog, readView } from '../../catalog/follow.ts';
import { openFollowed } from '../../catalog/followed.ts';
import { revocationsView } from '../../catalog/head.ts';
import { secretKeyFromSeed } from '../../nar/signature.ts';
import { storeHashOf } from '../../nar/store-path.ts';
import { openSeeder } from '../../seeder/main.ts';
import { HttpCatalog } from '../../upstream/http-catalog.ts';
import { silentLogger } from '../../web/log.ts';
import { type Built, CacheBuilder } from '../helpers/cache-builder.ts';

const secretKey = secretKeyFromSeed('catalog.test-1', Buffer.alloc(32, 9));

t.test('a list becomes a view with its closure, whole or not at all', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-views-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await mkdir(join(dir, 'cache'));
  const cache = await new CacheBuilder(join(dir, 'cache')).open();
  const built: Built[] = [];
  for (const name of ['library', 'program', 'other']) {
    const references = name === 'program' && built[0] !== undefined ? [built[0].narInfo.storePath] : [];
    built.push(await cache.add({ name, references, tree: { data: randomBytes(1000) } }));
  }
  const [library, program, other] = built;
  if (library === undefined || program === undefined || other === undefined) throw new Error('not built');
  const list = join(dir, 'store-paths');
  await writeFile(list, `${program.narInfo.storePath}\n`);
  const absent = `/nix/store/${'1'.repeat(32)}-absent`;
  await writeFile(join(dir, 'more'), `${other.narInfo.storePath}\n${absent}\n`);
  const anyPort = { host: '127.0.0.1', port: 0 };
  const seeder = await openSeeder({
    ...{ dataDir: join(dir, 'data'), sources: [cache.url], trustedKeys: [cache.publicKey] },
    ...{ secretKey, http: anyPort, peers: anyPort, logger: silentLogger },
    views: [
      { name: 'channel', list },
      { name: 'more', list: join(dir, 'more') },
      { name: 'nothing', list: join(dir, 'nothing') },
    ],
  });
  t.teardown(() => seeder.close());
  await seeder.ingested;
  await seeder.publish();
  t.match(seeder.status().log.views, [
    { name: 'channel', state: 'published', paths: 2, reason: null },
    { name: 'more', state: 'incomplete', paths: 1, reason: /^1 store paths .*1111/ },
    { name: 'nothing', state: 'failed' },
  ]);

  const transport = new HttpCatalog({ url: seeder.url });
  t.teardown(() => transport.close());
  const options = { keys: [secretKey.publicKey], nixStoreDir: '/nix/store', now: Date.now };
  const followed = openFollowed(join(dir, 'followed.sqlite'));
  const ofView = openFollowed(join(dir, 'view.sqlite'));
  t.teardown(() => {
    followed.close();
    ofView.close();
  });
  const viewNow = async () => {
    await followCatalog(followed, transport, options);
    const views = (followed.head()?.views ?? []).filter(({ name }) => name !== revocationsView);
    return views[0] === undefined ? [] : [await readView(ofView, transport, views[0], options), views.length];
  };
  t.match(await viewNow(), [{ state: 'advanced', records: 4 }, 1]);
  for (const { narInfo } of [library, program]) {
    t.equal(ofView.narInfo(storeHashOf(narInfo.storePath))?.text, narInfo.text);
  }
  t.equal(ofView.narInfo(storeHashOf(other.narInfo.storePath)), undefined);

  await writeFile(list, `${program.narInfo.storePath}\n${other.narInfo.storePath}\n`);
  await seeder.publish();
  t.match(await viewNow(), [{ state: 'advanced', records: 6 }, 1], 'another list, another view');
  await writeFile(list, `${program.narInfo.storePath}\n${absent}\n`);
  await seeder.publish();
  t.match(
    await viewNow(),
    [{ state: 'unchanged' }, 1],
    'the earlier one stays while the new one is incomplete',
  );
  const fileHash = followed.narInfo(storeHashOf(library.narInfo.storePath))?.fileHash;
  if (fileHash === undefined) throw new Error('not followed');
  const beside = openCatalog(join(dir, 'data', 'catalog.sqlite'));
  beside.revoke(fileHash, { time: 1_800_000_000, reason: 'it is wrong' });
  beside.close();
  await seeder.publish();
  t.strictSame(await viewNow(), [], 'but not when something in it was revoked');
  t.match(seeder.status().log.views[0], { state: 'incomplete', reason: /^2 store paths/ });
});
