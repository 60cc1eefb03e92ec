/** The fetcher downloads from the seeds of other programs. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import { torrentFile } from '../../swarm/torrent-file.ts';
import { collect, fetchFrom, fileOf, pieceBytes } from './fetch-fixture.ts';

const peers = join(import.meta.dirname, '../helpers/peers');

/** Seeds: a program that is given a .torrent file and the directory with the file, and prints its port. */
const seeds = [
  {
    name: 'libtorrent',
    skip:
      spawnSync('/usr/bin/python3', ['-c', 'import libtorrent']).status === 0
        ? false
        : 'python3-libtorrent is not installed',
    command: ['/usr/bin/python3', join(peers, 'libtorrent-seed.py')],
  },
  { name: 'webtorrent', skip: false, command: [process.execPath, join(peers, 'webtorrent-seed.mjs')] },
];

const files = [1, pieceBytes, 5 * 1024 * 1024 + 4_321].map(fileOf);

/** Starts the program with one of the files; it is ended at the end of the test. */
async function seed(t: Test, command: readonly string[], { bytes, torrent }: (typeof files)[number]) {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-fetch-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await writeFile(join(dir, torrent.name), bytes);
  await writeFile(join(dir, 'it.torrent'), torrentFile(torrent));
  const [program = '', ...args] = command;
  const child: ChildProcess = spawn(program, [...args, join(dir, 'it.torrent'), dir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  if (child.stdout === null) throw new Error('no output to read');
  const [line] = await once(createInterface(child.stdout), 'line');
  return { host: '127.0.0.1', port: Number(line) };
}

for (const { name, skip, command } of seeds) {
  t.test(`${name} gives whole files, and the second half of one`, { skip }, async (t) => {
    for (const file of files) {
      const peer = await seed(t, command, file);
      const { torrent, bytes } = file;
      const whole = await collect(fetchFrom(t, [peer], { torrent, stallMs: 5_000 }));
      t.ok(whole.bytes.equals(bytes), `${bytes.length} bytes`);
      const fromByte = Math.floor(bytes.length / 2);
      const half = await collect(fetchFrom(t, [peer], { torrent, fromByte, stallMs: 5_000 }));
      t.ok(
        half.bytes.equals(bytes.subarray(fromByte - (fromByte % torrent.pieceLength))),
        'and half of them',
      );
    }
  });
}
