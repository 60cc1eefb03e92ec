/**
 * A closure of 1,500 small NAR files through the client, beside nginx asked directly, everything 50 ms away. Real processes: nginx, a seeder with
 * a closed pack, a new client for each run, a reader that does what Nix does, and a process for each path that takes time.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { nginxMissing, startNginx } from '../../tests/helpers/nginx.ts';
import { NixLab, nixMissing } from '../../tests/helpers/nix.ts';
import { type Program, startProgram, until, untilIngested } from '../../tests/helpers/program.ts';
import { baseNameOf, fieldOf, makeSampleCache, type SampleCache } from '../../tests/helpers/sample-cache.ts';
import { PeerProcess } from './peer-process.ts';
import { cpuSecondsOf } from './process-cost.ts';
import type { SectionOptions } from './sections.ts';
import type { SmallRead } from './small-reader.ts';
import { median, type Row } from './table.ts';

const narFiles = 1_500;
/** What a daemon has fetched before, so that what is loaded and compiled at first use is not measured. */
const narFilesBefore = 300;
/** Of the closure that Nix itself realises. */
const nixPaths = 300;
const medianSize = '33KiB';
const delayMs = 25;
const view = 'bench';

/** What is to be reached: shares of nginx's time. */
const seededReach = 0.5;
const unseededReach = 1.05;

/** The far end of all paths: the seeder can name it to its clients. */
const farHost = '127.0.0.2';

const file = (name: string): string => join(import.meta.dirname, name);

interface Lab {
  into: string;
  cache: SampleCache;
  /** Lists the narinfos, each after those of its references; and those that are asked for before. */
  list: string;
  listBefore: string;
  reader: PeerProcess;
  /** Where nginx is reached over the path. */
  nginxUrl: string;
  /** Ends what was started, the last first. */
  closers: (() => Promise<unknown>)[];
}

interface Seeder {
  program: Program;
  /** Where it is reached over the path. */
  url: string;
  key: string;
  /** What its BitTorrent port is reached over. */
  path: PeerProcess;
  peersPort: number;
}

interface ClientRun extends SmallRead {
  cpuSeconds: number;
  status: Record<string, unknown>;
}

export async function clientSmall({ dir, runs }: SectionOptions): Promise<Row[]> {
  const missing = nginxMissing();
  if (missing !== false) return [{ what: 'client', ours: '', theirs: '', note: `skipped: ${missing}` }];
  const into = join(dir, 'client-small');
  await mkdir(into);
  const closers: Lab['closers'] = [];
  try {
    await mkdir(join(into, 'reader'));
    const rows = await measure(await openLab(join(into, 'reader'), narFiles + narFilesBefore, closers), runs);
    if (nixMissing() !== false) return rows;
    await mkdir(join(into, 'nix'));
    return [...rows, await realNix(await openLab(join(into, 'nix'), nixPaths, closers), runs)];
  } finally {
    for (const close of closers.reverse()) await close();
    await rm(into, { recursive: true, force: true });
  }
}

async function measure(lab: Lab, runs: number): Promise<Row[]> {
  const { port } = new URL(lab.nginxUrl);
  const rows: Row[] = [];
  const compare = async (what: string, args: readonly string[], reach?: number): Promise<void> => {
    const measured: ClientRun[] = [];
    // In turn: a machine may be slower a minute later.
    const direct: SmallRead[] = [];
    for (let run = 0; run < runs; run++) {
      direct.push(await read(lab, farHost, Number(port)));
      measured.push(await throughClient(lab, args));
    }
    rows.push(rowOf(what, measured, direct, reach));
  };
  const upstream = ['--upstream', lab.nginxUrl];
  const seeder = await startSeeder(lab);
  const catalog = ['--catalog', seeder.url, '--catalog-key', seeder.key];
  await compare('with one seeder and its view', [...upstream, ...catalog, '--view', view], seededReach);
  await compare('with one seeder, narinfos from nginx', [...upstream, ...catalog]);
  await seeder.path.end();
  const { process: liar, port: liarPort } = await PeerProcess.start([
    process.execPath,
    file('lying-peer.ts'),
  ]);
  const toLiar = await slowPath(liarPort, seeder.peersPort);
  await compare('with lying peers alone', [...upstream, ...catalog], unseededReach);
  await toLiar.process.end();
  await liar.end();
  await compare('with dead peers alone', [...upstream, ...catalog], unseededReach);
  await seeder.program.stop();
  await compare('with a dead seeder', [...upstream, ...catalog], unseededReach);
  await compare('without a catalog', upstream, unseededReach);
  return rows;
}

async function openLab(into: string, paths: number, closers: Lab['closers']): Promise<Lab> {
  const cache = await makeSampleCache(into, paths, medianSize, ['--compression', 'none']);
  const [list, listBefore] = [join(into, 'narinfos'), join(into, 'narinfos-before')];
  const names = inNixOrder(cache);
  await writeFile(listBefore, `${names.slice(0, narFilesBefore).join('\n')}\n`);
  await writeFile(list, `${names.slice(narFilesBefore).join('\n')}\n`);
  const nginx = await startNginx(cache.dir);
  closers.push(() => nginx.stop());
  const path = await slowPath(nginx.port);
  closers.push(() => path.process.end());
  const { process: reader } = await PeerProcess.start([process.execPath, file('small-reader.ts')]);
  closers.push(() => reader.end());
  return { into, cache, list, listBefore, reader, nginxUrl: `http://${farHost}:${path.port}`, closers };
}

/** A path after all that it references. */
function inNixOrder({ narInfos }: SampleCache): string[] {
  const byBase = new Map(narInfos.map((narInfo) => [baseNameOf(narInfo), narInfo]));
  const ordered = new Set<string>();
  const visit = (base: string): void => {
    const narInfo = byBase.get(base);
    if (narInfo === undefined || ordered.has(narInfo.name)) return;
    for (const each of fieldOf(narInfo, 'References').split(' ')) if (each !== base) visit(each);
    ordered.add(narInfo.name);
  };
  for (const base of byBase.keys()) visit(base);
  return [...ordered];
}

async function startSeeder(lab: Lab): Promise<Seeder> {
  const { into, cache, closers } = lab;
  // The path that has all others in its closure.
  const root = (await readFile(join(cache.dir, 'store-paths'), 'utf8')).trim();
  await writeFile(join(into, 'view'), `${root}\n`);
  const program = await startProgram([
    ...['seeder', '--data', join(into, 'seeder'), '--source', `file://${cache.dir}`, ...cache.trusted],
    ...['--http', '127.0.0.1:0', '--peers', '127.0.0.1:0', '--public-host', farHost],
    ...['--pack-age', '0s', '--publish-every', '1s', '--view', `${view}=${join(into, 'view')}`],
  ]);
  closers.push(() => program.stop());
  const paths = cache.narInfos.length;
  await untilIngested(program, paths);
  await until(async () => ((await program.status()) as { packs: { nars: number } }).packs.nars > paths / 2);
  await until(async () =>
    new RegExp(`^View: ${view} `, 'm').test(await (await fetch(`${program.url}/catalog/head`)).text()),
  );
  const { catalog } = (await program.status()) as { catalog: { publicKey: string } };
  const web = await slowPath(Number(new URL(program.url).port));
  closers.push(() => web.process.end());
  const peersPort = Number(program.peers?.split(':').at(-1));
  const { process: path } = await slowPath(Number(peersPort), peersPort);
  closers.push(() => path.end());
  return { program, url: `http://${farHost}:${web.port}`, key: catalog.publicKey, path, peersPort };
}

function slowPath(target: number, port = 0): Promise<{ process: PeerProcess; port: number }> {
  const script = file('slow-path-process.ts');
  return PeerProcess.start([process.execPath, script, `${target}`, farHost, `${port}`, `${delayMs}`]);
}

async function throughClient(lab: Lab, args: readonly string[]): Promise<ClientRun> {
  return withClient(lab, args, async (client) => {
    const port = Number(new URL(client.url).port);
    await read({ ...lab, list: lab.listBefore }, '127.0.0.1', port);
    const before = cpuSecondsOf(client.process.pid ?? 0);
    const measured = await read(lab, '127.0.0.1', port);
    const cpuSeconds = cpuSecondsOf(client.process.pid ?? 0) - before;
    const status = await client.status();
    process.stderr.write(`${JSON.stringify({ ...measured, cpuSeconds, ...summary(status) })}\n`);
    return { ...measured, cpuSeconds, status };
  });
}

/** A new client, when it has its view. */
async function withClient<T>(
  lab: Lab,
  args: readonly string[],
  action: (client: Program) => Promise<T>,
): Promise<T> {
  const data = join(lab.into, 'client');
  const client = await startProgram(['client', '--data', data, '--http', '127.0.0.1:0', ...args]);
  try {
    if (args.includes('--view')) {
      await until(async () => {
        const { views } = (await client.status()) as { views: { paths: number }[] };
        return views[0]?.paths === lab.cache.narInfos.length;
      });
    }
    return await action(client);
  } finally {
    await client.stop();
    await rm(data, { recursive: true });
  }
}

/** The same closure by Nix itself, into an empty store each time. */
async function realNix(lab: Lab, runs: number): Promise<Row> {
  const { cache, nginxUrl, into } = lab;
  const nix = await NixLab.open();
  lab.closers.push(() => nix.close());
  const path = (await readFile(join(cache.dir, 'store-paths'), 'utf8')).trim();
  const trusted = (await readFile(join(into, 'cache.test-1.public'), 'utf8')).trim();
  const realise = async (substituter: string): Promise<number> => {
    const startMs = performance.now();
    await nix.realise({
      ...{ store: 'filled', home: 'new', path, substituters: [substituter] },
      options: { 'trusted-public-keys': trusted },
    });
    const seconds = (performance.now() - startMs) / 1_000;
    await nix.remove('store-filled');
    await nix.remove('new');
    return seconds;
  };
  const seeder = await startSeeder(lab);
  const catalog = ['--catalog', seeder.url, '--catalog-key', seeder.key, '--view', view];
  const direct: number[] = [];
  const ours: number[] = [];
  for (let run = 0; run < runs; run++) {
    direct.push(await realise(nginxUrl));
    ours.push(
      await withClient(lab, ['--upstream', nginxUrl, ...catalog], async (client) => {
        const seconds = await realise(client.url);
        process.stderr.write(`${JSON.stringify({ seconds, ...summary(await client.status()) })}\n`);
        return seconds;
      }),
    );
  }
  const share = median(ours) / median(direct);
  return {
    what: `Nix realises a closure of ${nixPaths} paths, with one seeder and its view, beside nginx`,
    ours: `${median(ours).toFixed(2)} s`,
    theirs: `${median(direct).toFixed(2)} s`,
    goal: { text: `≤ ${seededReach}× the time`, met: share <= seededReach },
    note: `${share.toFixed(2)}× the time`,
  };
}

function summary({ nars, bytes, packs, ahead, wrong }: Record<string, unknown>): object {
  return { nars, bytes, packs, ahead, wrong };
}

async function read({ reader, list }: Lab, host: string, port: number): Promise<SmallRead> {
  const answer = await reader.ask<SmallRead>(`${host} ${port} ${list}`);
  if (answer.error !== undefined) throw new Error(answer.error);
  return answer;
}

function rowOf(what: string, ours: readonly ClientRun[], theirs: readonly SmallRead[], reach?: number): Row {
  const all = ({ narInfoSeconds, narSeconds }: SmallRead): number => narInfoSeconds + narSeconds;
  const show = (reads: readonly SmallRead[]): string => {
    const [narInfos, nars] = [
      median(reads.map(({ narInfoSeconds }) => narInfoSeconds)),
      median(reads.map(({ narSeconds }) => narSeconds)),
    ];
    return `${median(reads.map(all)).toFixed(2)} s (${narInfos.toFixed(2)} + ${nars.toFixed(2)})`;
  };
  const share = median(ours.map(all)) / median(theirs.map(all));
  const cpu = median(ours.map(({ cpuSeconds }) => cpuSeconds));
  const mebibytes = Math.round((ours[0]?.bytes ?? 0) / 2 ** 20);
  return {
    what: `${narFiles} NAR files, ${mebibytes} MiB, ${what}: narinfos + NAR files, beside nginx`,
    ours: show(ours),
    theirs: show(theirs),
    ...(reach !== undefined && { goal: { text: `≤ ${reach}× the time`, met: share <= reach } }),
    note: `${share.toFixed(2)}× the time; client ${cpu.toFixed(1)} s CPU`,
  };
}
