/** Seeder and client as processes: ready lines, signals, exit statuses. What they do is tested elsewhere. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { parseSecretKey, printPublicKey, publicKeyOf } from '../../nar/signature.ts';
import { runCommand } from './run-command.ts';

const main = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));

interface Started {
  child: ChildProcess;
  ready: string;
  errors(): string;
}

async function start(t: Test, args: string[]): Promise<Started> {
  const child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  for await (const line of createInterface({ input: child.stdout }))
    return { child, ready: line, errors: () => errors };
  throw new Error(`no ready line: ${errors}`);
}

async function end(
  child: ChildProcess,
  signal: NodeJS.Signals,
): Promise<{ status: number | null; ms: number }> {
  const startMs = performance.now();
  const closed = once(child, 'close');
  child.kill(signal);
  await closed;
  return { status: child.exitCode, ms: performance.now() - startMs };
}

async function sampleCache(t: Test): Promise<{ base: string; cache: string; key: string }> {
  const base = t.testdir();
  const cache = join(base, 'cache');
  const { status, errors } = await runCommand(['sample-cache', cache, '--paths', '5', '--median', '10KiB']);
  t.equal(status, 0, errors);
  return { base, cache, key: join(cache, 'public-key') };
}

const anyPort = ['--http', '127.0.0.1:0'];

t.test('a seeder says where it listens, keeps its key, and ends with 0 on SIGTERM', async (t) => {
  const { base, cache, key } = await sampleCache(t);
  const data = join(base, 'data');
  const args = ['seeder', '--data', data, '--source', `file://${cache}`, '--trusted-key', key, ...anyPort];
  const first = await start(t, [...args, '--peers', '127.0.0.1:0']);
  const url =
    /^ready seeder (http:\/\/127\.0\.0\.1:[1-9]\d*) peers 127\.0\.0\.1:[1-9]\d* tracker http:\/\/\S+\/announce$/.exec(
      first.ready,
    );
  t.ok(url, first.ready);
  const secret = parseSecretKey(await readFile(join(data, 'catalog.secret'), 'utf8'));
  t.equal((await stat(join(data, 'catalog.secret'))).mode & 0o777, 0o600);
  const publicKey = printPublicKey(publicKeyOf(secret));
  t.match(first.errors(), publicKey, 'the new key is told');
  const status = await runCommand(['status', url?.[1] ?? '', '--json']);
  t.match(JSON.parse(status.out), { role: 'seeder', catalog: { publicKey } });
  for (const line of first
    .errors()
    .split('\n')
    .filter((each) => each.startsWith('{')))
    t.ok(JSON.parse(line).event);
  const ended = await end(first.child, 'SIGTERM');
  t.equal(ended.status, 0);
  t.ok(ended.ms < 4000, `${ended.ms} ms`);

  const second = await start(t, [...args, '--peers', '127.0.0.1:0']);
  t.notMatch(second.errors(), 'catalog-key-made');
  const secondUrl = second.ready.split(' ')[2] ?? '';
  t.match(JSON.parse((await runCommand(['status', secondUrl, '--json'])).out), { catalog: { publicKey } });
  t.equal((await end(second.child, 'SIGINT')).status, 0);
});

t.test('a client says where it listens and ends with 0 on SIGINT', async (t) => {
  const base = t.testdir();
  const client = await start(t, ['client', '--data', base, '--upstream', 'http://127.0.0.1:1', ...anyPort]);
  t.match(client.ready, /^ready client http:\/\/127\.0\.0\.1:[1-9]\d*$/);
  const status = await runCommand(['status', client.ready.split(' ')[2] ?? '']);
  t.match(status.out, /^role +client$/m);
  t.equal((await end(client.child, 'SIGINT')).status, 0);
});

t.test('a port that is taken is told in one line', async (t) => {
  const base = t.testdir({ a: {}, b: {} });
  const client = await start(t, ['client', '--data', join(base, 'a'), ...anyPort]);
  const address = client.ready.split('http://')[1] ?? '';
  const second = await runCommand(['client', '--data', join(base, 'b'), '--http', address]);
  t.not(second.status, 0);
  t.match(second.errors, address);
  t.equal(second.out, '');
  await end(client.child, 'SIGTERM');
});

t.test('a program goes on when nobody reads its output', async (t) => {
  const client = await start(t, ['client', '--data', t.testdir(), ...anyPort]);
  client.child.stdout?.destroy();
  const status = await runCommand(['status', client.ready.split(' ')[2] ?? '']);
  t.equal(status.status, 0);
  t.equal((await end(client.child, 'SIGTERM')).status, 0);
});

t.test('--once reads the source, sums up, and fails when something was refused', async (t) => {
  const { base, cache, key } = await sampleCache(t);
  const args = [
    'seeder',
    '--data',
    join(base, 'data'),
    '--source',
    `file://${cache}`,
    '--trusted-key',
    key,
    '--once',
  ];
  const good = await runCommand(args);
  t.equal(good.status, 0, good.errors);
  t.match(
    good.out,
    /^5 NAR files in the catalog, 0 narinfos refused\n0 of them in 0 packs; 5 of at most 1 MiB wait for one, [\d.]+ KiB\n$/,
  );
  const narInfo = (await readdir(cache)).find((name) => name.endsWith('.narinfo')) ?? '';
  const url = /^URL: (.*)$/m.exec(await readFile(join(cache, narInfo), 'utf8'))?.[1] ?? '';
  await rm(join(cache, url));
  await rm(join(base, 'data'), { recursive: true });
  const bad = await runCommand(args);
  t.equal(bad.status, 1, bad.errors);
  t.match(bad.out, /^4 NAR files in the catalog, 1 narinfo refused\n0 of .*\n {2}1 nar-file-missing\n$/);
  const all = await runCommand([...args, '--pack-size', '4KiB']);
  t.match(all.out, /^4 NAR files in the catalog, 1 narinfo refused\n[1-4] of them in \d+ packs?; /);
});

t.test('--once fails when a source could not be read', async (t) => {
  const args = ['seeder', '--data', join(t.testdir(), 'data'), '--once', '--source', 'http://127.0.0.1:9'];
  const paths = join(t.testdir({ paths: '/nix/store/8r551z29g4jx3fr1vx8jh8bhgzwm3h4r-x\n' }), 'paths');
  const { status, out } = await runCommand([...args, '--store-paths', paths]);
  t.equal(status, 1);
  t.match(
    out,
    /^0 NAR files in the catalog, 0 narinfos refused\n0 of .*\n {2}http:\/\/127\.0\.0\.1:9 was not read/,
  );
});

t.test('a second process on the same data directory is told so', async (t) => {
  const { base, cache, key } = await sampleCache(t);
  const seeder = ['seeder', '--source', `file://${cache}`, '--trusted-key', key, '--peers', '127.0.0.1:0'];
  for (const command of [seeder, ['client']]) {
    const args = [...command, '--data', join(base, command[0] ?? ''), ...anyPort];
    const first = await start(t, args);
    const second = await runCommand(args);
    t.equal(second.status, 1);
    t.match(second.errors, /the data directory \S+ is used by another narswarm process/);
    t.equal(second.out, '');
    t.equal((await end(first.child, 'SIGTERM')).status, 0);
  }
});

t.test('directories that are not there or cannot be made are named', async (t) => {
  const dir = t.testdir({ file: '' });
  const source = await runCommand(['seeder', '--data', join(dir, 'data'), '--source', `file://${dir}/none`]);
  t.equal(source.status, 2);
  t.match(source.errors, /--source: \S+\/none is not there/);
  const file = await runCommand(['up', '--data', join(dir, 'data'), '--source', `file://${dir}/file`]);
  t.equal(file.status, 2);
  t.match(file.errors, /--source: \S+\/file is no directory/);
  const data = await runCommand(['client', '--data', join(dir, 'file', 'x')]);
  t.equal(data.status, 1);
  t.match(data.errors, /^narswarm: cannot make the data directory \S+\/file\/x [^\n]*\n$/);
});
