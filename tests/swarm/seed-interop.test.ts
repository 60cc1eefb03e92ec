/** Real BitTorrent programs download from the seed server, from a .torrent and from a magnet link. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { magnetLink, torrentFile } from '../../swarm/torrent/torrent-file.ts';
import { NamedTorrents } from '../../swarm/wire/encrypted-handshake.ts';
import { finished, programsOfTests, startDownload } from '../helpers/bittorrent/programs.ts';
import { enterOwnNetwork } from '../helpers/own-network.ts';
import type { Held } from './seed-fixture.ts';
import { openTracker, seeding } from './seed-fixture.ts';

const ownAddress = enterOwnNetwork(import.meta.filename);
const host = ownAddress ?? '127.0.0.1';
// Not before: tap writes a plan when a process ends that has loaded it.
const { default: t } = await import('tap');

const sizes = [16 * 1024 - 1, 1024 * 1024 + 1, 40 * 1024 * 1024 + 12_345];

t.jobs = 4;
for (const program of programsOfTests) {
  for (const from of ['.torrent', 'magnet'] as const) {
    const skip = program.missing(host) ?? false;
    t.test(`${program.name} downloads whole files from ${from}`, { skip, buffered: true }, async (t) => {
      // webtorrent comes with an encrypted handshake.
      const named = new NamedTorrents(sizes.length);
      const { server, source, held } = await seeding(t, sizes, { host, named });
      for (const { torrent } of held) named.add(torrent.infoHash);
      const tracker = await openTracker(server);
      t.teardown(() => tracker.close());
      const downloadOne = async ({ torrent, bytes }: Held): Promise<void> => {
        const trackers = [tracker.url];
        const home = join(source.dir, `home-${torrent.length}`);
        const download = await startDownload(program, {
          home,
          address: host,
          from:
            from === 'magnet'
              ? { magnet: magnetLink(torrent, { trackers }) }
              : { torrent: torrentFile(torrent, { announce: tracker.url }) },
        });
        t.teardown(() => download.stop());
        await finished(download);
        const got = await readFile(join(home, 'out', torrent.name));
        t.ok(got.equals(bytes), `${torrent.length} bytes: they are the same`);
      };
      // At once, since some programs spend most of the time waiting for their own timers.
      await Promise.all(held.map(downloadOne));
      const status = server.status();
      t.ok(status.uploadedBytes >= sizes.reduce((a, b) => a + b), 'everything came from the server');
      t.equal(status.violations, 0, 'which found no fault with the peers');
      if (from === 'magnet') t.ok(status.metadataPieces >= sizes.length, 'the metadata was fetched, too');
    });
  }
}
