import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { NixLab, nixMissing } from '../helpers/nix.ts';
import { type Program, startProgram, until, untilIngested } from '../helpers/program.ts';

const paths = 8;
const largeBytes = 4 << 20;

t.test(
  'the seeder dies, a mirror loses its disk, and everything published can still be had',
  { skip: nixMissing() },
  async (t) => {
    const lab = await NixLab.open();
    t.teardown(() => lab.close());
    const cacheDir = join(lab.dir, 'cache');
    await mkdir(cacheDir);
    const closure = await lab.buildChain(paths, largeBytes);
    const target = closure.at(-1) ?? '';
    await lab.copyToCache(target, cacheDir, 'zstd');

    const anyPort = ['--http', '127.0.0.1:0', '--peers', '127.0.0.1:0'];
    const trusted = ['--trusted-key', lab.publicKey];
    const start = async (args: string[]): Promise<Program> => {
      const program = await startProgram(args);
      t.teardown(() => program.kill());
      return program;
    };
    const seeder = await start([
      'seeder',
      ...['--data', join(lab.dir, 'seeder'), '--source', `file://${cacheDir}`, ...trusted, ...anyPort],
    ]);
    await untilIngested(seeder, paths);
    const { catalog } = (await seeder.status()) as { catalog: { publicKey: string } };
    const key = ['--catalog-key', catalog.publicKey];
    const mirrorOf = (name: string, ...catalogs: string[]): Promise<Program> =>
      start([
        'mirror',
        ...['--data', join(lab.dir, name), ...catalogs.flatMap((url) => ['--catalog', url]), ...key],
        ...['--quota', '1GiB', '--min-free', '1MiB', ...trusted, ...anyPort],
      ]);
    const a = await mirrorOf('a', seeder.url);
    await untilIngested(a, paths);
    await until(async () => {
      const { coverage } = (await seeder.status()) as { coverage: { mirrors: { nars: number }[] } };
      return coverage.mirrors[0]?.nars === paths;
    });
    await seeder.kill();

    const b = await mirrorOf('b', seeder.url, a.url);
    await untilIngested(b, paths);
    t.equal(await a.stop(), 0);
    await rm(join(lab.dir, 'a'), { recursive: true });
    const again = await mirrorOf('a', seeder.url, b.url);
    await untilIngested(again, paths);
    t.equal(await b.stop(), 0);

    const client = await start([
      'client',
      ...['--data', join(lab.dir, 'client'), '--no-upstream', '--catalog', again.url, ...key, ...trusted],
      ...['--http', '127.0.0.1:0'],
    ]);
    await lab.realise({ store: 'through-client', path: target, substituters: [client.url] });
    await lab.realise({ store: 'from-mirror', path: target, substituters: [again.url] });
    for (const store of ['through-client', 'from-mirror']) {
      await lab.verify(store);
      t.strictSame(
        await lab.narHashes(store, [target]),
        await lab.narHashes('build', [target]),
        'byte-identical',
      );
    }
    const status = (await client.status()) as { nars: object };
    t.match(status.nars, { swarm: paths, http: 0 });
    t.equal(await client.stop(), 0);
    t.equal(await again.stop(), 0);
  },
);
