/** Debian's opentracker with our configuration, its whitelist written by the seeder; standard programs download through it, and through UDP. */

import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parseInfoHash } from '../../nar/hash.ts';
import { type BencodeValue, parseBencode } from '../../swarm/bencode.ts';
import { parseTorrentFile } from '../../swarm/torrent/torrent-file.ts';
import { announce } from '../../swarm/tracker/tracker-client.ts';
import { aria2 } from '../helpers/bittorrent/aria2.ts';
import { Child, freePort, missingProgram } from '../helpers/bittorrent/child.ts';
import { libtorrent } from '../helpers/bittorrent/libtorrent.ts';
import { finished, startDownload } from '../helpers/bittorrent/programs.ts';
import { SwarmLab, sameFiles } from '../helpers/bittorrent/swarm-lab.ts';
import { until } from '../helpers/program.ts';

const host = '127.0.0.1';
const configFile = join(import.meta.dirname, '../../tracker-config/opentracker/opentracker.conf');
const about = { peerId: Buffer.alloc(20, 'x'), port: 1, uploaded: 0, downloaded: 0, left: 1, numWant: 0 };

/** Our configuration, at another address and with another directory. */
async function configIn(dir: string, port: number): Promise<string> {
  const config = (await readFile(configFile, 'utf8'))
    .replace('0.0.0.0:6969', `${host}:${port}`)
    .replace(/^tracker\.rootdir .*$/m, `tracker.rootdir ${dir}`)
    .replace(/^tracker\.user .*$/m, 'tracker.user nobody');
  const file = join(dir, 'opentracker.conf');
  await writeFile(file, config);
  return file;
}

function texts(value: BencodeValue | undefined): unknown {
  return Array.isArray(value) ? value.map(texts) : String(value);
}

t.test(
  'only torrents of the catalog are tracked by opentracker, and whoever asks it finds the seeder',
  { skip: missingProgram('opentracker') ?? false },
  async (t) => {
    const dir = await mkdtemp(join(tmpdir(), 'narswarm-opentracker-'));
    t.teardown(() => rm(dir, { recursive: true, force: true }));
    // opentracker reads its whitelist as another user.
    await chmod(dir, 0o755);
    const port = await freePort(host);
    const whitelist = join(dir, 'whitelist.txt');
    await writeFile(whitelist, '');
    const opentracker = new Child('opentracker', ['-f', await configIn(dir, port)], dir);
    t.teardown(() => opentracker.end());
    const url = `http://${host}:${port}/announce`;

    const lab = await SwarmLab.open({
      host,
      sizes: [100_000, 100_001, 100_002],
      flags: [
        ...['--tracker-udp', `${host}:0`, '--announce-to', url],
        ...['--tracker-whitelist', whitelist, '--tracker-reload', `kill -HUP ${opentracker.pid}`],
      ],
    });
    t.teardown(() => lab.close());
    const torrents = lab.files.map(({ torrent }) => parseTorrentFile(torrent));

    const metainfo = parseBencode(lab.files[0]?.torrent ?? Buffer.alloc(0));
    const tiers = metainfo instanceof Map ? texts(metainfo.get('announce-list')) : [];
    const udp = /tracker-udp (\S+)/.exec(lab.seeder.ready)?.[1] ?? '';
    t.match(udp, /^udp:\/\/127\.0\.0\.1:[1-9]\d*$/);
    t.same(
      tiers,
      [[`${lab.seeder.url}/announce`, `${udp}/announce`], [url]],
      'the .torrent files name all of them',
    );

    const [infoHash = parseInfoHash('00'.repeat(20))] = torrents.map((torrent) => torrent.infoHash);
    await until(async () => {
      opentracker.expectAlive();
      return announce({ ...about, url, infoHash }).then(
        () => true,
        () => false,
      );
    });
    t.equal(
      (await readFile(whitelist, 'utf8')).split('\n').length - 1,
      new Set(await hashes(whitelist)).size,
    );
    const unknown = announce({ ...about, url, infoHash: parseInfoHash('cd'.repeat(20)) });
    await t.rejects(unknown, { code: 'tracker-failed', message: /not authorized/ });

    // The seeder tells opentracker of what was asked for: the .torrent files were.
    await until(async () => {
      const { tracker } = (await lab.seeder.status()) as { tracker: { others: { announces: number } } };
      return tracker.others.announces >= torrents.length;
    });
    const ways = [
      { program: libtorrent, tracker: url },
      { program: aria2, tracker: url },
      { program: libtorrent, tracker: `${udp}/announce` },
    ];
    for (const [index, { program, tracker }] of ways.entries()) {
      const skip = program.missing(host) ?? false;
      const name = `${program.name}, from a magnet link with nothing but ${tracker.replace(/\d+\/announce/, '…')}`;
      await t.test(name, { skip }, async (t) => {
        const file = lab.files[index];
        if (file === undefined) return t.fail('a file for each');
        const home = join(dir, `home-${index}`);
        const magnet = `magnet:?xt=urn:btih:${torrents[index]?.infoHash}&tr=${encodeURIComponent(tracker)}`;
        const download = await startDownload(program, { home, address: host, from: { magnet } });
        t.teardown(() => download.stop());
        await finished(download);
        t.ok(await sameFiles(file.path, join(home, 'out', file.name)), 'byte for byte');
      });
    }
    const { tracker } = (await lab.seeder.status()) as {
      tracker: { announces: number; udp: { connects: number; address: string } };
    };
    t.ok(tracker.udp.connects >= 1 && tracker.announces >= 1);
    t.equal(`udp://${tracker.udp.address}`, udp);
  },
);

async function hashes(file: string): Promise<string[]> {
  return (await readFile(file, 'utf8')).split('\n').slice(0, -1);
}
