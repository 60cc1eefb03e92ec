/** A signed cache, seeders of it and mirrors, in this process: with the waiting times of a test. */

import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MirrorConfig, MirrorLimits } from '../../mirror/config.ts';
import { type Mirror, openMirror } from '../../mirror/main.ts';
import { parseSelection } from '../../mirror/selection.ts';
import { type SecretKey, secretKeyFromSeed } from '../../nar/signature.ts';
import type { StorePath } from '../../nar/store-path.ts';
import { openSeeder, type Seeder, type SeederConfig } from '../../seeder/main.ts';
import type { Logger } from '../../web/log.ts';
import { type Built, CacheBuilder } from '../helpers/cache-builder.ts';

export const catalogKey = (name: string): SecretKey =>
  secretKeyFromSeed(name, Buffer.alloc(32, name.length * 7 + name.charCodeAt(0)));

export const anyPort = { host: '127.0.0.1', port: 0 };

const quick: Partial<MirrorLimits> = {
  retryMs: 100,
  retryMaxMs: 500,
  followEveryMs: 200,
  planGapMs: 20,
  fullMs: 200,
  tellMs: 20,
  tellMaxMs: 40,
  tellRetryMs: 200,
  stallMs: 2_000,
  packSettleMs: 20,
};

export interface Logged {
  event: string;
  fields: Record<string, unknown>;
}

export class MirrorLab {
  readonly dir: string;
  readonly cache: CacheBuilder;
  readonly #closers: (() => Promise<unknown>)[] = [];

  private constructor(dir: string, cache: CacheBuilder) {
    this.dir = dir;
    this.cache = cache;
  }

  static async open(t: { teardown(fn: () => Promise<void>): void }): Promise<MirrorLab> {
    const dir = await mkdtemp(join(tmpdir(), 'narswarm-mirror-'));
    const lab = new MirrorLab(dir, await new CacheBuilder(join(dir, 'cache')).open());
    t.teardown(async () => {
      for (const close of lab.#closers.reverse()) await close();
      await rm(dir, { recursive: true, force: true });
    });
    return lab;
  }

  /** Paths of which each references the one before, of so many random bytes. */
  async chain(name: string, count: number, bytes: number, cache = this.cache): Promise<Built[]> {
    const built: Built[] = [];
    let references: StorePath[] = [];
    for (let index = 0; index < count; index++) {
      const tree = randomBytes(bytes);
      const path = await cache.add({ name: `${name}-${index}`, tree, compression: 'none', references });
      built.push(path);
      references = [path.storePath];
    }
    return built;
  }

  /** A seeder that has read and published everything. */
  async seeder(config: Partial<SeederConfig> = {}): Promise<Seeder> {
    const seeder = await openSeeder({
      dataDir: join(this.dir, 'seeder'),
      sources: [this.cache.url],
      trustedKeys: [this.cache.publicKey],
      secretKey: catalogKey('catalog-1'),
      http: anyPort,
      peers: anyPort,
      logger: loggerInto([]),
      ...config,
    });
    this.#closers.push(() => seeder.close());
    await seeder.ingested;
    await seeder.publish();
    return seeder;
  }

  async mirror(
    name: string,
    catalogs: readonly string[],
    config: Partial<Omit<MirrorConfig, 'selections'>> & { select?: string[] } = {},
  ): Promise<Mirror & { log: Logged[] }> {
    const log: Logged[] = [];
    const { select = ['all'], limits, ...rest } = config;
    const mirror = await openMirror({
      dataDir: join(this.dir, name),
      catalogs,
      catalogKeys: [[catalogKey('catalog-1').publicKey]],
      trustedKeys: [this.cache.publicKey],
      nixStoreDir: '/nix/store',
      selections: select.map(parseSelection),
      quotaBytes: 2 ** 30,
      minFreeBytes: 0,
      uploadBytesPerSecond: undefined,
      schedules: [],
      verifyBytesPerSecond: 2 ** 30,
      verifyEveryMs: 30 * 24 * 3_600_000,
      httpFallback: false,
      http: anyPort,
      peers: anyPort,
      logger: loggerInto(log),
      limits: { ...quick, ...limits },
      ...rest,
    });
    this.#closers.push(() => mirror.close());
    return { ...mirror, log };
  }
}

export function loggerInto(log: Logged[]): Logger {
  const put = (event: string, fields: Record<string, unknown> = {}): void => void log.push({ event, fields });
  return { info: put, warn: put, error: put };
}
