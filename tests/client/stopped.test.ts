/** Processes that stand still for a while (SIGSTOP), as those of a machine that is suspended: nothing is lost, nothing is wrong. */

import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { printPublicKey } from '../../nar/signature.ts';
import { type Built, CacheBuilder } from '../helpers/cache-builder.ts';
import { type Program, startProgram, until, untilIngested } from '../helpers/program.ts';
import { openSlowPath, type SlowPath } from '../helpers/slow-path.ts';
import { get } from './lab.ts';

const largeBytes = 20_000_000;
/** A file takes two seconds, so that there is a middle to stop in. */
const bytesPerSecond = 10_000_000;
const startedBytes = 2_000_000;
/** More than a swarm that is silent is waited for, less than an upstream. */
const stoppedMs = 1_500;

interface StoppedLab {
  dir: string;
  built: Built[];
  seeder: Program;
  flags: string[];
  path(url: string): Promise<SlowPath>;
}

/** A seeder, which is an upstream as well, and what a client of it is started with. */
async function openLab(t: Test): Promise<StoppedLab> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-stopped-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await mkdir(join(dir, 'cache'));
  const cache = await new CacheBuilder(join(dir, 'cache')).open();
  const built: Built[] = [];
  for (const name of ['a', 'b'])
    built.push(await cache.add({ name, tree: { data: randomBytes(largeBytes) }, compression: 'none' }));
  const key = printPublicKey(cache.publicKey);
  const seeder = await startProgram([
    ...['seeder', '--data', join(dir, 'seeder'), '--source', cache.url, '--trusted-key', key],
    ...['--http', '127.0.0.1:0', '--peers', '127.0.0.1:0', '--upload-rate', '10MiB/s'],
    ...['--initial-copies', '1000'],
  ]);
  t.teardown(() => seeder.kill());
  await untilIngested(seeder, built.length);
  return {
    dir,
    built,
    seeder,
    flags: ['client', '--data', join(dir, 'client'), '--http', '127.0.0.1:0', '--trusted-key', key],
    async path(url) {
      const { hostname, port } = new URL(url);
      const path = await openSlowPath({
        target: { host: hostname, port: Number(port) },
        delayMs: 1,
        bytesPerSecond,
      });
      t.teardown(() => path.close());
      return path;
    },
  };
}

/** Stops the process once the answer has begun, lets it go on after a while, and gives the answer. */
async function answerAcrossStop(client: Program, one: Built, stopped: Program) {
  await get(client.url, one.narInfoName);
  const begun = Promise.withResolvers<void>();
  const answer = get(client.url, one.narInfo.url, {
    onBytes: (bytes) => {
      if (bytes > startedBytes) begun.resolve();
    },
  });
  await begun.promise;
  stopped.process.kill('SIGSTOP');
  await pause(stoppedMs);
  stopped.process.kill('SIGCONT');
  return answer;
}

t.test('a client that was stopped goes on where it was, and so does the upstream', async (t) => {
  const { built, seeder, flags, path } = await openLab(t);
  const [first, second] = built;
  if (first === undefined || second === undefined) return t.fail('two files');
  const { port } = await path(seeder.url);
  const client = await startProgram([...flags, '--upstream', `http://127.0.0.1:${port}`]);
  t.teardown(() => client.kill());
  for (const [one, stopped] of [[first, client] as const, [second, seeder] as const]) {
    const answer = await answerAcrossStop(client, one, stopped);
    t.ok(answer.complete && answer.body.equals(one.narFile));
  }
  t.match(await client.status(), { nars: { http: 2 }, failed: 0 });
  t.equal(await client.stop(), 0);
});

t.test('peers that are stopped are not waited for, and used again when they are back', async (t) => {
  const { built, seeder, flags, dir } = await openLab(t);
  const [first, second] = built;
  if (first === undefined || second === undefined) return t.fail('two files');
  // Another seeder is the upstream, for this one will not answer.
  const cacheUrl = `file://${join(dir, 'cache')}`;
  const trusted = flags.slice(flags.indexOf('--trusted-key'));
  const upstream = await startProgram([
    ...['seeder', '--data', join(dir, 'upstream'), '--source', cacheUrl, ...trusted],
    ...['--http', '127.0.0.1:0', '--peers', '127.0.0.1:0'],
  ]);
  t.teardown(() => upstream.kill());
  await untilIngested(upstream, built.length);
  const { catalog } = (await seeder.status()) as { catalog: { publicKey: string } };
  const catalogFlags = ['--catalog', seeder.url, '--catalog-key', catalog.publicKey];
  const client = await startProgram([...flags, '--upstream', upstream.url, ...catalogFlags]);
  t.teardown(() => client.kill());
  await get(client.url, first.narInfoName);
  const whole = get(client.url, first.narInfo.url);
  seeder.process.kill('SIGSTOP');
  const answer = await whole;
  t.ok(answer.complete && answer.body.equals(first.narFile), 'while the peer stands still');
  seeder.process.kill('SIGCONT');
  // The catalog is left alone for some seconds after it did not answer.
  await until(async () => {
    const { catalogs } = (await client.status()) as { catalogs: { state: string }[] };
    return catalogs[0]?.state === 'asked';
  });
  await get(client.url, second.narInfoName);
  const next = await get(client.url, second.narInfo.url);
  t.ok(next.complete && next.body.equals(second.narFile));
  t.equal(await client.stop(), 0);
});
