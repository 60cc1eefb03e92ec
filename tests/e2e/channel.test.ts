/** A channel: its closure is published as a view, a mirror holds just that, and a client answers its narinfos while nobody else does. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { type Program, startProgram, until, untilIngested } from '../helpers/program.ts';
import { baseNameOf, fieldOf, makeSampleCache } from '../helpers/sample-cache.ts';

const paths = 6;

t.test('a mirror and a client that want one channel have it whole, and nothing else', async (t) => {
  const dir = t.testdir();
  const start = async (args: string[]): Promise<Program> => {
    const program = await startProgram(args);
    t.teardown(() => program.kill());
    return program;
  };
  const cache = await makeSampleCache(dir, paths, '32KiB');
  const { narInfos, trusted } = cache;
  const anyPort = ['--http', '127.0.0.1:0', '--peers', '127.0.0.1:0'];
  /** A path and all that it references. */
  const closureOf = (base: string, found = new Set<string>()): Set<string> => {
    const narInfo = narInfos.find((each) => baseNameOf(each) === base);
    if (narInfo === undefined || found.has(base)) return found;
    found.add(base);
    for (const name of fieldOf(narInfo, 'References').split(' ')) closureOf(name, found);
    return found;
  };
  // The smallest closure, so that something is outside of it.
  const [channel = new Set<string>()] = narInfos
    .map((narInfo) => closureOf(baseNameOf(narInfo)))
    .sort((a, b) => a.size - b.size);
  const [root = ''] = channel;
  t.ok(channel.size < paths);
  await writeFile(join(dir, 'store-paths'), `/nix/store/${root}\n`);

  const seeder = await start([
    ...['seeder', '--data', join(dir, 'seeder'), '--source', `file://${cache.dir}`, ...trusted, ...anyPort],
    ...['--view', `nixos-test=${join(dir, 'store-paths')}`],
  ]);
  await untilIngested(seeder, paths);
  await until(async () =>
    /^View: nixos-test /m.test(await (await fetch(`${seeder.url}/catalog/head`)).text()),
  );
  const { catalog } = (await seeder.status()) as { catalog: { publicKey: string } };
  const key = ['--catalog-key', catalog.publicKey];
  const mirror = await start([
    ...['mirror', '--data', join(dir, 'mirror'), '--catalog', seeder.url, ...key, ...trusted, ...anyPort],
    ...['--quota', '1GiB', '--min-free', '1MiB', '--select', 'channel:nixos-test'],
  ]);
  await untilIngested(mirror, channel.size);
  const client = await start([
    ...[
      'client',
      '--data',
      join(dir, 'client'),
      '--no-upstream',
      '--view',
      'nixos-test',
      '--http',
      '127.0.0.1:0',
    ],
    ...['--catalog', seeder.url, '--catalog', mirror.url, ...key, ...trusted],
  ]);
  await until(async () => {
    const { views } = (await client.status()) as { views: { paths: number }[] };
    return views[0]?.paths === channel.size;
  });
  await seeder.kill();
  for (const narInfo of narInfos) {
    const { name, text } = narInfo;
    const [ofMirror, ofClient] = await Promise.all(
      [mirror, client].map((program) => fetch(`${program.url}/${name}`)),
    );
    const isIn = channel.has(baseNameOf(narInfo));
    t.equal(ofMirror?.status, isIn ? 200 : 404);
    t.equal(ofClient?.status, isIn ? 200 : 404);
    const [, clientText] = await Promise.all([ofMirror?.text(), ofClient?.text()]);
    if (!isIn) continue;
    t.equal(clientText, text, 'verbatim');
    const url = fieldOf(narInfo, 'URL');
    const nar = await fetch(`${client.url}/${url}`);
    const bytes = Buffer.from(await nar.arrayBuffer());
    t.ok(bytes.equals(await readFile(join(cache.dir, url))));
  }
  const { narinfos } = (await client.status()) as { narinfos: { viewed: number; found: number } };
  t.match(narinfos, { viewed: channel.size, found: 0 });
  for (const program of [client, mirror]) t.equal(await program.stop(), 0);
});
