/** A NAR file that is revoked disappears everywhere: from the seeder at once, from a mirror and a client when they look at the head. */
import { join } from 'node:path';
import t from 'tap';
import { type Program, startProgram, until, untilIngested } from '../helpers/program.ts';
import { baseNameOf, fieldOf, makeSampleCache } from '../helpers/sample-cache.ts';

const paths = 5;

t.test('what is revoked is had from nobody any more, and everything else still is', async (t) => {
  const dir = t.testdir();
  const start = async (args: string[]): Promise<Program> => {
    const program = await startProgram(args);
    t.teardown(() => program.kill());
    return program;
  };
  const cache = await makeSampleCache(dir, paths, '64KiB');
  const { narInfos, trusted, narswarm } = cache;
  const anyPort = ['--http', '127.0.0.1:0', '--peers', '127.0.0.1:0'];
  const seederDir = join(dir, 'seeder');
  const seeder = await start([
    ...['seeder', '--data', seederDir, '--source', `file://${cache.dir}`, ...trusted, ...anyPort],
  ]);
  await untilIngested(seeder, paths);
  const { catalog } = (await seeder.status()) as { catalog: { publicKey: string } };
  const catalogFlags = ['--catalog', seeder.url, '--catalog-key', catalog.publicKey];
  const startMirror = () =>
    start([
      ...['mirror', '--data', join(dir, 'mirror'), ...catalogFlags, ...trusted, ...anyPort],
      ...['--quota', '1GiB', '--min-free', '1MiB'],
    ]);
  const startClient = () =>
    start([
      ...['client', '--data', join(dir, 'client'), '--no-upstream', ...catalogFlags, ...trusted],
      ...['--share', ...anyPort],
    ]);
  let mirror = await startMirror();
  await untilIngested(mirror, paths);
  let client = await startClient();

  // One that nothing else refers to, so that the others stay whole.
  const referenced = narInfos.flatMap((narInfo) =>
    fieldOf(narInfo, 'References')
      .split(' ')
      .filter((name) => name !== baseNameOf(narInfo)),
  );
  const bad = narInfos.find((narInfo) => !referenced.includes(baseNameOf(narInfo)));
  if (bad === undefined) throw new Error('every path is referenced by another');
  const badUrl = fieldOf(bad, 'URL');
  const has = async (program: Program, path: string): Promise<boolean> => {
    const answer = await fetch(`${program.url}/${path}`);
    await answer.arrayBuffer();
    return answer.ok;
  };
  for (const narInfo of narInfos) {
    t.ok(await has(client, narInfo.name));
    t.ok(await has(client, fieldOf(narInfo, 'URL')));
    t.ok(await has(mirror, narInfo.name));
  }

  const reason = 'holds the NAR of another package';
  await narswarm('revoke', fieldOf(bad, 'FileHash'), '--reason', reason, '--data', seederDir);
  await until(async () => !(await has(seeder, bad.name)));
  t.notOk(await has(seeder, badUrl));
  await until(async () =>
    /^View: revocations /m.test(await (await fetch(`${seeder.url}/catalog/head`)).text()),
  );

  // Both look at the head when they start; otherwise within minutes.
  t.equal(await mirror.stop(), 0);
  t.equal(await client.stop(), 0);
  mirror = await startMirror();
  client = await startClient();
  for (const program of [mirror, client]) {
    await until(async () => !(await has(program, bad.name)) && !(await has(program, badUrl)));
    for (const narInfo of narInfos) {
      if (narInfo === bad) continue;
      // A mirror looks through what it holds first.
      await until(() => has(program, narInfo.name));
      t.ok(await has(program, fieldOf(narInfo, 'URL')));
    }
  }
  await until(async () => {
    const { cache } = (await client.status()) as { cache: { files: number } };
    return cache.files === paths - 1;
  });
  const why = await narswarm('why', '--url', client.url, bad.name.replace('.narinfo', ''));
  t.match(why, new RegExp(`REVOKED .*: ${reason}\\.`));
  t.match(why, /is not held any more/);
  t.match(await narswarm('report', seeder.url), /not counted yet/);
  for (const program of [client, mirror, seeder]) t.equal(await program.stop(), 0);
});
