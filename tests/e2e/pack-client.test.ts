/** Real Nix realises a closure of small paths through the client: from a pack over one connection, and nothing when it only looks. */
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { runCommand } from '../cli/run-command.ts';
import { nginxMissing, startNginx } from '../helpers/nginx.ts';
import { NixLab, nixMissing } from '../helpers/nix.ts';
import { type Program, startProgram, until, untilIngested } from '../helpers/program.ts';

const paths = 60;
const loopback = '127.0.0.1:0';

interface ClientStatus {
  bytes: { swarm: number; http: number; held: number };
  nars: { swarm: number; http: number; mixed: number; held: number };
  packs: { connections: number; warm: number; downloadedBytes: number };
  ahead: { fetched: number; used: number; unusedBytes: number };
  failed: number;
  wrong: number;
}

t.test(
  'Nix realises a closure of small paths out of a pack',
  { skip: nixMissing() || nginxMissing() },
  async (t) => {
    const lab = await NixLab.open();
    t.teardown(() => lab.close());
    const cacheDir = join(lab.dir, 'cache');
    await mkdir(cacheDir);
    const made = await runCommand([
      ...['sample-cache', cacheDir, '--paths', `${paths}`, '--median', '33KiB'],
      ...['--secret-key', lab.secretKeyFile],
    ]);
    t.equal(made.status, 0, made.errors);
    const root = (await readFile(join(cacheDir, 'store-paths'), 'utf8')).trim();
    const start = async (args: string[]): Promise<Program> => {
      const program = await startProgram(args);
      t.teardown(() => program.kill());
      return program;
    };
    const seeder = await start([
      ...['seeder', '--data', join(lab.dir, 'seeder'), '--source', `file://${cacheDir}`, '--pack-age', '0s'],
      ...['--trusted-key', lab.publicKey, '--http', loopback, '--peers', loopback],
    ]);
    await untilIngested(seeder, paths);
    await until(
      async () => ((await seeder.status()) as { packs: { nars: number } }).packs.nars > (paths * 9) / 10,
    );
    const { catalog } = (await seeder.status()) as { catalog: { publicKey: string } };
    const nginx = await startNginx(cacheDir);
    t.teardown(() => nginx.stop());
    const client = await start([
      ...['client', '--data', join(lab.dir, 'client'), '--upstream', nginx.url, '--http', loopback],
      ...['--catalog', seeder.url, '--catalog-key', catalog.publicKey, '--trusted-key', lab.publicKey],
    ]);
    const status = async (): Promise<ClientStatus> => (await client.status()) as unknown as ClientStatus;

    // Connections are made, as it may go on to fetch; but it fetches nothing.
    await lab.realise({ store: 'looked', path: root, substituters: [client.url], dryRun: true });
    await until(async () => (await status()).packs.warm > 0);
    t.match(await status(), {
      bytes: { swarm: 0, http: 0 },
      ahead: { fetched: 0 },
      packs: { downloadedBytes: 0 },
    });

    await lab.realise({ store: 'filled', path: root, substituters: [client.url] });
    await lab.verify('filled');
    t.equal((await lab.closure('filled', root)).length, paths);
    const after = await status();
    t.match(after, { failed: 0, wrong: 0, packs: { connections: 1 } });
    const narInfos = (await readdir(cacheDir)).filter((name) => name.endsWith('.narinfo'));
    const { swarm, http, mixed } = after.nars;
    t.equal(swarm + http + mixed, narInfos.length, 'each was fetched once');
    t.ok(swarm > paths / 2, `${swarm} came from the swarm`);
    t.ok(after.packs.downloadedBytes > after.bytes.http, 'most of it from the pack');
    t.equal(after.ahead.used, after.ahead.fetched, 'Nix asked for all that was fetched before it did');
    for (const program of [client, seeder]) t.equal(await program.stop(), 0);
  },
);
