/**
 * The seeder as a process of its own, killed at random moments while it reads its source and clients fetch from it: it
 * comes back clean, serves nothing wrong, and reads nothing again that was finished.
 */

import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import t from 'tap';
import { openCatalog } from '../../catalog/catalog.ts';
import { parsePublicKey, printPublicKey } from '../../nar/signature.ts';
import { get, Lab } from '../client/lab.ts';
import { type Built, CacheBuilder } from '../helpers/cache-builder.ts';
import { startProgram, until } from '../helpers/program.ts';

/** Of the whole program. */
const kills = 20;
const pauseMs = 20;
const paths = 60;

t.test('killed at random moments, the seeder goes on where it was and serves nothing wrong', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-kill-seeder-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const cacheDir = join(dir, 'cache');
  await mkdir(cacheDir);
  const cache = await new CacheBuilder(cacheDir).open();
  const built: Built[] = [];
  for (let n = 0; n < paths; n++) {
    const data = Buffer.alloc(n % 8 === 0 ? 2_000_000 : 1_000 * n + 100, `${n} of many `);
    built.push(
      await cache.add({ name: `n${n}`, tree: { data }, compression: n % 2 === 0 ? 'none' : 'zstd' }),
    );
  }
  const dataDir = join(dir, 'seeder');
  const args = ['seeder', '--data', dataDir, '--source', cache.url];
  const flags = [...args, '--trusted-key', printPublicKey(cache.publicKey)];
  const ports = ['--http', '127.0.0.1:0', '--peers', '127.0.0.1:0'];
  const lab = await Lab.open(t);
  const served = { http: 0, swarm: 0 };
  let before = { nars: 0, bytes: 0 };

  /** Straight from the seeder, or through a client that has nothing else. False when it was not there. */
  const fetchOne = async (url: string, through: 'http' | 'swarm', one: Built): Promise<boolean> => {
    const narInfo = await get(url, one.narInfoName);
    if (narInfo.status === 404) return false;
    if (narInfo.status !== 200) t.fail(`narinfo: ${narInfo.status}`);
    if (!narInfo.complete) return false;
    if (narInfo.body.toString() !== one.narInfo.text) t.fail('a wrong narinfo was served');
    const answer = await get(url, one.narInfo.url);
    if (answer.status !== 200 || !answer.complete) return false;
    if (!answer.body.equals(one.narFile)) t.fail('wrong bytes were served');
    served[through]++;
    return true;
  };

  for (let kill = 0; kill < kills; kill++) {
    const seeder = await startProgram([...flags, ...ports]);
    const { catalog } = (await seeder.status()) as { catalog: { publicKey: string; nars: number } };
    if (catalog.nars < before.nars)
      t.fail(`${catalog.nars} NAR files after kill ${kill}, not ${before.nars}`);
    const client = await lab.client([], [seeder.url], {
      catalogKeys: [parsePublicKey(catalog.publicKey)],
      noUpstream: true,
      dataDir: join(dir, `client-${kill}`),
    });
    // After a random number of answers, in the middle of whatever comes next.
    let left = Math.floor(Math.random() * 30);
    let killed = false;
    let at = 0;
    const worker = async (url: string, through: 'http' | 'swarm'): Promise<void> => {
      while (left > 0 && !killed) {
        const one = built[at++ % paths];
        if (one !== undefined && (await fetchOne(url, through, one).catch(() => false))) left--;
        // The seeder needs the processor more than those who ask it for what it has not read yet.
        else await pause(pauseMs);
      }
    };
    const workers = [1, 2, 3].flatMap(() => [worker(seeder.url, 'http'), worker(client.url, 'swarm')]);
    await Promise.race(workers);
    await seeder.kill();
    killed = true;
    await Promise.all([client.close(), ...workers]);
    const now = openCatalog(join(dataDir, 'catalog.sqlite'));
    before = now.counts();
    t.equal(now.counts().rejected, 0);
    now.close();
  }

  const seeder = await startProgram([...flags, ...ports]);
  type Status = { catalog: { nars: number; bytes: number }; ingest: { running: boolean; bytes: number } };
  const status = async (): Promise<Status> => (await seeder.status()) as Status;
  await until(async () => (await status()).catalog.nars === paths && !(await status()).ingest.running);
  const { catalog, ingest } = await status();
  t.equal(ingest.bytes, catalog.bytes - before.bytes, 'what was finished was not read again');
  for (const one of built) t.ok((await get(seeder.url, one.narInfo.url)).body.equals(one.narFile));
  t.ok(served.http > 0 && served.swarm > 0, `served ${JSON.stringify(served)}`);
  t.equal(await seeder.stop(), 0);
});
