/** A seeder that the system lets open only few files. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { printPublicKey } from '../../nar/signature.ts';
import { openFilesMax, shareClientOpenFiles, shareOpenFiles } from '../../parts/open-files.ts';
import { fetchFirstBlock } from '../../scripts/bench/first-block.ts';
import { parseTorrentFile } from '../../swarm/torrent/torrent-file.ts';
import { seedLimits } from '../../swarm/wire/limits.ts';
import { CacheBuilder } from '../helpers/cache-builder.ts';
import { until } from '../helpers/program.ts';

const linux = existsSync('/proc/self/limits') ? false : 'needs /proc';

t.test('the shares fit into what there is, and are the defaults where there is enough', async (t) => {
  const { connectionsMax, connectionsPerAddressMax, openTorrentsMax } = seedLimits;
  for (const max of [undefined, 524_288]) {
    const { seed, enough } = shareOpenFiles(max);
    t.same(seed, { connectionsMax, connectionsPerAddressMax, openTorrentsMax });
    t.ok(enough);
  }
  for (const max of [128, 256, 1024, 4096]) {
    const { seed, http, enough } = shareOpenFiles(max);
    t.ok(seed.connectionsMax + seed.openTorrentsMax + 2 * http.connections <= max - 64, `${max}`);
    t.ok(seed.connectionsPerAddressMax <= seed.connectionsMax / 2, `${max}`);
    t.notOk(enough);
  }
});

t.test('a client keeps files for what it fetches, and lets Nix in however few there are', async (t) => {
  t.match(shareClientOpenFiles(undefined), { enough: true, http: { connections: 4_000 } });
  for (const max of [1024, 4096]) {
    const { seed, http, enough } = shareClientOpenFiles(max);
    t.ok(seed.connectionsMax + seed.openTorrentsMax + 2 * http.connections <= max - 64 - 512, `${max}`);
    t.ok(enough, `${max}`);
  }
  for (const max of [64, 128, 256])
    t.match(shareClientOpenFiles(max), { enough: false, http: { connections: 25 } });
});

t.test('what the system allows is known', { skip: linux }, async (t) => {
  t.ok(((await openFilesMax()) ?? 0) > 0);
});

t.test(
  'peers that take all they can get leave an honest one its place, and the seeder its files',
  { skip: linux },
  async (t) => {
    const dir = await mkdtemp(join(tmpdir(), 'narswarm-open-files-'));
    t.teardown(() => rm(dir, { recursive: true }));
    const cache = await new CacheBuilder(join(dir, 'cache')).open();
    const names = Array.from({ length: 30 }, (_none, index) => `package-${index}`);
    for (const name of names) await cache.add({ name });

    const main = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));
    const flags = [
      '--source',
      cache.url,
      '--trusted-key',
      printPublicKey(cache.publicKey),
      '--data',
      join(dir, 'data'),
    ];
    const args = [main, 'seeder', ...flags, '--http', '127.0.0.1:0', '--peers', '127.0.0.1:0'];
    const child = spawn('sh', ['-c', 'ulimit -n 128; exec "$0" "$@"', process.execPath, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let log = '';
    child.stderr.setEncoding('utf8').on('data', (text) => {
      log += text;
    });
    const exited = once(child, 'exit');
    t.teardown(async () => {
      child.kill('SIGKILL');
      await exited;
    });
    const lines = createInterface(child.stdout);
    const died = exited.then(() => Promise.reject(new Error(`the seeder ended: ${log}`)));
    const [line] = await Promise.race([once(lines, 'line'), died]);
    died.catch(() => {});
    const [, url = '', port = ''] = /^ready seeder (\S+) peers \S+:(\d+)/.exec(String(line)) ?? [];
    const status = async () =>
      (await (await fetch(`${url}/status`)).json()) as {
        catalog: { nars: number };
        swarm: { connections: number; refusedConnections: number };
      };
    await until(async () => (await status()).catalog.nars === names.length);

    // From one address, and more than there are descriptors.
    const greedy = Array.from({ length: 200 }, () =>
      connect({ host: '127.0.0.1', port: Number(port), localAddress: '127.0.0.2' }),
    );
    for (const socket of greedy) socket.on('error', () => {});
    await until(async () => (await status()).swarm.refusedConnections >= 190);
    t.ok((await status()).swarm.connections > 0);

    const feed = await (await fetch(`${url}/feed.xml?kind=nars`)).text();
    const infoHashes = [...feed.matchAll(/<guid[^>]*>([0-9a-f]{40})</g)].map(([, hash]) => hash);
    t.equal(infoHashes.length, names.length);
    for (const hash of infoHashes) {
      const torrent = parseTorrentFile(
        Buffer.from(await (await fetch(`${url}/${hash}.torrent`)).arrayBuffer()),
      );
      const { socket, bytes } = await fetchFirstBlock({ port: Number(port), torrent });
      t.equal(bytes.length, torrent.length);
      socket.destroy();
    }
    for (const socket of greedy) socket.destroy();
    t.match(log, /few-open-files/);
    t.notMatch(log, /EMFILE|too many open files/);
    child.kill('SIGTERM');
    await exited;
    t.equal(child.exitCode, 0);
  },
);
