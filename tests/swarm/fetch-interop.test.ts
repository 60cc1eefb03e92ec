/** The fetcher, and the connections to packs, download from the seeds of other programs. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import { PackConnections } from '../../swarm/fetch/pack-connections.ts';
import { torrentFile } from '../../swarm/torrent/torrent-file.ts';
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

  t.test(
    `${name} gives parts that begin and end anywhere, as the client takes them from packs`,
    { skip },
    async (t) => {
      const file = fileOf(5 * 1024 * 1024 + 4_321);
      const { bytes } = file;
      const { infoHash } = file.torrent;
      const peer = await seed(t, command, file);
      const connections = new PackConnections({ limits: { stallMs: 5_000, connectMs: 5_000 } });
      t.teardown(() => connections.close());
      const { signal } = new AbortController();
      const places = [1, 140_002, 777_777, bytes.length - 300].map((offset) => ({
        offset,
        lengthBytes: Math.min(140_001, bytes.length - offset),
      }));
      const parts = places.map(async (place) => {
        const read = connections.open({ ...place, infoHash, peers: [peer], stepBytes: pieceBytes }, signal);
        const chunks: Buffer[] = [];
        for await (const chunk of read?.bytes ?? []) chunks.push(chunk);
        return Buffer.concat(chunks);
      });
      for (const [index, part] of (await Promise.all(parts)).entries()) {
        const { offset, lengthBytes } = places[index] ?? { offset: 0, lengthBytes: 0 };
        t.ok(
          part.equals(bytes.subarray(offset, offset + lengthBytes)),
          `${lengthBytes} bytes from ${offset}`,
        );
      }
      t.equal(connections.status().connections, 1);
    },
  );
}
