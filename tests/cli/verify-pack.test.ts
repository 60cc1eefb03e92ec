import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { packFiles, packInfoName, packName, parsePack, printPack } from '../../catalog/pack.ts';
import { printPublicKey } from '../../nar/signature.ts';
import { sha256 } from '../helpers/cache-builder.ts';
import { addChain, catalogKey, fetchManifest, openPackLab, resolvePacks } from '../seeder/pack-lab.ts';
import { runCommand } from './run-command.ts';

const catalogKeyText = printPublicKey(catalogKey.publicKey);

/** A cache, the manifest of a pack of all of it, and the key of the cache. */
async function packed(t: Test) {
  const { cache, dir, start } = await openPackLab(t);
  const built = await addChain(cache, 'chain', [100, 70_000, 2_000]);
  const seeder = await start({ ageMs: 0 });
  await seeder.closePacks();
  const [place] = await resolvePacks(
    seeder,
    built.map(({ narFile }) => sha256(narFile)),
  );
  const pack = await fetchManifest(seeder, place?.infoHash ?? '');
  await seeder.close();
  const manifest = join(dir, packInfoName(pack.infoHash));
  await writeFile(manifest, printPack(pack));
  return { dir, cache: cache.directory, manifest, pack, key: printPublicKey(cache.publicKey) };
}

t.test('a manifest is checked with the files of a cache, and its torrent made again', async (t) => {
  const { cache, manifest, pack } = await packed(t);
  const keys = ['--catalog-key', catalogKeyText];
  const alone = await runCommand(['verify', manifest, ...keys]);
  t.equal(alone.status, 0, alone.out);
  t.match(alone.out, /^- .* files +\S+\.pack is not beside the manifest/m);
  const good = await runCommand(['verify', manifest, '--files', cache, ...keys]);
  t.equal(good.status, 0, good.out);
  t.match(good.out, /^ok .* signature +catalog\.test-1$/m);
  t.match(good.out, /^ok .* files +3 narinfos, 3 NAR files$/m);
  t.match(good.out, new RegExp(`^ok .* infohash +${pack.infoHash}$`, 'm'));
  const made = await runCommand(['torrent', manifest, '--files', cache]);
  t.match(made.out, new RegExp(`^infohash +${pack.infoHash}$`, 'm'));
  t.match(made.out, new RegExp(`^name +${packName(pack)}$`, 'm'));

  const [narFile] = pack.narFiles;
  const path = join(
    cache,
    packFiles(pack)
      .find((file) => file.narFile === undefined && file.narInfo)
      ?.path.join('/') ?? '',
  );
  await writeFile(path, (await readFile(path, 'utf8')).replace(/^Sig: .*$/m, 'Sig: other:x'));
  const altered = await runCommand(['verify', manifest, '--files', cache, ...keys]);
  t.equal(altered.status, 1);
  t.match(altered.out, /^FAIL .* file +\w+\.narinfo: another (hash|size)$/m);
  t.match(altered.out, /^FAIL .* files +1 of 6 are not what the manifest says$/m);
  await rm(join(cache, 'nar', `${narFile?.fileHash}.nar${narFile?.compression === 'xz' ? '.xz' : ''}`));
  const missing = await runCommand(['torrent', manifest, '--files', cache]);
  t.equal(missing.status, 1);
  t.match(missing.errors, /does not have all of the pack: 2 files/);
});

t.test('a manifest that was altered, or that another key signed, is told', async (t) => {
  const { cache, manifest, pack } = await packed(t);
  await writeFile(manifest, printPack({ ...pack, narFiles: pack.narFiles.toReversed() }));
  const keys = ['--catalog-key', catalogKeyText];
  const altered = await runCommand(['verify', manifest, '--files', cache, ...keys]);
  t.equal(altered.status, 1);
  t.match(altered.out, /^FAIL .* signature +none by a --catalog-key/m);
  t.match(altered.out, /^FAIL .* infohash/m);
  t.equal((await runCommand(['torrent', manifest, '--files', cache])).status, 1);
  await writeFile(manifest, 'Format: narswarm-pack-1\n');
  const corrupt = await runCommand(['verify', manifest, ...keys]);
  t.match(corrupt.out, /^FAIL .* format +pack-corrupt: .*StoreDir is missing/m);
  t.ok(parsePack(printPack(pack)));
});

t.test('a downloaded pack is checked narinfo by narinfo', async (t) => {
  const { cache, dir, key } = await packed(t);
  const copy = join(dir, 'copy.pack');
  await cp(cache, copy, { recursive: true });
  const good = await runCommand(['verify', copy, '--trusted-key', key]);
  t.equal(good.status, 0, good.out);
  t.match(good.out, /^ok .* narinfos +3 of 3: /m);
  await writeFile(join(copy, 'nar', 'stray.nar'), 'x');
  const [first = ''] = await readdir(join(copy, 'nar'));
  await rm(join(copy, 'nar', first));
  await rm(join(copy, 'nix-cache-info'));
  const bad = await runCommand(['verify', copy, '--trusted-key', key]);
  t.equal(bad.status, 1);
  t.match(bad.out, /^FAIL .* nix-cache-info/m);
  t.match(bad.out, /^FAIL .* NAR file +\w+\.narinfo: nar\/\S+ is not beside the narinfo$/m);
  t.match(bad.out, /^FAIL .* narinfos +2 of 3: /m);
  t.match(bad.out, /^- .* NAR file +no narinfo names nar\/stray\.nar$/m);
  const untrusted = await runCommand(['verify', copy]);
  t.match(untrusted.out, /^FAIL .* signature +\w+\.narinfo: none by a --trusted-key/m);
});
