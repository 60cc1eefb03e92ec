/** A pack, downloaded by a standard BitTorrent program, is a substituter as it stands. */

import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { runCommand } from '../cli/run-command.ts';
import { aria2 } from '../helpers/bittorrent/aria2.ts';
import { finished, startDownload } from '../helpers/bittorrent/programs.ts';
import { NixLab, nixMissing } from '../helpers/nix.ts';
import { startProgram, until } from '../helpers/program.ts';

const host = '127.0.0.1';
const paths = 20;
const largeBytes = 300_000;

t.test('Nix fills a store from a downloaded pack', { skip: nixMissing() }, async (t) => {
  const lab = await NixLab.open();
  t.teardown(() => lab.close());
  const cacheDir = join(lab.dir, 'cache');
  await mkdir(cacheDir);
  const closure = await lab.buildChain(paths, largeBytes);
  const target = closure.at(-1) ?? '';
  await lab.copyToCache(closure[9] ?? '', cacheDir, 'zstd');
  await lab.copyToCache(target, cacheDir, 'xz');
  const source = ['--source', `file://${cacheDir}`, '--trusted-key', lab.publicKey];
  const data = ['--data', join(lab.dir, 'seeder')];
  const once = await runCommand(['seeder', ...data, ...source, '--once']);
  t.match(once.out, `${paths} of at most 1 MiB wait for one`);
  const listen = ['--http', `${host}:0`, '--peers', `${host}:0`];
  const seeder = await startProgram(['seeder', ...data, ...source, ...listen, '--pack-age', '0s']);
  t.teardown(() => seeder.stop());
  await until(async () => ((await seeder.status()) as { packs: { nars: number } }).packs.nars === paths);
  const { catalog, packs } = (await seeder.status()) as {
    catalog: { publicKey: string };
    packs: { closed: number };
  };
  t.equal(packs.closed, 1);
  const [meta = ''] = await readdir(join(lab.dir, 'seeder', 'packs'));
  const infoHash = meta.split('.')[0] ?? '';
  const get = async (path: string): Promise<Buffer> =>
    Buffer.from(await (await fetch(`${seeder.url}/${path}`)).arrayBuffer());
  const manifest = join(lab.dir, `${infoHash}.packinfo`);
  await writeFile(manifest, await get(`${infoHash}.packinfo`));
  const torrent = await get(`${infoHash}.torrent`);
  const tracker = encodeURIComponent(`${seeder.url}/announce`);
  const magnet = `magnet:?xt=urn:btih:${infoHash}&tr=${tracker}`;

  let name = '';
  const skip = aria2.missing(host) ?? false;
  for (const kind of ['torrent', 'magnet'] as const) {
    await t.test(`downloaded by aria2, from ${kind}`, { skip }, async (t) => {
      const home = join(lab.dir, `aria2-${kind}`);
      const from = kind === 'magnet' ? { magnet } : { torrent };
      const download = await startDownload(aria2, { home, address: host, from });
      t.teardown(() => download.stop());
      await finished(download);
      await download.stop();
      name = (await readdir(join(home, 'out'))).find((each) => each.endsWith('.pack')) ?? '';
      const dir = join(home, 'out', name);
      const store = `aria2-${kind}`;
      await lab.realise({ store, path: target, substituters: [`file://${dir}`] });
      await lab.verify(store);
      t.strictSame(await lab.narHashes(store, [target]), await lab.narHashes('build', [target]));

      const keys = ['--trusted-key', lab.publicKey, '--catalog-key', catalog.publicKey];
      const good = await runCommand(['verify', dir, manifest, '--files', dir, ...keys]);
      t.equal(good.status, 0, good.out);
      t.match(good.out, `${paths} of ${paths}: format, name, signature, NAR file`);
      t.match(good.out, new RegExp(`ok .* infohash +${infoHash}$`, 'm'));
    });
  }

  await t.test('and made again from its manifest and the cache', async (t) => {
    const out = join(lab.dir, 'again.torrent');
    const again = await runCommand(['torrent', manifest, '--files', cacheDir, '--out', out]);
    t.equal(again.status, 0, again.errors);
    t.match(again.out, new RegExp(`^infohash +${infoHash}$`, 'm'));
    t.match(
      (await readFile(out)).length,
      torrent.length - `8:announce${seeder.url.length + 9}:${seeder.url}/announce`.length,
    );
  });
});
