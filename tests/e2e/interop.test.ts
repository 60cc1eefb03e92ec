/** Standard BitTorrent programs download from a running seeder, which is their tracker as well. */

import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { finished, programsOfTests, startDownload } from '../helpers/bittorrent/programs.ts';
import { published, sameFiles, seederStatus } from '../helpers/bittorrent/swarm-lab.ts';
import { NixLab, nixMissing } from '../helpers/nix.ts';
import { enterOwnNetwork } from '../helpers/own-network.ts';
import { startProgram, untilIngested } from '../helpers/program.ts';

const ownAddress = enterOwnNetwork(import.meta.filename);
const host = ownAddress ?? '127.0.0.1';
// Not before: tap writes a plan when a process ends that has loaded it.
const { default: t } = await import('tap');

const contentBytes = 1_500_000;

t.jobs = 4;

t.test('NAR files made by Nix are downloaded whole from a seeder', { skip: nixMissing() }, async (t) => {
  const lab = await NixLab.open();
  t.teardown(() => lab.close());
  const cacheDir = join(lab.dir, 'cache');
  await mkdir(cacheDir);
  // Each download has a NAR file of its own, so that it comes from the seeder and from no other program.
  const downloads = programsOfTests.flatMap((program) =>
    (['torrent', 'magnet'] as const).map((kind) => ({ program, kind, name: `${program.name}-${kind}` })),
  );
  const paths = new Map<string, string>();
  for (const { name } of downloads) {
    // Added, not built: inside the namespace Nix has no right to the sandbox of a build.
    const content = join(lab.dir, name);
    await mkdir(content);
    await writeFile(join(content, 'data'), randomBytes(contentBytes));
    const path = await lab.addPath(content, name);
    await lab.copyToCache(path, cacheDir, 'xz');
    paths.set(name, path);
  }
  const seeder = await startProgram([
    'seeder',
    ...['--data', join(lab.dir, 'seeder'), '--source', `file://${cacheDir}`, '--trusted-key', lab.publicKey],
    ...['--http', `${host}:0`, '--peers', `${host}:0`],
  ]);
  t.teardown(() => seeder.stop());
  await untilIngested(seeder, downloads.length);

  t.jobs = 4;
  let wantedBytes = 0;
  const tests = downloads.map(({ program, kind, name }) => {
    const skip = program.missing(host) ?? false;
    return t.test(`${program.name}, from ${kind}`, { skip, buffered: true }, async (t) => {
      const storeHash = paths.get(name)?.slice('/nix/store/'.length).slice(0, 32);
      const file = await published(seeder, cacheDir, `${storeHash}.narinfo`);
      const home = join(lab.dir, `home-${name}`);
      const from = kind === 'magnet' ? { magnet: file.magnet } : { torrent: file.torrent };
      const download = await startDownload(program, { home, address: host, from });
      t.teardown(() => download.stop());
      await finished(download);
      t.ok(await sameFiles(file.path, join(home, 'out', file.name)), 'byte for byte');
      wantedBytes += file.sizeBytes;
    });
  });
  await Promise.all(tests);
  const { swarm } = seederStatus.parse(await seeder.status());
  t.ok(swarm.uploadedBytes >= wantedBytes, 'over BitTorrent');
});
