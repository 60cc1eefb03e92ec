/** Real BitTorrent programs, each told to download one torrent and to talk to nobody but the tracker and its peers. */

import type { ChildProcess } from 'node:child_process';
import { spawn, spawnSync } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const deadlineMs = 110_000;
const peers = join(import.meta.dirname, 'peers');

export interface Download {
  /** A .torrent file or a magnet link. */
  what: string;
  /** Where the file goes. */
  dir: string;
  /** For what the program itself writes. */
  home: string;
  /** Where the seed server listens, `host:port`. */
  peer: { host: string; port: number };
}

export interface BittorrentProgram {
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

/** All of them; `ownAddress` is the one inside a network namespace, `undefined` outside. */
export function bittorrentPrograms(ownAddress: string | undefined): BittorrentProgram[] {
  const host = ownAddress ?? '127.0.0.1';
  return [
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
}

/** Runs a program to its end, or until its output says that it is done; returns what it said when it failed. */
async function finished(program: BittorrentProgram, child: ChildProcess): Promise<string | undefined> {
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
  'dht-enabled': false,
  'lpd-enabled': false,
  'pex-enabled': false,
  'utp-enabled': false,
  'port-forwarding-enabled': false,
  'peer-port-random-on-start': true,
  // Plain connections first: otherwise it waits 20 s after the encrypted one that is refused.
  encryption: 0,
};

/**
 * Downloads with `program` into a directory below `home`, which must not exist yet. Resolves with the bytes of file `name`; rejects
 * with what the program said when it fails.
 */
export async function downloadWith(
  program: BittorrentProgram,
  options: {
    home: string;
    host: string;
    from: { torrent: Buffer } | { magnet: string };
    name: string;
    peer: Download['peer'];
  },
): Promise<Buffer> {
  const { home, host, from, name, peer } = options;
  const dir = join(home, 'out');
  await mkdir(dir, { recursive: true });
  await mkdir(join(home, 'config'));
  const settings = { ...transmissionSettings, 'bind-address-ipv4': host };
  await writeFile(join(home, 'config/settings.json'), JSON.stringify(settings));
  const file = join(home, 'it.torrent');
  if ('torrent' in from) await writeFile(file, from.torrent);
  const failure = await finished(
    program,
    program.run({ what: 'magnet' in from ? from.magnet : file, dir, home, peer }),
  );
  if (failure !== undefined) throw new Error(`${program.name}: ${failure}`);
  return readFile(join(dir, name));
}
