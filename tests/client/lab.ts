/** A client with its upstreams and catalogs in one process, everything closed at the end of the test. */

import { randomInt } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { ClientConfig } from '../../client/config.ts';
import { type Client, openClient } from '../../client/main.ts';
import { silentLogger } from '../../web/log.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';
import { cacheKey, catalogKey, type MadeNar } from './made-nar.ts';
import { TestCatalog } from './test-catalog.ts';
import { TestUpstream } from './test-upstream.ts';

export interface ClientStatus {
  bytes: { swarm: number; http: number; held: number };
  nars: { swarm: number; http: number; mixed: number; held: number };
  failed: number;
  wrong: number;
  passedThrough: number;
  narinfos: { found: number; cached: number; remembered: number; absent: number };
  share: { enabled: boolean; uploadedBytes: number; announcedTorrents: number };
  cache: { files: number; bytes: number; evicted: number };
  state: { narinfos: number; torrents: number };
  unusedBytes: { swarm: number; http: number };
  savedMs: { swarm: number; http: number; mixed: number; total: number };
  catalogs: { url: string; refusedLines: number; requests: number; state: string }[];
  transfers: { running: unknown[] };
  packs: { connections: number; warm: number; wanted: number; downloadedBytes: number };
  ahead: { noted: number; fetched: number; used: number; unusedBytes: number; waitingBytes: number };
}

export class Lab {
  readonly #t: Test;
  readonly dir: string;
  /** Of its own: other tests run on this machine, some with the same torrents. */
  readonly localDiscoveryPort = randomInt(20_000, 32_000);

  private constructor(t: Test, dir: string) {
    this.#t = t;
    this.dir = dir;
  }

  static async open(t: Test): Promise<Lab> {
    provesNothingStaysOpen(t);
    const dir = await mkdtemp(join(tmpdir(), 'narswarm-client-'));
    t.teardown(() => rm(dir, { recursive: true, force: true }));
    return new Lab(t, dir);
  }

  async upstream(nars: MadeNar[] = []): Promise<TestUpstream> {
    const upstream = await TestUpstream.open(nars);
    this.#t.teardown(() => upstream.close());
    return upstream;
  }

  async catalog(nars: MadeNar[] = []): Promise<TestCatalog> {
    return this.catalogAt('127.0.0.1', nars);
  }

  async catalogAt(host: string, nars: MadeNar[] = []): Promise<TestCatalog> {
    const catalog = await TestCatalog.open(nars, host);
    this.#t.teardown(() => catalog.close());
    return catalog;
  }

  async client(
    upstreams: (TestUpstream | string)[],
    catalogs: (TestCatalog | string)[] = [],
    config: Partial<ClientConfig> = {},
  ): Promise<Client> {
    const url = (of: { url: string } | string): string => (typeof of === 'string' ? of : of.url);
    const client = await openClient({
      dataDir: join(this.dir, 'data'),
      upstreams: upstreams.map(url),
      catalogs: catalogs.map(url),
      catalogKeys: [catalogKey.publicKey],
      trustedKeys: [cacheKey.publicKey],
      http: { host: '127.0.0.1', port: 0 },
      peers: { host: '127.0.0.1', port: 0 },
      cacheSizeBytes: 1 << 30,
      share: 'off',
      onMetered: 'share',
      localDiscoveryPort: this.localDiscoveryPort,
      noUpstream: false,
      logger: silentLogger,
      ...config,
      // Tests wait for it again and again.
      limits: { catalogQuietMs: 20, ...config.limits },
    });
    this.#t.teardown(() => client.close());
    return client;
  }
}

export function statusOf(client: Client): ClientStatus {
  return JSON.parse(JSON.stringify(client.status())) as ClientStatus;
}

export interface Answer {
  status: number;
  headers: IncomingMessage['headers'];
  body: Buffer;
  /** False when the connection was cut before the end. */
  complete: boolean;
  ms: number;
}

export interface GetOptions {
  method?: string;
  headers?: Record<string, string>;
  /** Called with what has arrived so far. */
  onBytes?: (bytes: number, stop: () => void) => void;
}

/** A request whose path is sent as it is. */
export function get(url: string, path: string, options: GetOptions = {}): Promise<Answer> {
  const started = performance.now();
  const { hostname, port } = new URL(url);
  const { method = 'GET', headers = {}, onBytes } = options;
  return new Promise((resolve, reject) => {
    const sent = request({ hostname, port, path: `/${path}`, method, headers, agent: false }, (answer) => {
      const chunks: Buffer[] = [];
      let size = 0;
      const end = (): void =>
        resolve({
          status: answer.statusCode ?? 0,
          headers: answer.headers,
          body: Buffer.concat(chunks),
          complete: answer.complete,
          ms: performance.now() - started,
        });
      answer.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        size += chunk.length;
        onBytes?.(size, () => sent.destroy());
      });
      answer.on('end', end);
      answer.on('error', end);
    });
    sent.on('error', reject);
    sent.end();
  });
}

/** Asks for the narinfo, then for the NAR file under the URL in it, as Nix does. */
export async function fetchNar(
  client: { url: string },
  nar: MadeNar,
  options: GetOptions = {},
): Promise<Answer> {
  const narInfo = await get(client.url, `${nar.storeHash}.narinfo`);
  if (narInfo.status !== 200) throw new Error(`narinfo: ${narInfo.status}`);
  const url = /^URL: (.*)$/m.exec(narInfo.body.toString())?.[1] ?? '';
  return get(client.url, url, options);
}

/** The same, but not before the catalogs have named torrent and peers: then the swarm is asked before HTTP, unless the file is tiny. */
export async function fetchKnownNar(client: Client, nar: MadeNar, options: GetOptions = {}): Promise<Answer> {
  await get(client.url, `${nar.storeHash}.narinfo`);
  const { torrents } = statusOf(client).state;
  if (torrents === 0) await until(() => statusOf(client).state.torrents > 0);
  return fetchNar(client, nar, options);
}

/** Nobody is late, however busy this machine is: for tests of who is asked first. */
export const unhurried = {
  liveWithinMs: 20_000,
  lateLeastMs: 20_000,
  lateMostMs: 20_000,
  lateFirstByteMs: 20_000,
  lateGapMs: 20_000,
};

/** Waits for what another part of the process is about to do. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error('it did not come true in 10 s');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
