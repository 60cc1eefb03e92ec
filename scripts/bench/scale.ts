/**
 * A seeder with a large catalog: how it starts, what it takes in memory, how soon a torrent that nobody asked for before gives its first block, and
 * what floods and large questions do to that. The seeder is the real one, in a process of its own; the catalog's NAR files are made.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type FirstBlock, fetchFirstBlock } from './first-block.ts';
import { floodRows } from './flood.ts';
import { makeCatalog } from './made-catalog.ts';
import { MadeHasher, makeFile, readMadeFile } from './made-files.ts';
import { madeTorrent, writeMadeCache } from './made-rows.ts';
import { MadeSeederProcess } from './made-seeder-process.ts';
import { percentile, type Row } from './table.ts';

/** What is measured, in this order. */
export const scaleParts = [
  'start',
  'cold',
  'cold-paced',
  'cold-rate',
  'memory',
  'many',
  'flood-one',
  'flood-many',
  'http',
  'ingest',
] as const;

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
  /** See `FloodOptions`. */
  floodSeconds?: number;
  /** NAR files that are new in a source; they stay in the catalog. */
  newFiles?: number;
  nodeFlags?: string[];
  /** What to measure; by default everything. */
  only?: readonly (typeof scaleParts)[number][];
}

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
  const { rows, samples = 3_000, connections = 1_000, nodeFlags = [], only } = options;
  const title = rows.toLocaleString('en');
  const table: Row[] = [];
  const seeder = await MadeSeederProcess.start(dataDir, { nodeFlags });
  try {
    const { catalog } = await seeder.status();
    if (catalog.nars < rows) throw new Error(`${catalog.nars} rows in the catalog, not ${rows}`);
    const bench = new ScaleBench(seeder, options);
    const parts: Record<Exclude<(typeof scaleParts)[number], 'ingest'>, () => Promise<Row[]>> = {
      start: async () => [atMost('start to the ready line', seeder.startMs, limits.startMs, 'ms')],
      cold: () => bench.cold(samples),
      'cold-paced': () => bench.cold(samples, peersPerSecond),
      'cold-rate': () => bench.coldRate(samples),
      memory: () => bench.memory(),
      many: () => bench.many(connections),
      'flood-one': () => bench.flood(1),
      'flood-many': () => bench.flood(floodAddresses),
      http: () => bench.http(),
    };
    for (const name of scaleParts) {
      if (name !== 'ingest' && (only?.includes(name) ?? true)) table.push(...(await parts[name]()));
    }
  } finally {
    await seeder.stop();
  }
  if (only === undefined || only.includes('ingest')) table.push(...(await ingest(options, dataDir)));
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
  flood(addresses: number): Promise<Row[]> {
    const { floodPerSecond: perSecond = 5_000, floodSeconds: seconds = 5 } = this.#options;
    return floodRows(this.#seeder, { numbers: this.#any(500), addresses, perSecond, seconds });
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
