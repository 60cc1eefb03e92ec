/** A NAR file that is revoked disappears everywhere: from the seeder at once, from a mirror and a client when they look at the head. */
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { type Program, startProgram, until, untilIngested } from '../helpers/program.ts';

const main = join(import.meta.dirname, '../../cli/main.ts');
const paths = 5;

t.test('what is revoked is had from nobody any more, and everything else still is', async (t) => {
  const dir = t.testdir();
  const narswarm = async (...args: string[]): Promise<string> =>
    (await promisify(execFile)(process.execPath, [main, ...args], { cwd: dir })).stdout;
  const start = async (args: string[]): Promise<Program> => {
    const program = await startProgram(args);
    t.teardown(() => program.kill());
    return program;
  };
  await narswarm('keygen', 'cache.test-1', '--out', dir);
  const secretKey = join(dir, 'cache.test-1.secret');
  const cacheDir = join(dir, 'cache');
  await narswarm(
    ...['sample-cache', cacheDir, '--paths', `${paths}`, '--median', '64KiB'],
    ...['--secret-key', secretKey],
  );
  const trusted = ['--trusted-key', join(dir, 'cache.test-1.public')];
  const anyPort = ['--http', '127.0.0.1:0', '--peers', '127.0.0.1:0'];
  const seederDir = join(dir, 'seeder');
  const seeder = await start([
    ...['seeder', '--data', seederDir, '--source', `file://${cacheDir}`, ...trusted, ...anyPort],
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

  const narInfoNames = (await readdir(cacheDir)).filter((name) => name.endsWith('.narinfo'));
  const texts = await Promise.all(narInfoNames.map((name) => readFile(join(cacheDir, name), 'utf8')));
  const field = (text: string, name: string): string =>
    new RegExp(`^${name}: (.*)$`, 'm').exec(text)?.[1] ?? '';
  // One that nothing else refers to, so that the others stay whole.
  const referenced = texts.flatMap((text) => {
    const own = field(text, 'StorePath').slice('/nix/store/'.length);
    return field(text, 'References')
      .split(' ')
      .filter((name) => name !== own);
  });
  const at = texts.findIndex(
    (text) => !referenced.includes(field(text, 'StorePath').slice('/nix/store/'.length)),
  );
  const bad = { name: narInfoNames[at] ?? '', text: texts[at] ?? '' };
  const has = async (program: Program, path: string): Promise<boolean> => {
    const answer = await fetch(`${program.url}/${path}`);
    await answer.arrayBuffer();
    return answer.ok;
  };
  for (const [index, name] of narInfoNames.entries()) {
    t.ok(await has(client, name));
    t.ok(await has(client, field(texts[index] ?? '', 'URL')));
    t.ok(await has(mirror, name));
  }

  const reason = 'holds the NAR of another package';
  await narswarm('revoke', field(bad.text, 'FileHash'), '--reason', reason, '--data', seederDir);
  await until(async () => !(await has(seeder, bad.name)));
  t.notOk(await has(seeder, field(bad.text, 'URL')));
  await until(async () =>
    /^View: revocations /m.test(await (await fetch(`${seeder.url}/catalog/head`)).text()),
  );

  // Both look at the head when they start; otherwise within minutes.
  t.equal(await mirror.stop(), 0);
  t.equal(await client.stop(), 0);
  mirror = await startMirror();
  client = await startClient();
  for (const program of [mirror, client]) {
    await until(async () => !(await has(program, bad.name)) && !(await has(program, field(bad.text, 'URL'))));
    for (const [index, name] of narInfoNames.entries()) {
      if (name === bad.name) continue;
      // A mirror looks through what it holds first.
      await until(() => has(program, name));
      t.ok(await has(program, field(texts[index] ?? '', 'URL')));
    }
  }
  await until(async () => {
    const { cache } = (await client.status()) as { cache: { files: number } };
    return cache.files === paths - 1;
  });
  t.match(await narswarm('report', seeder.url), /not counted yet/);
  for (const program of [client, mirror, seeder]) t.equal(await program.stop(), 0);
});
