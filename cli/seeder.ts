/** `narswarm seeder`. */

import { hostname } from 'node:os';
import { join } from 'node:path';
import { isViewName, revocationsView } from '../catalog/head.ts';
import { NarswarmError } from '../nar/errors.ts';
import { printPublicKey, printSecretKey, publicKeyOf, type SecretKey } from '../nar/signature.ts';
import { announceToMax } from '../seeder/announce-to.ts';
import { openSeeder } from '../seeder/main.ts';
import { packSizeMaxBytes } from '../seeder/pack-closer.ts';
import { type Logger, makeLogger } from '../web/log.ts';
import { type CommandIo, defineCommand, usageError } from './command.ts';
import { summaryOf } from './commands.ts';
import { dhtBootstrapFlag, dhtFlag, dhtOf } from './dht-flags.ts';
import { checkSourceDirs, makeDataDir } from './directories.ts';
import { anyText, many, optional, toggle, withDefault } from './flags.ts';
import { ingestLine, type ShownProgress } from './ingest-line.ts';
import { makeSecretKey, writeNew } from './key-files.ts';
import { readSecretKey } from './key-flags.ts';
import {
  defaultDataDir,
  parseSource,
  publicHostFlag,
  seederHttpDefault,
  seederPeersDefault,
  trustedKeyFlag,
} from './program-flags.ts';
import { ProgressLine } from './progress-line.ts';
import { parseScheduledRate } from './scheduled-rate.ts';
import { serveUntilStopped } from './serve.ts';
import { aborted } from './signals.ts';
import {
  parseCount,
  parseDuration,
  parseHostPort,
  parseSize,
  parseUploadRate,
  parseUrl,
  printSize,
} from './units.ts';

const dataDir = defaultDataDir('seeder', process.env);
/** More than anybody would give away of one file. */
const copiesMax = 1_000_000;
/** The tracker names at most 200 peers of a torrent. */
const seedsMax = 200;
/** A head lives longer than it takes to be fetched, and not so long that a frozen catalog goes unnoticed. */
const lifetimeMinMs = 60_000;
const lifetimeMaxMs = 365 * 24 * 3600 * 1000;
const anyPort = { host: '127.0.0.1', port: 0 };

export const command = defineCommand({
  name: 'seeder',
  summary: summaryOf('seeder'),
  flags: {
    source: many({
      value: 'URL',
      help: 'binary cache: file:///dir, served in place, or http(s)://…, copied; at least one',
      parse: parseSource,
    }),
    'trusted-key': { ...trustedKeyFlag, help: `${trustedKeyFlag.help}; what none of them signed is refused` },
    'secret-key': optional({
      value: 'FILE',
      help: 'signs the catalog; without one a key is made and kept in the data directory',
      parse: readSecretKey,
    }),
    'next-key': many({
      value: 'FILE',
      help: 'secret key that signs the heads of the catalog as well: whoever follows then takes heads that it alone signs',
      parse: readSecretKey,
    }),
    view: many({
      value: 'NAME=FILE|URL',
      help: 'list of store paths, plain or .xz; its closure is published in one file, so that clients need nothing else',
      parse: parseView,
    }),
    'publish-every': withDefault({
      value: 'TIME',
      help: 'how often what is new is published in the catalog',
      parse: parseDuration,
      fallback: '1min',
    }),
    'head-lifetime': withDefault({
      value: 'TIME',
      help: 'how long a head of the catalog holds; renewed when a third of it is over',
      parse: parseLifetime,
      fallback: '7d',
    }),
    data: withDefault({
      value: 'DIR',
      help: 'catalog, key and what is copied from http(s) sources; made if it is missing',
      parse: anyText,
      fallback: dataDir,
    }),
    http: withDefault({
      value: 'HOST:PORT',
      help: 'where catalog, tracker and NAR files are served',
      parse: parseHostPort,
      fallback: seederHttpDefault,
    }),
    peers: withDefault({
      value: 'HOST:PORT',
      help: 'where BitTorrent peers are served',
      parse: parseHostPort,
      fallback: seederPeersDefault,
    }),
    'tracker-udp': optional({
      value: 'HOST:PORT',
      help: 'where the tracker answers over UDP as well; without it only over HTTP',
      parse: parseHostPort,
    }),
    'announce-to': many({
      value: 'URL',
      help: 'another tracker, http(s)://…/announce: named in .torrent files, and told of what was asked for lately',
      parse: (text) => parseUrl(text, ['http:', 'https:']),
    }),
    'tracker-whitelist': optional({
      value: 'FILE',
      help: 'where the infohashes of the catalog are written, and again when it changes, for opentracker -w',
      parse: anyText,
    }),
    'tracker-reload': optional({
      value: 'COMMAND',
      help: "run by the shell after each change of that file, for instance 'systemctl kill -s HUP opentracker'",
      parse: anyText,
    }),
    'public-host': publicHostFlag,
    dht: dhtFlag(
      'which announces what was asked for lately and says where the newest head of the catalog is',
    ),
    'dht-bootstrap': dhtBootstrapFlag,
    'initial-copies': withDefault({
      value: 'N',
      help: 'copies of a NAR file that leave freely; then it is capped',
      parse: (text) => parseCount(text, 0, copiesMax),
      fallback: '3',
    }),
    'capped-rate': withDefault({
      value: 'RATE',
      help: 'upload of each NAR file that is capped',
      parse: parseUploadRate,
      fallback: '64KiB/s',
    }),
    'upload-rate': optional({
      value: 'RATE',
      help: 'upload of all NAR files together; without it there is no limit',
      parse: parseUploadRate,
    }),
    'min-seeds': withDefault({
      value: 'N',
      help: 'a capped NAR file with fewer other seeds than this is free again',
      parse: (text) => parseCount(text, 0, seedsMax),
      fallback: '2',
    }),
    'lonely-after': withDefault({
      value: 'TIME',
      help: 'once it has had too few for so long',
      parse: parseDuration,
      fallback: '10min',
    }),
    schedule: many({
      value: 'CRON=RATE',
      help: "takes the place of --upload-rate from when it is due, for instance '0 8 * * 1-5=20MiB/s' or '0 20 * * *=unlimited'",
      parse: (text) => parseScheduledRate(text, 1024),
    }),
    'pack-size': withDefault({
      value: 'SIZE',
      help: 'NAR files of at most 1 MiB are put together into packs of this size; 0 makes none',
      parse: parsePackSize,
      fallback: '256MiB',
    }),
    'pack-age': withDefault({
      value: 'TIME',
      help: 'a pack is closed before it is full when a NAR file has waited for so long',
      parse: parseDuration,
      fallback: '1h',
    }),
    scan: optional({
      value: 'CRON',
      help: "when the sources are read again, for instance '*/10 * * * *'; without it only at start",
      parse: anyText,
    }),
    'store-paths': optional({
      value: 'FILE|URL',
      help: 'one store path a line, plain or .xz: what to take from http(s) sources, with all references',
      parse: anyText,
    }),
    once: toggle('read the sources once, then end'),
  },
  notes: [
    'With --once the exit status is 1 when a narinfo is refused or a source cannot be read, and a summary is printed. Packs that are full are closed; what is too little for one waits for the next run.',
    'Standard output has one line when the seeder listens: ready seeder URL peers HOST:PORT tracker URL, and with',
    '--tracker-udp also tracker-udp URL.',
  ],
  examples: [
    "seeder --source file:///srv/cache --trusted-key 'cache.example-1:…' --http 0.0.0.0:8421 --peers 0.0.0.0:6881",
    'seeder --source https://cache.example --store-paths store-paths.xz --once',
  ],
  async run({ values, given, io }) {
    const { source: sources, data, once, scan } = values;
    if (sources.length === 0)
      throw usageError('--source is missing; write --source file:///directory or http(s)://…');
    const storePaths = values['store-paths'];
    if (storePaths === undefined && sources.some((source) => !source.startsWith('file:'))) {
      throw usageError('a cache behind HTTP cannot be listed; write --store-paths FILE|URL as well');
    }
    if (once && scan !== undefined) throw usageError('--once and --scan exclude each other');
    const dht = dhtOf(values);
    await checkSourceDirs(sources);
    await makeDataDir(data);
    // The line of the progress and those of the log share the terminal.
    const line = io.noteIsTerminal ? new ProgressLine(io.note) : undefined;
    const logger = makeLogger(line === undefined ? {} : { human: true, write: (text) => line.above(text) });
    const secretKey = values['secret-key'] ?? (await keptKey(data, logger));
    const publicHost = values['public-host'];
    const trackerUdp = values['tracker-udp'];
    const announceTo = values['announce-to'];
    if (announceTo.length > announceToMax)
      throw usageError(`--announce-to is given more than ${announceToMax} times`);
    const { 'tracker-whitelist': whitelistFile, 'tracker-reload': reloadCommand } = values;
    if (whitelistFile === undefined && reloadCommand !== undefined)
      throw usageError('--tracker-reload is of use with --tracker-whitelist FILE alone');
    if (whitelistFile !== undefined && once)
      throw usageError('--once and --tracker-whitelist exclude each other');
    const trackerWhitelist = whitelistFile !== undefined && {
      file: whitelistFile,
      ...(reloadCommand === undefined ? {} : { reloadCommand }),
    };
    const seeder = await openSeeder({
      dataDir: data,
      sources,
      trustedKeys: values['trusted-key'].flat(),
      secretKey,
      // Nobody is to find a seeder that goes away again, and one that stays may have the usual ports.
      http: once && !given.has('http') ? anyPort : values.http,
      peers: once && !given.has('peers') ? anyPort : values.peers,
      logger,
      ...(line === undefined ? {} : { onProgress: showOn(line) }),
      ...(trackerUdp === undefined || once ? {} : { trackerUdp }),
      upload: {
        initialCopies: values['initial-copies'],
        cappedBytesPerSecond: values['capped-rate'],
        minSeeds: values['min-seeds'],
        lonelyAfterMs: values['lonely-after'],
        bytesPerSecond: values['upload-rate'],
        schedules: values.schedule,
      },
      nextKeys: values['next-key'],
      views: values.view,
      publishEveryMs: values['publish-every'],
      headLifetimeMs: values['head-lifetime'],
      // One run is not the time in which more may come.
      packs: { sizeBytes: values['pack-size'], ageMs: once ? Number.POSITIVE_INFINITY : values['pack-age'] },
      ...(once ? {} : { announceTo }),
      ...(trackerWhitelist ? { trackerWhitelist } : {}),
      ...(publicHost === undefined ? {} : { publicHost }),
      ...(dht === undefined || once ? {} : { dht }),
      ...(scan === undefined ? {} : { scanCron: scan }),
      ...(storePaths === undefined ? {} : { storePaths }),
    });
    if (!once) return serveUntilStopped(io, seeder, { role: 'seeder', ...seeder });
    return runOnce(seeder, io, values['pack-size'] > 0);
  },
});

/** Throws config-invalid. */
function parsePackSize(text: string): number {
  const size = parseSize(text);
  if (size > packSizeMaxBytes)
    throw new NarswarmError('config-invalid', `a pack has at most ${printSize(packSizeMaxBytes)}`);
  return size;
}

/** Throws config-invalid. */
function parseView(text: string): { name: string; list: string } {
  const at = text.indexOf('=');
  const [name, list] = [text.slice(0, Math.max(at, 0)), text.slice(at + 1)];
  if (name === revocationsView)
    throw new NarswarmError('config-invalid', `a view named ${name} is made by the seeder itself`);
  if (isViewName(name) && list !== '') return { name, list };
  throw new NarswarmError(
    'config-invalid',
    `${JSON.stringify(text)} is not NAME=FILE|URL; write nixos-26.05=store-paths.xz`,
  );
}

/** Throws config-invalid. */
function parseLifetime(text: string): number {
  const lifetimeMs = parseDuration(text);
  if (lifetimeMs >= lifetimeMinMs && lifetimeMs <= lifetimeMaxMs) return lifetimeMs;
  throw new NarswarmError('config-invalid', 'the head of a catalog holds for a minute to a year');
}

function showOn(line: ProgressLine): (progress: ShownProgress & { running: boolean }) => void {
  return (progress) => {
    if (progress.running) line.show(ingestLine(progress));
    else line.end();
  };
}

/** The key of the data directory, made at the first start. */
async function keptKey(dataDir: string, logger: Logger): Promise<SecretKey> {
  const file = join(dataDir, 'catalog.secret');
  try {
    return readSecretKey(file);
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : undefined;
    if (cause === undefined || !('code' in cause) || cause.code !== 'ENOENT') throw error;
  }
  const key = makeSecretKey(`${keyHost(hostname())}-1`);
  await writeNew(file, `${printSecretKey(key)}\n`, 0o600);
  logger.info('catalog-key-made', { file, publicKey: printPublicKey(publicKeyOf(key)) });
  return key;
}

/** Host names may hold what key names may not. */
function keyHost(name: string): string {
  return (
    name
      .replaceAll(/[^A-Za-z0-9.-]/g, '')
      .replace(/^[.-]+/, '')
      .slice(0, 64) || 'narswarm'
  );
}

function packsLine({ closed, nars, unpacked }: OncePacks): string {
  const inPacks = `${nars} of them in ${closed} ${closed === 1 ? 'pack' : 'packs'}`;
  return `${inPacks}; ${unpacked.nars} of at most 1 MiB wait for one, ${printSize(unpacked.bytes)}\n`;
}

interface OncePacks {
  closed: number;
  nars: number;
  unpacked: { nars: number; bytes: number };
}

/** What a summary needs of a seeder. */
interface OnceSeeder {
  ingested: Promise<void>;
  closePacks(): Promise<void>;
  status(): {
    catalog: { nars: number; rejected: number; rejectedByCode?: Record<string, number> };
    packs: OncePacks;
    ingest: { failed: { source: string; message: string }[] };
    log: { fault: string | null };
  };
  publish(): Promise<void>;
  close(): Promise<void>;
}

async function runOnce(seeder: OnceSeeder, io: CommandIo, packing: boolean): Promise<number> {
  const stop = aborted(io.signal).then(() => true);
  const work = seeder.ingested.then(() => seeder.closePacks()).then(() => false);
  const stopped = await Promise.race([work, stop]);
  const { catalog, packs, ingest } = seeder.status();
  const { nars, rejected, rejectedByCode = {} } = catalog;
  if (!stopped) await seeder.publish();
  const { fault } = seeder.status().log;
  await seeder.close();
  // Given up: it was stopped.
  if (stopped) await work.catch(() => undefined);
  if (stopped) io.out('stopped before all was read; the next run goes on from here\n');
  io.out(
    `${nars} NAR files in the catalog, ${rejected} ${rejected === 1 ? 'narinfo' : 'narinfos'} refused\n`,
  );
  if (packing) io.out(packsLine(packs));
  for (const [code, count] of Object.entries(rejectedByCode)) io.out(`  ${count} ${code}\n`);
  for (const { source, message } of ingest.failed)
    io.out(`  ${source} was not read to its end: ${message}\n`);
  if (fault !== null) io.out(`  the catalog was not published: ${fault}\n`);
  return (rejected > 0 || ingest.failed.length > 0 || fault !== null) && !stopped ? 1 : 0;
}
