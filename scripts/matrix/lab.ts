/** What all cells share: a closure for each swarm in one cache, real seeders of it, nginx in front of it, and Nix. */

import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Compression } from '../../nar/compression.ts';
import {
  parseSecretKey,
  printPublicKey,
  printSecretKey,
  type SecretKey,
  secretKeyFromSeed,
} from '../../nar/signature.ts';
import type { StorePath } from '../../nar/store-path.ts';
import { type Built, CacheBuilder, sha256 } from '../../tests/helpers/cache-builder.ts';
import { type Nginx, startNginx } from '../../tests/helpers/nginx.ts';
import { NixLab } from '../../tests/helpers/nix.ts';
import { type Program, startProgram, untilIngested } from '../../tests/helpers/program.ts';
import { type SwarmState, swarmStates } from './states.ts';

/** A closure has a path of each; the last references all others. */
const pathBytes: readonly (readonly [bytes: number, compression: Compression])[] = [
  [1_000, 'xz'],
  [4_000, 'zstd'],
  [30_000, 'xz'],
  [300_000, 'none'],
  [1_500_000, 'zstd'],
  [6_000_000, 'none'],
  [500, 'none'],
];
/** Numbers of the paths of which a stale catalog knows nothing. */
const gonePaths = new Set([1, 3]);
/** Of each torrent of the capped seeder, from its first copy on: the largest NAR file takes four seconds. */
const cappedRate = '1536KiB/s';

export interface MatrixClosure {
  readonly built: readonly Built[];
  readonly target: StorePath;
}

export class MatrixLab {
  readonly nix: NixLab;
  readonly cache: CacheBuilder;
  readonly closures: ReadonlyMap<SwarmState, MatrixClosure>;
  readonly catalogKey: SecretKey;
  readonly nginx: Nginx;
  readonly seeder: Program;
  readonly capped: Program;
  readonly #swarmOf = new Map<string, SwarmState>();
  readonly #gone = new Set<string>();

  private constructor(
    parts: Pick<MatrixLab, 'nix' | 'cache' | 'closures' | 'catalogKey' | 'nginx' | 'seeder' | 'capped'>,
  ) {
    this.nix = parts.nix;
    this.cache = parts.cache;
    this.closures = parts.closures;
    this.catalogKey = parts.catalogKey;
    this.nginx = parts.nginx;
    this.seeder = parts.seeder;
    this.capped = parts.capped;
    for (const [swarm, { built }] of parts.closures) {
      for (const [index, { narFile }] of built.entries()) {
        this.#swarmOf.set(sha256(narFile), swarm);
        if (gonePaths.has(index)) this.#gone.add(sha256(narFile));
      }
    }
  }

  static async open(): Promise<MatrixLab> {
    const nix = await NixLab.open();
    const started: { stop(): Promise<unknown> }[] = [];
    try {
      const cacheDir = join(nix.dir, 'cache');
      await mkdir(cacheDir);
      const secretKey = parseSecretKey((await readFile(nix.secretKeyFile, 'utf8')).trim());
      const cache = await new CacheBuilder(cacheDir, secretKey).open();
      const closures = new Map<SwarmState, MatrixClosure>();
      for (const swarm of swarmStates) closures.set(swarm, await makeClosure(cache, swarm));
      const catalogKey = secretKeyFromSeed('catalog.matrix-1', randomBytes(32));
      const keyFile = join(nix.dir, 'catalog.secret');
      await writeFile(keyFile, printSecretKey(catalogKey), { mode: 0o600 });
      const seeder = (name: string, ...flags: string[]): Promise<Program> =>
        startProgram([
          ...['seeder', '--data', join(nix.dir, name), '--source', cache.url],
          ...['--trusted-key', printPublicKey(cache.publicKey), '--secret-key', keyFile],
          ...['--http', '127.0.0.1:0', '--peers', '127.0.0.1:0', ...flags],
        ]);
      const nginx = await startNginx(cacheDir);
      started.push(nginx);
      // Small packs are closed at once; each holds NAR files of one swarm or another, as it happens.
      const good = await seeder('seeder', '--initial-copies', '1000', '--pack-age', '1s');
      started.push(good);
      const capped = await seeder('capped', '--initial-copies', '0', '--capped-rate', cappedRate);
      started.push(capped);
      const narFiles = swarmStates.length * pathBytes.length;
      for (const program of [good, capped]) await untilIngested(program, narFiles);
      return new MatrixLab({ nix, cache, closures, catalogKey, nginx, seeder: good, capped });
    } catch (error) {
      for (const each of started) await each.stop();
      await nix.close();
      throw error;
    }
  }

  /** By the FileHash of one of its NAR files. */
  swarmOf(fileHash: string): SwarmState | undefined {
    return this.#swarmOf.get(fileHash);
  }

  /** Whether a stale catalog knows nothing of it. */
  isGone(fileHash: string): boolean {
    return this.#gone.has(fileHash);
  }

  async close(): Promise<void> {
    await this.capped.stop();
    await this.seeder.stop();
    await this.nginx.stop();
    await this.nix.close();
  }
}

async function makeClosure(cache: CacheBuilder, swarm: SwarmState): Promise<MatrixClosure> {
  const built: Built[] = [];
  let last: Built | undefined;
  for (const [index, [bytes, compression]] of pathBytes.entries()) {
    const isLast = index === pathBytes.length - 1;
    last = await cache.add({
      name: `${swarm}-${index}`,
      tree: { data: randomBytes(bytes) },
      compression,
      references: isLast ? built.map(({ storePath }) => storePath) : [],
    });
    built.push(last);
  }
  if (last === undefined) throw new Error('a closure has paths');
  return { built, target: last.storePath };
}
