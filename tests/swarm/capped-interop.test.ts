/** Real BitTorrent programs download from a seeder that is capped: slowly, but whole. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { torrentFile } from '../../swarm/torrent/torrent-file.ts';
import { NamedTorrents } from '../../swarm/wire/encrypted-handshake.ts';
import { finished, programsOfTests, startDownload } from '../helpers/bittorrent/programs.ts';
import { enterOwnNetwork } from '../helpers/own-network.ts';
import { openTracker, seeding, testCap } from './seed-fixture.ts';

const ownAddress = enterOwnNetwork(import.meta.filename);
const host = ownAddress ?? '127.0.0.1';
// Not before: tap writes a plan when a process ends that has loaded it.
const { default: t } = await import('tap');

const sizeBytes = 1024 * 1024 + 1;

t.jobs = 4;
for (const program of programsOfTests) {
  const skip = program.missing(host) ?? false;
  t.test(`${program.name} downloads from a capped seeder`, { skip, buffered: true }, async (t) => {
    const { cap } = testCap({ initialCopies: 0, cappedBytesPerSecond: 256 * 1024 });
    const named = new NamedTorrents(1);
    const { server, source, held } = await seeding(t, [sizeBytes], { host, named, upload: { cap } });
    const [one] = held;
    if (one === undefined) return;
    named.add(one.torrent.infoHash);
    const tracker = await openTracker(server);
    t.teardown(() => tracker.close());
    const home = join(source.dir, 'home');
    const from = { torrent: torrentFile(one.torrent, { announce: tracker.url }) };
    const download = await startDownload(program, { home, address: host, from });
    t.teardown(() => download.stop());
    await finished(download);
    t.ok((await readFile(join(home, 'out', one.torrent.name))).equals(one.bytes));
    t.equal(server.status().violations, 0, 'and the server found no fault with it');
  });
}
