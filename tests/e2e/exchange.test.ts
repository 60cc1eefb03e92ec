/** Two standard programs download from a capped seeder, and exchange what each of them has. */

import { join } from 'node:path';
import { aria2 } from '../helpers/bittorrent/aria2.ts';
import { libtorrent } from '../helpers/bittorrent/libtorrent.ts';
import { finished, startDownload } from '../helpers/bittorrent/programs.ts';
import { SwarmLab, sameFiles } from '../helpers/bittorrent/swarm-lab.ts';
import { enterOwnNetwork } from '../helpers/own-network.ts';

const host = enterOwnNetwork(import.meta.filename) ?? '127.0.0.1';
/** Each at an address of its own: libtorrent takes but one connection from an address. */
const addressOf = (index: number): string => host.replace(/\d+$/, String(index + 2));
// Not before: tap writes a plan when a process ends that has loaded it.
const { default: t } = await import('tap');

const sizeBytes = 2 * 1024 * 1024;
const skip = aria2.missing(host) ?? libtorrent.missing(host) ?? false;

t.test('what a capped seeder gives to one program, the other has from there', { skip }, async (t) => {
  const lab = await SwarmLab.open({
    host,
    sizes: [sizeBytes],
    flags: ['--initial-copies', '0', '--capped-rate', '512KiB/s'],
  });
  t.teardown(() => lab.close());
  const [file] = lab.files;
  if (file === undefined) return;
  const programs = [aria2, libtorrent];
  const downloads = await Promise.all(
    programs.map(async (program, index) => {
      const home = join(lab.dir, program.name);
      const download = await startDownload(program, {
        home,
        address: addressOf(index),
        from: { torrent: file.torrent },
      });
      t.teardown(() => download.stop());
      return { home, download };
    }),
  );
  await Promise.all(downloads.map(({ download }) => finished(download)));
  const fromSeeder = await lab.uploadedBytes();
  let exchanged = 0;
  for (const { home, download } of downloads) {
    exchanged += (await download.stop()).uploadedBytes;
    t.ok(await sameFiles(file.path, join(home, 'out', file.name)), 'byte for byte');
  }
  t.ok(exchanged > 0, `they gave each other ${exchanged} bytes`);
  t.ok(fromSeeder < 2 * sizeBytes, `and the seeder less than two copies: ${fromSeeder} bytes`);
});
