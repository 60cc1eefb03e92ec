/** Real Nix realises a closure while the client is killed in the middle of a NAR file, and started again. */

import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { TestUpstream } from '../client/test-upstream.ts';
import { NixLab, nixMissing } from '../helpers/nix.ts';
import { type Program, startProgram, until, untilIngested } from '../helpers/program.ts';

const paths = 8;
const largeBytes = 12 << 20;
const loopback = '127.0.0.1';

interface Status {
  cache: { files: number };
  transfers: { running: { releasedBytes: number }[] };
  nars: { held: number };
}

interface Laboratory {
  lab: NixLab;
  cacheDir: string;
  /** Of the whole closure. */
  target: string;
  /** What the client is started with, but for its sources. */
  flags: string[];
}

async function laboratory(t: Test): Promise<Laboratory> {
  const lab = await NixLab.open();
  t.teardown(() => lab.close());
  const cacheDir = join(lab.dir, 'cache');
  await mkdir(cacheDir);
  const target = (await lab.buildChain(paths, largeBytes)).at(-1) ?? '';
  await lab.copyToCache(target, cacheDir, 'none');
  const flags = ['client', '--data', join(lab.dir, 'client'), '--trusted-key', lab.publicKey];
  return { lab, cacheDir, target, flags };
}

/** Kills the client as soon as Nix has all but the end of the closure, which is in the middle of the large NAR file; starts it again. */
async function killedMidNar(
  t: Test,
  { lab, target, flags }: Laboratory,
  sources: string[],
): Promise<{ client: Program; realised: Promise<unknown> }> {
  const first = await startProgram([...flags, ...sources, '--http', `${loopback}:0`]);
  t.teardown(() => first.kill());
  const substituters = [first.url];
  const realised = lab.realise({ store: 'one', path: target, substituters }).catch((error: unknown) => error);
  await until(async () => {
    const { cache, transfers } = (await first.status()) as unknown as Status;
    return (
      cache.files === paths - 1 && transfers.running.some(({ releasedBytes }) => releasedBytes > 1 << 20)
    );
  });
  await first.kill();
  const client = await startProgram([...flags, ...sources, '--http', new URL(first.url).host]);
  t.teardown(() => client.kill());
  return { client, realised };
}

/** Nix comes back by itself, or is called once more; then another machine has the same wish. */
async function thenAllIsWell(
  t: Test,
  { lab, target }: Laboratory,
  { client, realised }: Awaited<ReturnType<typeof killedMidNar>>,
): Promise<void> {
  await realised;
  await lab.realise({ store: 'one', path: target, substituters: [client.url] });
  await lab.realise({ store: 'two', path: target, substituters: [client.url], home: 'another' });
  for (const store of ['one', 'two']) {
    await lab.verify(store);
    t.equal((await lab.closure(store, target)).length, paths);
  }
  const { nars } = (await client.status()) as unknown as Status;
  t.ok(nars.held >= paths - 1, `${nars.held} were held`);
  t.equal(await client.stop(), 0);
}

t.test('over HTTP, and nothing that was kept is fetched again', { skip: nixMissing() }, async (t) => {
  const all = await laboratory(t);
  const upstream = await TestUpstream.open();
  t.teardown(() => upstream.close());
  for (const name of await readdir(all.cacheDir, { recursive: true }))
    if (/\.(narinfo|nar)$/.test(name)) upstream.put(name, await readFile(join(all.cacheDir, name)));
  const nars = [...upstream.files].filter(([path]) => path.startsWith('/nar/'));
  const [large = ''] = nars.find(([, { length }]) => length > largeBytes) ?? [];
  // The first answer stops in the middle.
  upstream.intercept = ({ url }, response) => {
    const bytes = upstream.files.get(large);
    if (url !== large || bytes === undefined || upstream.requestsFor(large.slice(1)) > 1) return false;
    response.writeHead(200, { 'content-length': bytes.length });
    response.write(bytes.subarray(0, bytes.length >> 1));
    return true;
  };
  const killed = await killedMidNar(t, all, ['--upstream', upstream.url]);
  await thenAllIsWell(t, all, killed);
  for (const [path] of nars) {
    const times = upstream.requestsFor(path.slice(1));
    if (path === large) t.equal(times, 2, 'what was broken off was fetched once more');
    else t.equal(times, 1, 'what was whole was not');
  }
});

t.test('from the swarm', { skip: nixMissing() }, async (t) => {
  const all = await laboratory(t);
  const seeder = await startProgram([
    ...['seeder', '--data', join(all.lab.dir, 'seeder'), '--source', `file://${all.cacheDir}`],
    ...['--trusted-key', all.lab.publicKey, '--http', `${loopback}:0`, '--peers', `${loopback}:0`],
    // Slowly enough for a middle to be met.
    ...['--upload-rate', '4MiB/s'],
  ]);
  t.teardown(() => seeder.kill());
  await untilIngested(seeder, paths);
  const { catalog } = (await seeder.status()) as { catalog: { publicKey: string } };
  const sources = ['--no-upstream', '--catalog', seeder.url, '--catalog-key', catalog.publicKey];
  const killed = await killedMidNar(t, all, sources);
  await thenAllIsWell(t, all, killed);
  t.equal(await seeder.stop(), 0);
});
