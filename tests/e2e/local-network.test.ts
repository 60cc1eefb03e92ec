/** Clients on machines of their own, joined by a bridge and nothing else. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { printPublicKey } from '../../nar/signature.ts';
import { torrentFile } from '../../swarm/torrent/torrent-file.ts';
import { fetchNar } from '../client/lab.ts';
import { cacheKey, catalogKey, madeNar } from '../client/made-nar.ts';
import { TestCatalog } from '../client/test-catalog.ts';
import { TestUpstream } from '../client/test-upstream.ts';
import { bridgeAddress, enterOwnNetwork, type Machine, machinesOnBridge } from '../helpers/own-network.ts';
import { type Program, startProgram, until } from '../helpers/program.ts';

const inside = enterOwnNetwork(import.meta.filename) !== undefined;
// Not before: tap writes a plan when a process ends that has loaded it.
const { default: t } = await import('tap');

const skip = inside ? false : 'no namespaces on this system';
const nar = madeNar({ name: 'on-the-bridge', sizeBytes: 5 * 1024 * 1024 });
const noAria2 = spawnSync('aria2c', ['--version']).error === undefined ? false : 'aria2 is not installed';

/** aria2 takes ten seconds until it looks. */
const timeout = 120_000;

t.test('in a network without a tracker', { skip, timeout }, async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-bridge-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const machines = await machinesOnBridge(4);
  t.teardown(() => Promise.all(machines.map((machine) => machine.close())));
  const [one, two, three, four] = machines as [Machine, Machine, Machine, Machine];
  const catalog = await TestCatalog.open([nar], bridgeAddress);
  t.teardown(() => catalog.close());
  catalog.peers = [];
  const upstream = await TestUpstream.open([nar], bridgeAddress);
  t.teardown(() => upstream.close());
  const client = async (machine: Machine, name: string, ...args: string[]): Promise<Program> => {
    const program = await startProgram(
      [
        ...['client', '--data', join(dir, name), '--http', `${machine.address}:0`],
        ...['--catalog', catalog.url, '--catalog-key', printPublicKey(catalogKey.publicKey)],
        ...['--trusted-key', printPublicKey(cacheKey.publicKey), '--share=lan', ...args],
      ],
      machine.through,
    );
    t.teardown(() => program.stop());
    return program;
  };
  const fetched = async (program: Program): Promise<boolean> =>
    (await fetchNar(program, nar)).body.equals(nar.bytes);
  const shareOf = async (program: Program) =>
    (await program.status()).share as { uploadedBytes: number; local: { networks: string[] } };

  const first = await client(one, 'first', '--upstream', upstream.url, '--peers', '0.0.0.0:0');
  t.ok(await fetched(first), 'over HTTP');
  t.same((await shareOf(first)).local.networks, [one.address]);

  // It takes its time: the others are tried meanwhile.
  const aria2 = noAria2 === false ? await startAria2(four, dir) : undefined;
  t.teardown(() => aria2?.kill());
  const aria2Ended = aria2 && once(aria2, 'exit');

  await t.test('a client finds another over IPv4', async (t) => {
    const second = await client(two, 'second', '--no-upstream', '--peers', '0.0.0.0:0');
    t.ok(await fetched(second));
    t.ok((await shareOf(first)).uploadedBytes >= nar.bytes.length);
    await second.stop();
  });

  await t.test('aria2 finds it, too', { skip: noAria2 }, async (t) => {
    t.same(await aria2Ended, [0, null]);
    t.ok((await readFile(join(dir, 'aria2', nar.torrent.name))).equals(nar.bytes));
  });
  await first.stop();

  await t.test('one that takes connections at its link-local address alone is found over IPv6', async (t) => {
    const address = `[${two.linkLocalAddress}]:0`;
    const holder = await client(two, 'sixth', '--upstream', upstream.url, '--peers', address);
    t.ok(await fetched(holder), 'over HTTP');
    t.same((await shareOf(holder)).local.networks, [two.linkLocalAddress]);
    const third = await client(three, 'third', '--no-upstream', '--peers', '[::]:0');
    t.ok(await fetched(third));
    t.ok((await shareOf(holder)).uploadedBytes >= nar.bytes.length);
  });

  await t.test('what comes from another network is turned away', async (t) => {
    const holder = await client(one, 'first', '--no-upstream', '--peers', '0.0.0.0:0');
    const port = Number(holder.peers?.split(':').at(-1));
    // An address that no netmask of that machine covers, on the same wire.
    const reach = [
      'ip addr add 10.99.0.4/32 dev eth0',
      `ip route replace ${one.address} dev eth0 src 10.99.0.4`,
    ];
    const [command = '', ...rest] = four.through;
    t.equal(spawnSync(command, [...rest, 'sh', '-c', reach.join(' && ')]).status, 0);
    const [gateway = '', ...back] = one.through;
    t.equal(spawnSync(gateway, [...back, 'ip', 'route', 'add', '10.99.0.4/32', 'dev', 'eth0']).status, 0);
    const script = `const socket = require('node:net').connect(${port}, '${one.address}');
      socket.on('error', () => process.exit(3)).on('close', () => process.exit(3));
      socket.write(Buffer.from('${handshake()}', 'hex'));
      socket.on('data', () => process.exit(0));`;
    const tried = spawnSync(command, [...rest, process.execPath, '-e', script]);
    t.equal(tried.status, 3);
    await until(async () => ((await shareOf(holder)) as { connections?: number }).connections === 0);
    const near = [...two.through, process.execPath, '-e', script];
    t.equal(spawnSync(near[0] ?? '', near.slice(1)).status, 0, 'a neighbour is let in');
  });
  t.same(catalog.announces, [], 'no tracker was told of any of it');
});

function handshake(): string {
  const head = Buffer.concat([Buffer.from('\x13BitTorrent protocol'), Buffer.alloc(8)]);
  return `${head.toString('hex')}${nar.torrent.infoHash}${Buffer.alloc(20, 0x61).toString('hex')}`;
}

async function startAria2({ through, address }: Machine, dir: string): Promise<ChildProcess> {
  const torrent = join(dir, 'it.torrent');
  await writeFile(torrent, torrentFile(nar.torrent));
  const [command = '', ...rest] = through;
  const options = ['--enable-dht=false', '--bt-enable-lpd=true', '--seed-time=0'];
  const args = [`--bt-lpd-interface=${address}`, ...options, '--dir', join(dir, 'aria2'), torrent];
  return spawn(command, [...rest, 'aria2c', ...args], { stdio: 'ignore' });
}
