import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { nginxMissing, startNginx } from '../helpers/nginx.ts';
import { NixLab, nixMissing } from '../helpers/nix.ts';
import { type Program, startProgram, until, untilIngested } from '../helpers/program.ts';

const paths = 34;
const largeBytes = 48 << 20;

t.test(
  'a real closure goes into a swarm and comes out of it',
  { skip: nixMissing() || nginxMissing() },
  async (t) => {
    const lab = await NixLab.open();
    t.teardown(() => lab.close());
    const cacheDir = join(lab.dir, 'cache');
    await mkdir(cacheDir);
    const closure = await lab.buildChain(paths, largeBytes);
    const target = closure.at(-1) ?? '';
    await lab.verify('build');
    // Three compressions in one cache: Nix leaves alone what a cache already has.
    await lab.copyToCache(closure[11] ?? '', cacheDir, 'xz');
    await lab.copyToCache(closure[23] ?? '', cacheDir, 'zstd');
    await lab.copyToCache(target, cacheDir, 'none');
    const narInfos = (await readdir(cacheDir)).filter((name) => name.endsWith('.narinfo'));
    t.equal(narInfos.length, paths);

    const seederArgs = [
      'seeder',
      '--data',
      join(lab.dir, 'seeder'),
      '--source',
      `file://${cacheDir}`,
      '--trusted-key',
      lab.publicKey,
      '--http',
      '127.0.0.1:0',
      '--peers',
      '127.0.0.1:0',
    ];
    const seederKey = async (seeder: Program): Promise<string> => {
      const { catalog } = (await seeder.status()) as { catalog: { publicKey: string } };
      return catalog.publicKey;
    };

    await t.test('from the swarm alone, with no upstream', async (t) => {
      const seeder = await startProgram(seederArgs);
      t.teardown(() => seeder.stop());
      await untilIngested(seeder, paths);
      const client = await startProgram([
        'client',
        '--data',
        join(lab.dir, 'client-a'),
        '--no-upstream',
        '--catalog',
        seeder.url,
        '--catalog-key',
        await seederKey(seeder),
        '--trusted-key',
        lab.publicKey,
        '--http',
        '127.0.0.1:0',
      ]);
      t.teardown(() => client.stop());
      await lab.realise({ store: 'a', path: target, substituters: [client.url] });
      await sameEverywhere(t, lab, 'a', closure);
      const status = await clientStatus(client);
      t.match(status.nars, { swarm: paths, http: 0, held: 0 });
      t.equal(status.bytes.http, 0);
      t.ok(status.bytes.swarm > largeBytes);
      const { swarm } = (await seeder.status()) as { swarm: { uploadedBytes: number } };
      t.ok(swarm.uploadedBytes >= status.bytes.swarm, 'the seeder counts what it sent');
      t.equal(await client.stop(), 0);
      t.equal(await seeder.stop(), 0);
    });

    await t.test('from HTTP alone, with the seeder down', async (t) => {
      const seeder = await startProgram(seederArgs);
      const key = await seederKey(seeder);
      await seeder.stop();
      const nginx = await startNginx(cacheDir);
      t.teardown(() => nginx.stop());
      const client = await startProgram([
        'client',
        '--data',
        join(lab.dir, 'client-b'),
        '--upstream',
        nginx.url,
        '--catalog',
        seeder.url,
        '--catalog-key',
        key,
        '--trusted-key',
        lab.publicKey,
        '--http',
        '127.0.0.1:0',
      ]);
      t.teardown(() => client.stop());
      await lab.realise({ store: 'b', path: target, substituters: [client.url] });
      await sameEverywhere(t, lab, 'b', closure);
      const status = await clientStatus(client);
      t.match(status.nars, { swarm: 0, http: paths, held: 0 });
      t.equal(status.bytes.swarm, 0);
      t.equal(status.bytes.http, await nginx.narBytesSent(), 'the client and nginx count the same bytes');
    });

    await t.test('with the seeder killed halfway through a large NAR', async (t) => {
      const seeder = await startProgram(seederArgs);
      t.teardown(() => seeder.kill());
      const nginx = await startNginx(cacheDir);
      t.teardown(() => nginx.stop());
      const client = await startProgram([
        'client',
        '--data',
        join(lab.dir, 'client-c'),
        '--upstream',
        nginx.url,
        '--catalog',
        seeder.url,
        '--catalog-key',
        await seederKey(seeder),
        '--trusted-key',
        lab.publicKey,
        '--http',
        '127.0.0.1:0',
      ]);
      t.teardown(() => client.stop());
      const realised = lab.realise({ store: 'c', path: target, substituters: [client.url] });
      // The large NAR is the last of the chain; the rest of the closure is much smaller than a quarter of it.
      await until(async () => (await clientStatus(client)).bytes.swarm > largeBytes / 2);
      await seeder.kill();
      await realised;
      await sameEverywhere(t, lab, 'c', closure);
      const status = await clientStatus(client);
      t.ok(status.bytes.swarm > largeBytes / 2, 'the first half came from the swarm');
      t.ok(status.bytes.http > 0, 'the rest came from HTTP');
      // What was on its way when the swarm was ahead again is counted by nginx alone.
      const sent = await nginx.narBytesSent();
      const inVain = sent - status.bytes.http;
      t.ok(inVain >= 0 && inVain < largeBytes / 4, `${sent} bytes left nginx, ${inVain} of them in vain`);
      const { log } = nginx;
      t.match(await log(), /" 206 /, 'the answer went on at the byte where the swarm stopped');
    });
  },
);

interface ClientStatus {
  bytes: { swarm: number; http: number; held: number };
  nars: { swarm: number; http: number; held: number };
}

async function clientStatus(client: Program): Promise<ClientStatus> {
  return (await client.status()) as unknown as ClientStatus;
}

async function sameEverywhere(t: Test, lab: NixLab, store: string, closure: string[]): Promise<void> {
  await lab.verify(store);
  const built = await lab.narHashes('build', closure);
  t.equal(built.length, closure.length);
  t.strictSame(await lab.narHashes(store, closure), built, 'byte-identical');
}
