/** A catalog is followed whole by somebody who has its key and the address of one DHT node, and no server's. */

import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { followCatalog } from '../../catalog/follow.ts';
import { openFollowed } from '../../catalog/followed.ts';
import { isNarswarmError } from '../../nar/errors.ts';
import { parsePublicKey, printPublicKey } from '../../nar/signature.ts';
import { storeHashOf } from '../../nar/store-path.ts';
import { SwarmCatalog } from '../../parts/swarm-catalog.ts';
import { type Dht, openDht } from '../../swarm/dht/dht.ts';
import { runCommand } from '../cli/run-command.ts';
import { CacheBuilder, sha256, storeDir } from '../helpers/cache-builder.ts';
import { enterOwnNetwork } from '../helpers/own-network.ts';
import { type Program, startProgram, until } from '../helpers/program.ts';

const ownAddress = enterOwnNetwork(import.meta.filename);
const host = ownAddress ?? '127.0.0.1';
// Not before: tap writes a plan when a process ends that has loaded it.
const { default: t } = await import('tap');

async function node(t: Test, bootstrap: { host: string; port: number }[]): Promise<Dht> {
  const dht = await openDht({ host, port: 0, bootstrap, peersPort: 1 });
  t.teardown(() => dht.close());
  return dht;
}

interface Status {
  catalog: { publicKey: string; nars: number };
  dht: { restarts: number; head: { nodes: number } };
}

async function statusOf(seeder: Program): Promise<Status> {
  return (await seeder.status()) as unknown as Status;
}

t.test('the key and one DHT node are enough to follow a catalog', async (t) => {
  const dir = t.testdir();
  await mkdir(join(dir, 'cache'));
  const cache = await new CacheBuilder(join(dir, 'cache')).open();
  const first = await cache.add({ name: 'first', tree: randomBytes(100_000) });
  const stranger = await node(t, []);
  const start = () =>
    startProgram([
      ...['seeder', '--data', join(dir, 'seeder'), '--source', cache.url],
      ...['--trusted-key', printPublicKey(cache.publicKey), '--public-host', host],
      ...['--http', `${host}:0`, '--peers', `${host}:0`, '--publish-every', '1s', '--scan', '* * * * * *'],
      ...['--dht', `${host}:0`, '--dht-bootstrap', `${host}:${stranger.port}`],
    ]);
  const seeder = await start();
  t.teardown(() => seeder.stop());
  await until(async () => {
    const { dht, catalog } = await statusOf(seeder);
    return catalog.nars === 1 && dht.head.nodes > 0;
  });
  const key = parsePublicKey((await statusOf(seeder)).catalog.publicKey);

  const dht = await node(t, [stranger]);
  const followed = openFollowed(join(dir, 'followed.sqlite'));
  t.teardown(() => followed.close());
  const swarm = new SwarmCatalog({ dht, keys: () => [key] });
  const options = { keys: [key], nixStoreDir: storeDir, now: Date.now };
  const followUntil = async (records: number, into = followed, from = swarm): Promise<void> => {
    const deadline = Date.now() + 60_000;
    for (;;) {
      try {
        if ((await followCatalog(into, from, options)).records === records) return;
      } catch (error) {
        // The head may be known before those who have it are.
        if (!isNarswarmError(error, 'upstream-failed') || Date.now() > deadline) throw error;
      }
      // All nodes of this test have one address, from which each takes so many questions only.
      await sleep(1_000);
    }
  };
  await followUntil(2);
  t.equal(followed.ordinal(sha256(first.narFile)), 0);
  t.equal(followed.narInfo(storeHashOf(first.narInfo.storePath))?.text, first.narInfo.text);

  const second = await cache.add({ name: 'second', tree: randomBytes(50_000) });
  await followUntil(4);
  t.equal(followed.ordinal(sha256(second.narFile)), 1);
  t.match(await statusOf(seeder), { dht: { restarts: 0 } });

  const flags = [
    ...['--catalog-key', printPublicKey(key), '--data', join(dir, 'command')],
    ...['--dht', `${host}:0`, '--dht-bootstrap', `${host}:${stranger.port}`],
  ];
  let command = await runCommand(['catalog', ...flags]);
  // As above: the seeder of this test signs a new head each second.
  for (let times = 0; times < 10 && command.errors.includes('which nobody gives yet'); times++)
    command = await runCommand(['catalog', ...flags]);
  t.equal(command.status, 0, command.errors);
  t.match(command.out, /^holds {4}2 NAR files, 2 narinfos/m);

  const mirror = await startProgram([
    ...[
      'mirror',
      '--data',
      join(dir, 'mirror'),
      '--catalog',
      seeder.url,
      '--catalog-key',
      printPublicKey(key),
    ],
    ...['--trusted-key', printPublicKey(cache.publicKey), '--quota', '10MiB', '--min-free', '0B'],
    ...['--http', `${host}:0`, '--peers', `${host}:0`, '--public-host', host],
    ...['--dht', `${host}:0`, '--dht-bootstrap', `${host}:${stranger.port}`],
  ]);
  t.teardown(() => mirror.stop());
  await until(async () => {
    const { catalogs } = (await mirror.status()) as unknown as { catalogs: { dht: { nodes: number } }[] };
    return (catalogs[0]?.dht.nodes ?? 0) > 0;
  });
  await seeder.stop();
  const late = openFollowed(join(dir, 'late.sqlite'));
  t.teardown(() => late.close());
  const alone = new SwarmCatalog({ dht, keys: () => [key] });
  await followUntil(4, late, alone);
  t.equal(late.ordinal(sha256(second.narFile)), 1, 'from the mirror, when the seeder is gone');
});
