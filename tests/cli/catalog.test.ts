import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parseHead } from '../../catalog/head.ts';
import { segmentName } from '../../catalog/segment.ts';
import { printPublicKey, secretKeyFromSeed } from '../../nar/signature.ts';
import { openSeeder, type Seeder } from '../../seeder/main.ts';
import { silentLogger } from '../../web/log.ts';
import { type Built, CacheBuilder, sha256 } from '../helpers/cache-builder.ts';
import { runCommand } from './run-command.ts';

const secretKey = secretKeyFromSeed('catalog.test-1', Buffer.alloc(32, 9));
const key = printPublicKey(secretKey.publicKey);
const otherKey = printPublicKey(secretKeyFromSeed('other.test-1', Buffer.alloc(32, 8)).publicKey);

async function open(t: Test): Promise<{ dir: string; seeder: Seeder; built: Built[] }> {
  const dir = t.testdir();
  await mkdir(join(dir, 'cache'));
  const cache = await new CacheBuilder(join(dir, 'cache')).open();
  const built: Built[] = [];
  for (const name of ['one', 'two']) built.push(await cache.add({ name, tree: { data: randomBytes(1000) } }));
  const anyPort = { host: '127.0.0.1', port: 0 };
  const seeder = await openSeeder({
    ...{ dataDir: join(dir, 'data'), sources: [cache.url], trustedKeys: [cache.publicKey] },
    ...{ secretKey, http: anyPort, peers: anyPort, logger: silentLogger },
  });
  t.teardown(() => seeder.close());
  await seeder.ingested;
  await seeder.publish();
  return { dir, seeder, built };
}

t.test('a catalog is followed, a NAR file is revoked beside its seeder, and followed again', async (t) => {
  const { dir, seeder, built } = await open(t);
  const data = join(dir, 'followed');
  const follow = (...more: string[]) =>
    runCommand(['catalog', seeder.url, '--data', data, '--keep-files', ...more]);
  t.match(await follow(), { status: 2 }, 'not without a key');
  t.match(await follow('--catalog-key', otherKey), { status: 1 });
  const first = await follow('--catalog-key', key);
  t.equal(first.status, 0, first.errors);
  t.match(
    first.out,
    /^head {5}1 of .*advanced\nrecords {2}4 in 1 segments\nholds {4}2 NAR files, 2 narinfos/,
  );
  t.match(first.out, `key      ${key}`);

  const [bad] = built;
  if (bad === undefined) throw new Error('nothing was built');
  const seederData = join(dir, 'data');
  const revoke = (...args: string[]) => runCommand(['revoke', ...args]);
  t.match(await revoke(bad.narInfo.storePath, '--data', seederData), { status: 2 }, 'not without a reason');
  const reason = ['--reason', 'it is another one'];
  t.match(
    await revoke(bad.narInfo.storePath, ...reason, '--data', dir),
    { status: 2 },
    'not without a catalog',
  );
  t.match(await revoke('nonsense', ...reason, '--data', seederData), { status: 2 });
  const absent = `/nix/store/${'0'.repeat(32)}-absent`;
  t.match(await revoke(absent, ...reason, '--data', seederData), { status: 1 });
  t.match(await revoke(sha256(bad.narFile), '--reason', 'two\nlines', '--data', seederData), { status: 2 });
  const revoked = await revoke(bad.narInfo.storePath, ...reason, '--data', seederData);
  t.match(revoked, { status: 0, out: `${sha256(bad.narFile)} revoked\n` });
  const again = await revoke(sha256(bad.narFile), ...reason, '--data', seederData);
  t.match(again, { status: 0, out: /was revoked before/ });
  await seeder.publish();
  t.match((await follow('--catalog-key', key)).out, /holds {4}1 NAR files, 1 narinfos, 0 packs, 1 revoked/);

  const head = join(data, 'catalog', 'head');
  const verified = await runCommand(['verify', head, '--catalog-key', key]);
  t.equal(verified.status, 0, verified.out);
  t.match(verified.out, /ok .* signature .*catalog\.test-1\n/);
  t.match(verified.out, /ok .* records up to 5 /);
  const [segment] = parseHead(await readFile(head, 'latin1')).segments;
  if (segment === undefined) throw new Error('no segment');
  const file = join(data, 'catalog', segmentName(segment.sha256));
  const records = await runCommand(['verify', file]);
  t.match(records, { status: 0, out: /2 torrentinfo, 2 narinfo/ });
  await writeFile(file, (await readFile(file)).subarray(1));
  t.equal((await runCommand(['verify', file])).status, 1);
  t.match(await runCommand(['verify', head, '--catalog-key', key]), { status: 1, out: /segment-mismatch/ });
});
