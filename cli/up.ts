/** `narswarm up`: seeder and client in one process on this machine, and a closure fetched through them to see. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Client, openClient } from '../client/main.ts';
import { isNarswarmError } from '../nar/errors.ts';
import { type PublicKey, printPublicKey, type SecretKey } from '../nar/signature.ts';
import { type StorePath, storeHashOf } from '../nar/store-path.ts';
import { openSeeder, type Seeder } from '../seeder/main.ts';
import { makeLogger } from '../web/log.ts';
import { type CommandIo, defineCommand, usageError } from './command.ts';
import { summaryOf } from './commands.ts';
import { checkSourceDirs, makeDataDir } from './directories.ts';
import { anyText, many, optional } from './flags.ts';
import { makeSecretKey } from './key-files.ts';
import { clientHttpDefault, parseSource, seederHttpDefault, trustedKeyFlag } from './program-flags.ts';
import { makeSampleCache } from './sample-cache/make.ts';
import { aborted } from './signals.ts';
import { parseHostPort, printDuration, printSize } from './units.ts';
import { fetchClosure } from './up/fetch-closure.ts';
import { ProgressLine } from './up/progress-line.ts';
import { sourceTable } from './up/source-table.ts';

/** A closure that takes a few seconds to make and to fetch. */
const samplePaths = 100;
const clientCacheBytes = 10 * 1024 ** 3;

export const command = defineCommand({
  name: 'up',
  summary: summaryOf('up'),
  flags: {
    data: optional({
      value: 'DIR',
      help: 'where everything is kept; without it in a new directory that is removed at the end',
      parse: anyText,
    }),
    source: many({
      value: 'URL',
      help: 'binary cache to seed, file:///dir or http(s)://…; without one a sample cache is made',
      parse: parseSource,
    }),
    'trusted-key': trustedKeyFlag,
    'store-paths': optional({
      value: 'FILE|URL',
      help: 'one store path a line, plain or .xz: what to take from http(s) sources, with all references',
      parse: anyText,
    }),
  },
  notes: ['Listens on this machine only. Ctrl-C ends it.'],
  examples: ['up', "up --source file:///srv/cache --trusted-key 'cache.example-1:…'"],
  async run({ values, io }) {
    const storePaths = values['store-paths'];
    if (storePaths === undefined && values.source.some((source) => !source.startsWith('file:'))) {
      throw usageError('a cache behind HTTP cannot be listed; write --store-paths FILE|URL as well');
    }
    await checkSourceDirs(values.source);
    if (values.data !== undefined) await makeDataDir(values.data);
    const dir = values.data ?? (await mkdtemp(join(tmpdir(), 'narswarm-up-')));
    try {
      const sample = values.source.length === 0 ? await makeSample(dir, io) : undefined;
      const seeding: Seeding = {
        sources: sample === undefined ? values.source : [sample.url],
        trustedKeys: sample === undefined ? values['trusted-key'].flat() : [sample.publicKey],
        storePaths,
      };
      return await show(dir, seeding, sample, io);
    } catch (error) {
      // Ctrl-C while something was being made.
      if (io.signal.aborted && !isNarswarmError(error, 'config-invalid')) return 0;
      throw error;
    } finally {
      if (values.data === undefined) await rm(dir, { recursive: true, force: true });
    }
  },
});

interface Sample {
  url: string;
  publicKey: PublicKey;
  root: StorePath;
}

interface Seeding {
  sources: string[];
  trustedKeys: PublicKey[];
  storePaths: string | undefined;
}

async function makeSample(dir: string, io: CommandIo): Promise<Sample> {
  const cacheDir = join(dir, 'sample-cache');
  // One that an earlier run left unfinished, or whose key is gone, is of no use.
  await rm(cacheDir, { recursive: true, force: true });
  const line = new ProgressLine(io);
  const secretKey: SecretKey = makeSecretKey('sample-cache-1');
  const made = await makeSampleCache({
    dir: cacheDir,
    paths: samplePaths,
    compression: 'zstd',
    secretKey,
    seed: 1,
    signal: io.signal,
    onProgress: ({ paths, ofPaths, narBytes }) =>
      line.show(`making a sample cache: ${paths} of ${ofPaths} paths, ${printSize(narBytes)}`),
  });
  line.finish(
    `made a sample cache: ${made.paths} signed store paths, ${printSize(made.fileBytes)} of NAR files`,
  );
  return { url: `file://${cacheDir}`, publicKey: secretKey.publicKey, root: made.root };
}

async function show(
  dir: string,
  seeding: Seeding,
  sample: Sample | undefined,
  io: CommandIo,
): Promise<number> {
  const logger = makeLogger({ level: 'warn' });
  const { storePaths, ...rest } = seeding;
  const seeder = await onFreePort(seederHttpDefault, (http) =>
    openSeeder({
      ...rest,
      ...(storePaths === undefined ? {} : { storePaths }),
      dataDir: join(dir, 'seeder'),
      secretKey: makeSecretKey('up-catalog-1'),
      http,
      peers: { host: http.host, port: 0 },
      logger,
    }),
  );
  try {
    await ingest(seeder, io);
    const client = await onFreePort(clientHttpDefault, (http) =>
      openClient({
        dataDir: join(dir, 'client'),
        upstreams: [],
        noUpstream: true,
        catalogs: [seeder.url],
        catalogKeys: [seeder.publicKey],
        trustedKeys: seeding.trustedKeys,
        http,
        peers: { host: http.host, port: 0 },
        cacheSizeBytes: clientCacheBytes,
        share: 'off',
        logger,
      }),
    );
    try {
      if (sample !== undefined) await demonstrate(client, sample, io);
      io.serving();
      io.out(whatNext(seeder, client, seeding.trustedKeys, sample));
      io.out(`ready up ${client.url} peers ${seeder.peersAddress} tracker ${seeder.trackerUrl}\n`);
      await aborted(io.signal);
    } finally {
      await client.close();
    }
  } finally {
    await seeder.close();
  }
  return 0;
}

/** Shows how far the seeder is with reading its sources. */
async function ingest(seeder: Seeder, io: CommandIo): Promise<void> {
  const line = new ProgressLine(io);
  const describe = (): string => {
    const { catalog } = seeder.status();
    return `${catalog.nars} NAR files verified, ${printSize(catalog.bytes)}, ${catalog.rejected} narinfos refused`;
  };
  const timer = setInterval(() => line.show(`seeding: ${describe()}`), 100);
  try {
    await Promise.race([seeder.ingested, aborted(io.signal)]);
  } finally {
    clearInterval(timer);
  }
  io.signal.throwIfAborted();
  line.finish(`seeding: ${describe()}`);
}

async function demonstrate(client: Client, sample: Sample, io: CommandIo): Promise<void> {
  const line = new ProgressLine(io);
  const startMs = performance.now();
  const closure = await fetchClosure({
    substituter: client.url,
    roots: [storeHashOf(sample.root)],
    signal: io.signal,
    onProgress: ({ fetched, found, bytes }) =>
      line.show(`fetching a closure through the client: ${fetched} of ${found} paths, ${printSize(bytes)}`),
  });
  const tookMs = performance.now() - startMs;
  line.finish(`fetched a closure through the client: ${closure.fetched} paths in ${printDuration(tookMs)}`);
  io.out(`\n${sourceTable(client.status(), tookMs)}\n`);
}

function whatNext(
  seeder: Seeder,
  client: Client,
  trustedKeys: PublicKey[],
  sample: Sample | undefined,
): string {
  const lines = [
    'What to try next:',
    `  ${client.url}/_narswarm/  what came from where`,
    `  ${seeder.url}/  the seeder: torrents, refusals, peers`,
    '  in nix.conf, to use it with Nix on this machine:',
    `    substituters = ${client.url} https://cache.nixos.org`,
    ...(sample === undefined
      ? []
      : [
          `    trusted-public-keys = ${trustedKeys.map(printPublicKey).join(' ')}`,
          '  then, for instance:',
          `    nix-store --realise ${sample.root}`,
        ]),
    'Ctrl-C ends it.',
  ];
  return `\n${lines.join('\n')}\n`;
}

/** The usual port, so that addresses stay the same from run to run; any other when it is taken. */
async function onFreePort<T>(
  usual: string,
  open: (http: { host: string; port: number }) => Promise<T>,
): Promise<T> {
  const http = parseHostPort(usual);
  try {
    return await open(http);
  } catch (error) {
    if (!isNarswarmError(error, 'config-invalid')) throw error;
    return open({ ...http, port: 0 });
  }
}
