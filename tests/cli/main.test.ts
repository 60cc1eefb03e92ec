import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { commands } from '../../cli/commands.ts';
import { runCommand } from './run-command.ts';

const main = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));

t.test('--help names every command, and every command has its own', async (t) => {
  const { status, out } = await runCommand(['--help']);
  t.equal(status, 0);
  for (const { name, summary } of commands)
    t.ok(out.includes(name) && out.replaceAll(/\s+/g, ' ').includes(summary), name);
  for (const { name } of commands) {
    const help = await runCommand([name, '--help']);
    t.equal(help.status, 0, name);
    t.equal(help.errors, '', `${name} says nothing else`);
    t.match(help.out, new RegExp(`^narswarm ${name}: [^\\n]+\\n\\nUsage: narswarm ${name}.*\\n\\nFlags:\\n`));
    t.match(help.out, /--config FILE/);
    // The same for all of them; each costs the start of a program.
    if (name === 'seeder') t.same(await runCommand(['help', name]), help);
  }
});

t.test('--version is that of package.json', async (t) => {
  const manifest = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8'));
  t.same(await runCommand(['--version']), { status: 0, out: `narswarm ${manifest.version}\n`, errors: '' });
});

t.test('a wrong command line ends with 2 and says what to write', async (t) => {
  const cases: [string[], RegExp][] = [
    [[], /Usage: narswarm COMMAND/],
    [['clinet'], /there is no command "clinet"; did you mean client\?/],
    [['frobnicate'], /there is no command "frobnicate"; there are .*client/],
    [['--data', 'x', 'client'], /the command comes first/],
    [['keygen'], /narswarm keygen: NAME is missing\nTry `narswarm keygen --help`/],
    [['keygen', 'a', 'b'], /"b" is one argument too many/],
    [['client', '--cache-sise', '1'], /did you mean --cache-size\?/],
    [['client', '--http', '8420'], /--http: "8420" is not an address; write HOST:PORT/],
    [['client', '--catalog', 'http://a.example'], /--catalog-key/],
    [['client', '--catalog', 'a.example', '--catalog-key', 'x'], /--catalog: "a\.example" is not a URL/],
    [['client', '--no-upstream'], /there must be a catalog/],
    [['client', '--no-upstream', '--upstream', 'http://a.example'], /exclude each other/],
    [['seeder'], /--source is missing/],
    [['seeder', '--source', '/srv/cache'], /write file:\/\/\/srv\/cache/],
    [['seeder', '--source', 'file://srv/cache'], /file:\/\/\/directory/],
    [['seeder', '--source', 'https://cache.example'], /--store-paths/],
    [['seeder', '--source', 'file:///x', '--dht', '[::]:6881'], /--dht: the DHT is spoken over IPv4/],
    [
      ['seeder', '--source', 'file:///x', '--dht-bootstrap', 'a.example:1'],
      /of use with --dht HOST:PORT alone/,
    ],
    [['seeder', '--source', 'file:///x', '--once', '--scan', '* * * * *'], /exclude each other/],
    [['sample-cache', 'x', '--compression', 'lzma'], /write zstd, xz, none/],
    [['torrent'], /FILE is missing/],
    [['status', 'nonsense'], /is not a URL/],
    [['status', '--timeout', '5'], /is not a time/],
  ];
  for (const [args, message] of cases) {
    const { status, out, errors } = await runCommand(args);
    t.equal(status, 2, args.join(' '));
    t.match(errors, message);
    t.equal(out, '');
  }
});

t.test('a failure that is nobody`s command line ends with 1, in one line', async (t) => {
  const { status, errors } = await runCommand(['torrent', '/no/such/file.nar']);
  t.equal(status, 1);
  t.match(errors, /^narswarm: [^\n]*no\/such\/file[^\n]*\n$/);
  const traced = await runCommand(['torrent', '/no/such/file.nar'], { env: { NARSWARM_TRACE: '1' } });
  t.match(traced.errors, /\n {4}at /);
});

t.test('output that nobody reads any more is no failure', async (t) => {
  const child = spawn(process.execPath, [main, 'client', '--help'], { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.destroy();
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  await once(child, 'close');
  t.equal(child.exitCode, 0);
  t.equal(errors, '');
});

t.test('status shows a running program, whichever it is', async (t) => {
  const status = {
    role: 'seeder',
    catalog: { nars: 12_345, rejectedByCode: {} },
    swarm: { uploadedBytes: 1_572_864 },
  };
  const server = createServer((request, response) => {
    const found = request.url === '/status';
    response.writeHead(found ? 200 : 404, { 'content-type': 'application/json' });
    response.end(found ? JSON.stringify(status) : '{}');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const address = server.address();
  const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`;
  const table = await runCommand(['status', url]);
  t.equal(table.status, 0, table.errors);
  t.match(table.out, /^role {2}seeder$/m);
  t.match(table.out, /^ {2}nars +12,345$/m);
  t.match(table.out, /^ {2}uploadedBytes +1\.5 MiB$/m);
  const json = await runCommand(['status', `${url}/`, '--json']);
  t.same(JSON.parse(json.out), status);
});

t.test('status of nothing says so', async (t) => {
  const server = createServer((_request, response) => response.end('hello')).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`;
  const other = await runCommand(['status', url]);
  t.equal(other.status, 1);
  t.match(other.errors, /is no narswarm program/);
  server.close();
  await once(server, 'close');
  const gone = await runCommand(['status', url]);
  t.equal(gone.status, 1);
  t.match(gone.errors, /does not answer; is the program running\?/);
});
