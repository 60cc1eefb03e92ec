/**
 * A seeder with a large catalog: how it starts, what it takes in memory, how soon a torrent that nobody asked for before gives its first block, and
 * what floods and large questions do to that. The seeder is the real one, in a process of its own; the catalog's NAR files are made.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type FirstBlock, fetchFirstBlock } from './first-block.ts';
import { makeCatalog } from './made-catalog.ts';
import { MadeHasher, makeFile, readMadeFile } from './made-files.ts';
import { madeTorrent, writeMadeCache } from './made-rows.ts';
import { MadeSeederProcess } from './made-seeder-process.ts';
import type { Row } from './table.ts';

export interface ScaleOptions {
  rows: number;
  /** See `MadeCatalogOptions`; 1 up to two million rows by default, then 50. */
  wholeEvery?: number;
  /** A directory with a made catalog of as many rows; without it one is made, and removed. */
  dataDir?: string;
  /** Torrents asked for one after the other, as many again by 200 peers a second, and as many by four peers at a time. */
  samples?: number;
  /** Connections held at once, each for another torrent. */
  connections?: number;
  /** Of handshakes for unknown torrents. */
  floodPerSecond?: number;
  floodSeconds?: number;
  /** NAR files that are new in a source; they stay in the catalog. */
  newFiles?: number;
  nodeFlags?: string[];
}

/** Runs the flood. */
export const python = '/usr/bin/python3';
const peersForMemory = 200;
/** So many that none of them comes near the seeder's limit for one address. */
const floodAddresses = 5_000;
const atOnce = 4;
const peersPerSecond = 200;
/** Peers that wait at once, when so many come every second: only reached when the seeder does not keep up. */
const atOnceMax = 200;
/** The seeder takes at most 256 connections from one address. */
const connectionsPerAddress = 125;

/** Of more NAR files, only every fiftieth is whole: ten million whole rows would take an hour. */
const wholeRowsMax = 2_000_000;

const limits = {
  startMs: 3_000,
  p50Ms: 2,
  p99Ms: 10,
  eventLoopMs: 50,
  memoryMib: (rows: number) => (rows > 1_000_000 ? 400 : 300),
};

export async function scaleRows(given: ScaleOptions): Promise<Row[]> {
  const { rows, wholeEvery = rows > wholeRowsMax ? 50 : 1 } = given;
  const options = { ...given, wholeEvery };
  if (options.dataDir !== undefined) return measure(options, options.dataDir);
  const dataDir = await mkdtemp(join(tmpdir(), 'narswarm-scale-'));
  try {
    await mkdir(join(dataDir, 'store'));
    await makeCatalog(join(dataDir, 'catalog.sqlite'), { rows, wholeEvery });
    return await measure(options, dataDir);
  } finally {
    await rm(dataDir, { recursive: true });
  }
}

async function measure(options: ScaleOptions, dataDir: string): Promise<Row[]> {
  const { rows, samples = 3_000, connections = 1_000, nodeFlags = [] } = options;
  const title = rows.toLocaleString('en');
  const table: Row[] = [];
  const seeder = await MadeSeederProcess.start(dataDir, { nodeFlags });
  try {
    const { catalog } = await seeder.status();
    if (catalog.nars < rows) throw new Error(`${catalog.nars} rows in the catalog, not ${rows}`);
    const bench = new ScaleBench(seeder, options);
    table.push(
      atMost('start to the ready line', seeder.startMs, limits.startMs, 'ms'),
      ...(await bench.cold(samples)),
      ...(await bench.cold(samples, peersPerSecond)),
      ...(await bench.coldRate(samples)),
      ...(await bench.memory()),
      ...(await bench.many(connections)),
      ...(await bench.flood(1)),
      ...(await bench.flood(floodAddresses)),
      ...(await bench.http()),
    );
  } finally {
    await seeder.stop();
  }
  table.push(...(await ingest(options, dataDir)));
  return table.map((row) => ({ ...row, what: `${title} NAR files: ${row.what}` }));
}

/** What is new in a source: taken into the catalog while the rest is there. */
async function ingest(options: ScaleOptions, dataDir: string): Promise<Row[]> {
  const { rows, newFiles = 2_000 } = options;
  const sourceDir = await mkdtemp(join(tmpdir(), 'narswarm-scale-source-'));
  try {
    await writeMadeCache(sourceDir, { first: rows, count: newFiles });
    const seeder = await MadeSeederProcess.start(dataDir, { sourceDir });
    try {
      const started = performance.now();
      await seeder.eventLoopDelay();
      for (;;) {
        const { ingest } = await seeder.status();
        if (!ingest.running) break;
        await sleep(20);
      }
      const seconds = (performance.now() - started) / 1000;
      const { maxMs } = await seeder.eventLoopDelay();
      const { ingest, catalog } = await seeder.status();
      if (ingest.refused > 0 || catalog.nars < rows + newFiles)
        throw new Error('not everything was taken in');
      return [
        {
          what: `${newFiles} more are verified and taken in`,
          ours: `${(newFiles / seconds).toFixed(0)}/s`,
          theirs: '',
        },
        atMost(`the seeder's event loop meanwhile`, maxMs, limits.eventLoopMs, 'ms'),
      ];
    } finally {
      await seeder.stop();
    }
  } finally {
    await rm(sourceDir, { recursive: true });
  }
}

class ScaleBench {
  readonly #seeder: MadeSeederProcess;
  readonly #options: ScaleOptions;
  readonly #hasher = new MadeHasher();
  readonly #asked = new Set<number>();
  #knownAddresses = 0;

  constructor(seeder: MadeSeederProcess, options: ScaleOptions) {
    this.#seeder = seeder;
    this.#options = options;
  }

  /** First blocks of torrents that were never opened before: one after the other, or so many new peers a second. */
  async cold(count: number, perSecond?: number): Promise<Row[]> {
    const numbers = this.#fresh(count);
    await this.#seeder.eventLoopDelay();
    const blocks =
      perSecond === undefined
        ? await this.#firstBlocks(numbers, 1)
        : await this.#firstBlocks(numbers, atOnceMax, { everyMs: 1000 / perSecond });
    const { maxMs } = await this.#seeder.eventLoopDelay();
    const fromHandshake = blocks.map(({ fromHandshakeMs }) => fromHandshakeMs);
    const fromConnect = blocks.map(({ fromConnectMs }) => fromConnectMs);
    const how = perSecond === undefined ? 'one after the other' : `${perSecond} peers a second`;
    const connect = `${print(percentile(fromConnect, 0.5))} and ${print(percentile(fromConnect, 0.99))} ms`;
    const note = `from connect: ${connect}; event loop at most ${print(maxMs)} ms`;
    return [
      atMost(
        `cold handshake to first block, ${how}, p50 of ${count}`,
        percentile(fromHandshake, 0.5),
        limits.p50Ms,
        'ms',
      ),
      atMost(`the same, p99`, percentile(fromHandshake, 0.99), limits.p99Ms, 'ms', note),
    ];
  }

  /** The same as fast as four peers at a time can, which is a matter of throughput, not of waiting. */
  async coldRate(count: number): Promise<Row[]> {
    const numbers = this.#fresh(count);
    const started = performance.now();
    const blocks = await this.#firstBlocks(numbers, atOnce);
    const perSecond = (count / (performance.now() - started)) * 1000;
    const times = blocks.map(({ fromHandshakeMs }) => fromHandshakeMs);
    const note = `p50 ${print(percentile(times, 0.5))} ms, p99 ${print(percentile(times, 0.99))} ms`;
    return [
      {
        what: `cold torrents a second, ${atOnce} peers at a time`,
        ours: perSecond.toFixed(0),
        theirs: '',
        note,
      },
    ];
  }

  /** Resident memory while 200 peers are connected, after all that was asked before. */
  async memory(): Promise<Row[]> {
    const peers = await this.#firstBlocks(this.#fresh(peersForMemory), atOnce, { keep: true });
    const { swarm } = await this.#seeder.status();
    const { resident, anonymous, ofFiles } = this.#seeder.memory();
    await this.#hangUp(peers);
    if (swarm.connections < peersForMemory)
      throw new Error(`only ${swarm.connections} of ${peersForMemory} peers`);
    const note = `${anonymous.toFixed(0)} anonymous, ${ofFiles.toFixed(0)} of files`;
    return [
      atMost(
        `resident with ${peersForMemory} peers`,
        resident,
        limits.memoryMib(this.#options.rows),
        'MiB',
        note,
      ),
    ];
  }

  /** Connections that are there at once, each for another torrent; each then gets a block from the middle of its file, too. */
  async many(count: number): Promise<Row[]> {
    const numbers = this.#fresh(count);
    await this.#seeder.eventLoopDelay();
    const started = performance.now();
    const peers = await this.#firstBlocks(numbers, count, { keep: true });
    const seconds = (performance.now() - started) / 1000;
    const { maxMs } = await this.#seeder.eventLoopDelay();
    const { swarm } = await this.#seeder.status();
    const { resident } = this.#seeder.memory();
    await this.#hangUp(peers);
    if (swarm.connections < count) throw new Error(`only ${swarm.connections} of ${count} connections`);
    const slowest = Math.max(...peers.map(({ fromConnectMs }) => fromConnectMs));
    return [
      {
        what: `${count} peers that come at once, each for another torrent`,
        ours: `${seconds.toFixed(2)} s for all`,
        theirs: '',
        note: `slowest ${print(slowest)} ms, event loop at most ${print(maxMs)} ms, ${swarm.openTorrents} torrents open, ${resident.toFixed(0)} MiB resident`,
      },
    ];
  }

  /** What handshakes for unknown torrents, from so many addresses, do to those for known ones. */
  async flood(addresses: number): Promise<Row[]> {
    const { floodPerSecond = 5_000, floodSeconds = 10 } = this.#options;
    const { port } = this.#seeder;
    const knownFor = async (seconds: number): Promise<{ perSecond: number; p50: number; p99: number }> => {
      const times: number[] = [];
      const torrents = this.#any(500).map((number) => madeTorrent(number, this.#hasher));
      // An address has 28,000 ports, each of which rests for a minute after its connection: enough for one measurement only.
      const localAddress = `127.0.1.${++this.#knownAddresses}`;
      const endMs = performance.now() + seconds * 1000;
      const work = async (job: number): Promise<void> => {
        for (let i = job; performance.now() < endMs; i += 4) {
          const torrent = torrents[i % torrents.length];
          if (torrent === undefined) return;
          const { fromConnectMs, socket } = await fetchFirstBlock({ port, torrent, localAddress });
          times.push(fromConnectMs);
          socket.destroy();
        }
      };
      await Promise.all(Array.from({ length: 4 }, (_none, job) => work(job)));
      return { perSecond: times.length / seconds, p50: percentile(times, 0.5), p99: percentile(times, 0.99) };
    };
    await knownFor(1);
    const seconds = floodSeconds - 2;
    const quiet = await knownFor(seconds);
    const before = await this.#seeder.status();
    const cpuBefore = this.#seeder.cpuSeconds();
    const script = new URL('unknown-flood.py', import.meta.url).pathname;
    const args = [script, this.#seeder.port, floodPerSecond, floodSeconds, '127.0.7.1', addresses].map(
      String,
    );
    const flood = spawn(python, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    flood.stdout.on('data', (text) => {
      said += text;
    });
    const ended = once(flood, 'close');
    await this.#untilUnknown(before.swarm.unknownInfoHashes + 100);
    const flooded = await knownFor(seconds);
    await ended;
    const cpu = this.#seeder.cpuSeconds() - cpuBefore;
    const { perSecond, answered } = JSON.parse(said) as { perSecond: number; answered: number };
    if (answered > 0) throw new Error(`${answered} unknown handshakes were answered`);
    const after = await this.#seeder.status();
    const unknown = after.swarm.unknownInfoHashes - before.swarm.unknownInfoHashes;
    const from = addresses === 1 ? 'one address' : `${addresses} addresses`;
    const during = `${perSecond.toFixed(0)} unknown handshakes/s from ${from}`;
    return [
      {
        what: `known handshakes/s during ${during}, and without`,
        ours: flooded.perSecond.toFixed(0),
        theirs: quiet.perSecond.toFixed(0),
        ratio: flooded.perSecond / quiet.perSecond,
        reach: 0.5,
        note: `${unknown} refused, ${after.swarm.refusedConnections - before.swarm.refusedConnections} not let in, ${((cpu / floodSeconds) * 100).toFixed(0)} % of a core`,
      },
      {
        what: `connect to first block meanwhile, p50`,
        ours: `${print(flooded.p50)} ms`,
        theirs: `${print(quiet.p50)} ms`,
        ratio: quiet.p50 / flooded.p50,
        reach: 0.5,
        note: `p99 ${print(flooded.p99)} and ${print(quiet.p99)} ms`,
      },
    ];
  }

  /** Status, metrics, feed and a resolve of 5,000. */
  async http(): Promise<Row[]> {
    const { url } = this.#seeder;
    const get = async (path: string): Promise<void> => {
      const response = await fetch(`${url}${path}`);
      await response.arrayBuffer();
      if (!response.ok) throw new Error(`${path}: ${response.status}`);
    };
    const fileHashes = this.#any(5_000).map((number) => madeTorrent(number, this.#hasher).name.slice(0, 52));
    const resolve = async (): Promise<void> => {
      const response = await fetch(`${url}/resolve`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ fileHashes: fileHashes.map((hash) => `sha256:${hash}`) }),
      });
      const lines = (await response.text()).trimEnd().split('\n');
      if (lines.length !== fileHashes.length)
        throw new Error(`${lines.length} of ${fileHashes.length} resolved`);
    };
    const rows: Row[] = [];
    for (const [what, ask, times] of [
      ['/status', () => get('/status'), 100],
      ['/metrics', () => get('/metrics'), 100],
      ['/feed.xml', () => get('/feed.xml'), 20],
      [`/resolve of ${fileHashes.length}`, resolve, 3],
    ] as const) {
      await this.#seeder.eventLoopDelay();
      const took: number[] = [];
      for (let i = 0; i < times; i++) {
        const started = performance.now();
        await ask();
        took.push(performance.now() - started);
      }
      const { maxMs } = await this.#seeder.eventLoopDelay();
      const note = `p50 ${print(percentile(took, 0.5))} ms, slowest ${print(Math.max(...took))} ms`;
      rows.push(atMost(`the seeder's event loop during ${what}`, maxMs, limits.eventLoopMs, 'ms', note));
    }
    return rows;
  }

  /** Fetches and checks first blocks, so many at a time. */
  async #firstBlocks(
    numbers: readonly number[],
    jobs: number,
    options: { keep?: boolean; everyMs?: number } = {},
  ): Promise<FirstBlock[]> {
    const torrents = numbers.map((number) => madeTorrent(number, this.#hasher));
    const blocks: FirstBlock[] = [];
    const started = performance.now();
    let next = 0;
    const work = async (): Promise<void> => {
      for (let index = next++; index < numbers.length; index = next++) {
        const torrent = torrents[index];
        if (torrent === undefined) return;
        const earlyMs = started + index * (options.everyMs ?? 0) - performance.now();
        if (earlyMs > 0) await sleep(earlyMs);
        const localAddress = `127.0.0.${2 + Math.floor(index / connectionsPerAddress)}`;
        const block = await fetchFirstBlock({
          port: this.#seeder.port,
          torrent,
          ...(options.keep === true && { localAddress }),
        });
        if (options.keep !== true) block.socket.destroy();
        blocks[index] = block;
      }
    };
    await Promise.all(Array.from({ length: jobs }, work));
    for (const [index, { bytes }] of blocks.entries()) {
      const file = makeFile(numbers[index] ?? -1);
      if (!readMadeFile(file, 0, bytes.length).equals(bytes)) throw new Error('the seeder gave wrong bytes');
    }
    return blocks;
  }

  async #hangUp(peers: readonly FirstBlock[]): Promise<void> {
    for (const { socket } of peers) socket.destroy();
    while ((await this.#seeder.status()).swarm.connections > 0);
  }

  async #untilUnknown(count: number): Promise<void> {
    while ((await this.#seeder.status()).swarm.unknownInfoHashes < count);
  }

  #wholeRows(): number {
    const { rows, wholeEvery = 1 } = this.#options;
    return Math.ceil(rows / wholeEvery);
  }

  /** Numbers of whole NAR files, by chance. */
  #any(count: number): number[] {
    const { wholeEvery = 1 } = this.#options;
    return Array.from({ length: count }, () => Math.floor(Math.random() * this.#wholeRows()) * wholeEvery);
  }

  /** The same, of such as were not asked for before. */
  #fresh(count: number): number[] {
    const numbers: number[] = [];
    while (numbers.length < count) {
      if (this.#asked.size >= this.#wholeRows()) throw new Error('every NAR file was asked for');
      const [number = 0] = this.#any(1);
      if (this.#asked.has(number)) continue;
      this.#asked.add(number);
      numbers.push(number);
    }
    return numbers;
  }
}

function atMost(what: string, value: number, limit: number, unit: string, note = ''): Row {
  const goal = { text: `≤ ${limit} ${unit}`, met: value <= limit };
  return { what, ours: `${print(value)} ${unit}`, theirs: '', goal, note };
}

function print(value: number): string {
  return value >= 20 ? value.toFixed(0) : value.toFixed(2);
}

function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
