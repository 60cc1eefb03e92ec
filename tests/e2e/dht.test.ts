/** libtorrent finds the seeder of a magnet link by the DHT alone, in which the seeder announces what was asked for. */

import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseTorrentInfo } from '../../catalog/torrentinfo.ts';
import { narFileName } from '../../nar/compression.ts';
import { printPublicKey } from '../../nar/signature.ts';
import type { DhtStatus } from '../../swarm/dht/dht.ts';
import { openDht } from '../../swarm/dht/dht.ts';
import { CacheBuilder, sha256 } from '../helpers/cache-builder.ts';
import { enterOwnNetwork } from '../helpers/own-network.ts';
import { type Program, startProgram, until, untilIngested } from '../helpers/program.ts';

const ownAddress = enterOwnNetwork(import.meta.filename);
const host = ownAddress ?? '127.0.0.1';
// Not before: tap writes a plan when a process ends that has loaded it.
const { default: t } = await import('tap');

const libtorrentMissing =
  spawnSync('/usr/bin/python3', ['-c', 'import libtorrent']).status === 0
    ? false
    : 'python3-libtorrent is not installed';

async function dhtOf(seeder: Program): Promise<DhtStatus> {
  return ((await seeder.status()) as { dht: DhtStatus }).dht;
}

t.test('libtorrent finds the seeder by the DHT alone', { skip: libtorrentMissing }, async (t) => {
  const dir = t.testdir();
  await mkdir(join(dir, 'cache'));
  const cache = await new CacheBuilder(join(dir, 'cache')).open();
  const { narFile } = await cache.add({ name: 'wanted', tree: randomBytes(300_000) });
  const fileHash = sha256(narFile);
  // A third party: what is found there was announced to it.
  const stranger = await openDht({ host, port: 0, bootstrap: [], peersPort: 1 });
  t.teardown(() => stranger.close());
  const seeder = await startProgram([
    ...[
      'seeder',
      '--data',
      join(dir, 'seeder'),
      '--source',
      cache.url,
      '--trusted-key',
      printPublicKey(cache.publicKey),
    ],
    ...['--http', `${host}:0`, '--peers', `${host}:0`],
    ...['--dht', `${host}:0`, '--dht-bootstrap', `${host}:${stranger.port}`],
  ]);
  t.teardown(() => seeder.stop());
  await untilIngested(seeder, 1);
  t.match(await dhtOf(seeder), { state: 'running', torrents: 0 }, 'nobody asked yet');

  const { infoHash } = parseTorrentInfo(await (await fetch(`${seeder.url}/${fileHash}.torrentinfo`)).text());
  t.ok((await fetch(`${seeder.url}/${infoHash}.torrent`)).ok, 'somebody asks for the torrent');
  // The head of the catalog is announced as well.
  await until(async () => (await dhtOf(seeder)).announces >= 2);

  const out = join(dir, 'out');
  await mkdir(out);
  const magnet = `magnet:?xt=urn:btih:${infoHash}`;
  const script = join(import.meta.dirname, '../helpers/peers/libtorrent-dht-get.py');
  const args = [script, magnet, out, host, `${host}:${stranger.port}`];
  const child = spawn('/usr/bin/python3', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  child.stdout.on('data', (text) => (said += String(text)));
  child.stderr.on('data', (text) => (said += String(text)));
  const status = await new Promise((resolve) => child.on('close', resolve));
  t.equal(status, 0, said.slice(-4_000));
  t.ok((await readFile(join(out, narFileName(fileHash, 'xz')))).equals(narFile), 'byte for byte');
  t.match(await (await fetch(`${seeder.url}/metrics`)).text(), /^narswarm_dht_announces [1-9]/m);
  t.match(await dhtOf(seeder), { restarts: 0 });
});
