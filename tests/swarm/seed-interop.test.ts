/** Real BitTorrent programs download from the seed server, from a .torrent and from a magnet link. */
import type { ChildProcess } from 'node:child_process';
import { spawn, spawnSync } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { magnetLink, torrentFile } from '../../swarm/torrent.ts';
import { enterOwnNetwork } from './own-network.ts';
import type { Held } from './seed-fixture.ts';
import { openTracker, seeding } from './seed-fixture.ts';

const ownAddress = enterOwnNetwork(import.meta.filename);
const host = ownAddress ?? '127.0.0.1';
// Not before: tap writes a plan when a process ends that has loaded it.
const { default: t } = await import('tap');

const sizes = [16 * 1024 - 1, 1024 * 1024 + 1, 40 * 1024 * 1024 + 12_345];
const deadlineMs = 50_000;
const peers = join(import.meta.dirname, 'peers');

interface Download {
  /** A .torrent file or a magnet link. */
  what: string;
  /** Where the file goes. */
  dir: string;
  /** For what the program itself writes. */
  home: string;
  /** Where the seed server listens, `host:port`. */
  peer: { host: string; port: number };
}

interface Program {
  name: string;
  /** Says why it cannot run here, if it cannot. */
  missing: () => string | undefined;
  run: (download: Download) => ChildProcess;
  /** Programs that go on seeding are ended when their output shows that they are done. */
  doneOutput?: RegExp;
}

function missingProgram(name: string): string | undefined {
  return spawnSync('which', [name]).status === 0 ? undefined : `${name} is not installed`;
}

/** Without the proxies of the environment: everything here is on loopback. */
function run(command: string, args: string[], home: string): ChildProcess {
  const env = { PATH: process.env.PATH ?? '', HOME: home, LC_ALL: 'C' };
  return spawn(command, args, { cwd: home, env, stdio: ['ignore', 'pipe', 'pipe'] });
}

const programs: Program[] = [
  {
    name: 'aria2',
    missing: () => missingProgram('aria2c'),
    run: ({ what, dir, home }) =>
      run(
        'aria2c',
        [
          '--no-conf',
          `--dir=${dir}`,
          '--seed-time=0',
          '--enable-dht=false',
          '--enable-dht6=false',
          '--enable-peer-exchange=false',
          '--bt-enable-lpd=false',
          '--disable-ipv6=true',
          `--interface=${host}`,
          '--file-allocation=none',
          '--listen-port=20000-60000',
          what,
        ],
        home,
      ),
  },
  {
    name: 'transmission',
    missing: () =>
      missingProgram('transmission-cli') ??
      (ownAddress === undefined
        ? 'transmission takes no peer on 127.0.0.1, and there are no network namespaces here'
        : undefined),
    doneOutput: /Seeding/,
    run: ({ what, dir, home }) =>
      run('transmission-cli', ['-w', dir, '-g', join(home, 'config'), '-M', what], home),
  },
  {
    name: 'libtorrent',
    missing: () =>
      spawnSync('/usr/bin/python3', ['-c', 'import libtorrent']).status === 0
        ? undefined
        : 'python3-libtorrent is not installed',
    run: ({ what, dir, home, peer }) =>
      run(
        '/usr/bin/python3',
        [join(peers, 'libtorrent-get.py'), what, dir, peer.host, String(peer.port)],
        home,
      ),
  },
  {
    name: 'webtorrent',
    missing: () => undefined,
    run: ({ what, dir, home, peer }) =>
      run(
        process.execPath,
        [join(peers, 'webtorrent-get.mjs'), what, dir, `${peer.host}:${peer.port}`],
        home,
      ),
  },
];

/** Runs a program to its end, or until its output says that it is done; returns what it said when it failed. */
async function finished(program: Program, child: ChildProcess): Promise<string | undefined> {
  let output = '';
  let done = false;
  const timer = setTimeout(() => child.kill('SIGKILL'), deadlineMs);
  const watch = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-4000);
    if (done || !program.doneOutput?.test(output)) return;
    done = true;
    child.kill('SIGTERM');
  };
  child.stdout?.on('data', watch);
  child.stderr?.on('data', watch);
  const code = await new Promise<number | null>((resolve) => child.on('close', (status) => resolve(status)));
  clearTimeout(timer);
  return done || code === 0 ? undefined : `exit ${code}: ${output}`;
}

/** Settings for transmission: nothing but TCP to the peers that the tracker names. */
const transmissionSettings = {
  'bind-address-ipv4': host,
  'dht-enabled': false,
  'lpd-enabled': false,
  'pex-enabled': false,
  'utp-enabled': false,
  'port-forwarding-enabled': false,
  'peer-port-random-on-start': true,
  // Plain connections first: otherwise it waits 20 s after the encrypted one that is refused.
  encryption: 0,
};

t.jobs = 4;
for (const program of programs) {
  for (const from of ['.torrent', 'magnet'] as const) {
    const skip = program.missing() ?? false;
    t.test(`${program.name} downloads whole files from ${from}`, { skip, buffered: true }, async (t) => {
      const { server, source, held } = await seeding(t, sizes, { host });
      const tracker = await openTracker(server);
      t.teardown(() => tracker.close());
      const download = async ({ torrent, bytes }: Held): Promise<void> => {
        const home = join(source.dir, `home-${torrent.length}`);
        const dir = join(home, 'out');
        await mkdir(dir, { recursive: true });
        await mkdir(join(home, 'config'));
        await writeFile(join(home, 'config/settings.json'), JSON.stringify(transmissionSettings));
        const file = join(home, 'it.torrent');
        await writeFile(file, torrentFile(torrent, { announce: tracker.url }));
        const what = from === 'magnet' ? magnetLink(torrent, { trackers: [tracker.url] }) : file;
        const child = program.run({ what, dir, home, peer: server });
        t.equal(await finished(program, child), undefined, `${torrent.length} bytes: it ends well`);
        const got = await readFile(join(dir, torrent.name));
        t.ok(got.equals(bytes), `${torrent.length} bytes: they are the same`);
      };
      // At once, since some programs spend most of the time waiting for their own timers.
      await Promise.all(held.map(download));
      const status = server.status();
      t.ok(status.uploadedBytes >= sizes.reduce((a, b) => a + b), 'everything came from the server');
      t.equal(status.violations, 0, 'which found no fault with the peers');
      if (from === 'magnet') t.ok(status.metadataPieces >= sizes.length, 'the metadata was fetched, too');
    });
  }
}
