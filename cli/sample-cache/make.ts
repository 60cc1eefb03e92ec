/**
 * Makes a sample cache: packages of a node_modules directory as store paths, and as many made ones as are wanted
 * beyond those. The same seed, packages and key give the same cache to the byte.
 */

import { existsSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NarswarmError } from '../../nar/errors.ts';
import { printPublicKey, publicKeyOf, type SecretKey } from '../../nar/signature.ts';
import type { StorePath } from '../../nar/store-path.ts';
import { CacheWriter } from './cache-writer.ts';
import type { SampleCompression } from './compress.ts';
import { ContentPool, planMadePaths } from './made-paths.ts';
import { orderedPackages, type Package, packageTree, storeNameOf } from './packages.ts';
import { SeededRandom } from './random.ts';
import { directoryOf, narOf, type Tree } from './tree.ts';

export interface SampleCacheOptions {
  /** Made if it is missing; must be empty. */
  dir: string;
  /** How many store paths. */
  paths: number;
  /** Median NarSize. When it is given all paths are made to measure. */
  medianBytes?: number | undefined;
  compression: SampleCompression;
  secretKey: SecretKey;
  /** A whole number. */
  seed: number;
  signal: AbortSignal;
  onProgress?(progress: SampleCacheProgress): void;
  /** Holds a node_modules directory; by default the nearest one above this program. */
  contentDir?: string;
}

export interface SampleCacheProgress {
  paths: number;
  ofPaths: number;
  narBytes: number;
  fileBytes: number;
}

export interface SampleCache extends SampleCacheProgress {
  /** Everything else is in its closure. */
  root: StorePath;
}

/** In the cache's directory: the keys and roots to use it with. */
export const publicKeyFileName = 'public-key';
export const storePathsFileName = 'store-paths';

/** Median NarSize of made paths when there are not enough packages. */
const medianDefaultBytes = 33 * 1024;
/** Packages have at least a manifest and a licence; a tenth of the paths of a system are scripts and links. */
const tinyShare = 0.1;
const tinyMedianBytes = 600;
/** Two for two cores, and as many again that wait for the disk. */
const pathsAtOnce = 4;

/** Throws config-invalid when the directory is not empty. */
export async function makeSampleCache(options: SampleCacheOptions): Promise<SampleCache> {
  const { dir, paths, medianBytes, compression, secretKey, seed, signal, onProgress } = options;
  await mkdir(dir, { recursive: true });
  if ((await readdir(dir)).length > 0) throw new NarswarmError('config-invalid', `${dir} is not empty`);
  const contentDir = options.contentDir ?? nearestContentDir();
  const plan = await planPaths(contentDir, paths, medianBytes, seed);
  const writer = new CacheWriter(dir, compression, secretKey);
  await writer.begin();
  const progress = { paths: 0, ofPaths: plan.length, narBytes: 0, fileBytes: 0 };

  const made: Promise<StorePath>[] = [];
  const makePath = async ({ name, references, tree }: PlannedPath): Promise<StorePath> => {
    const referencePaths = await Promise.all(references.map((position) => made[position]));
    const known = referencePaths.filter((path) => path !== undefined);
    const written = await writer.write({ name, references: known, nar: narOf(await tree(known)), signal });
    progress.paths++;
    progress.narBytes += written.narBytes;
    progress.fileBytes += written.fileBytes;
    onProgress?.(progress);
    return written.storePath;
  };
  // What a path refers to comes before it in the plan, and so is under way or done: nobody waits in a circle.
  const iterator = plan.values();
  const work = async (): Promise<void> => {
    for (const path of iterator) {
      signal.throwIfAborted();
      const job = makePath(path);
      made.push(job);
      await job;
    }
  };
  // All of them, so that none still writes when the caller hears of a failure.
  const ends = await Promise.allSettled(Array.from({ length: pathsAtOnce }, work));
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  const root = await made.at(-1);
  if (root === undefined) throw new NarswarmError('config-invalid', 'a cache has at least one path');
  await writeFile(join(dir, publicKeyFileName), `${printPublicKey(publicKeyOf(secretKey))}\n`);
  await writeFile(join(dir, storePathsFileName), `${root}\n`);
  await writer.finish();
  return { ...progress, root };
}

/** The directory whose node_modules is nearest above this file. Throws store-failed when there is none. */
function nearestContentDir(): string {
  for (let dir = dirname(fileURLToPath(import.meta.url)); ; dir = dirname(dir)) {
    if (existsSync(join(dir, 'node_modules'))) return dir;
    if (dir === dirname(dir))
      throw new NarswarmError('store-failed', 'there is no node_modules to make a sample cache of');
  }
}

interface PlannedPath {
  name: string;
  /** Positions in the plan; all come before this one. */
  references: number[];
  tree(references: readonly StorePath[]): Tree | Promise<Tree>;
}

/** The last path has all others in its closure. */
async function planPaths(
  contentDir: string,
  count: number,
  medianBytes: number | undefined,
  seed: number,
): Promise<PlannedPath[]> {
  const pool = await ContentPool.open(join(contentDir, 'node_modules'));
  if (medianBytes !== undefined) return planMadePaths({ kind: 'sample', count, medianBytes, seed, pool });
  const all = distinct(await orderedPackages(contentDir, new SeededRandom('packages', seed)));
  const tinyCount = Math.floor(count * tinyShare);
  const packages = all.slice(0, count - 1 - tinyCount);
  const madeCount = count - 1 - tinyCount - packages.length;
  const plan: PlannedPath[] = [
    ...planMadePaths({ kind: 'tiny', count: tinyCount, medianBytes: tinyMedianBytes, seed, pool }),
    ...planMadePaths({
      kind: 'sample',
      count: madeCount,
      medianBytes: medianDefaultBytes,
      seed,
      firstPosition: tinyCount,
      pool,
    }),
  ];
  plan.push(...planPackages(packages, plan.length));
  return [...plan, environment(plan)];
}

function planPackages(packages: Package[], firstPosition: number): PlannedPath[] {
  const positions = new Map(packages.map((each, index) => [each, firstPosition + index]));
  return packages.map((each) => {
    const linked = each.dependencies.filter((dependency) => positions.has(dependency));
    return {
      name: storeNameOf(each),
      references: linked.flatMap((dependency) => positions.get(dependency) ?? []),
      tree: (paths) =>
        packageTree(each, new Map(linked.map(({ name }, index) => [name, paths[index] ?? '']))),
    };
  });
}

/** One path that links to all those that nothing else refers to, as a profile does. */
function environment(plan: readonly PlannedPath[]): PlannedPath {
  const referred = new Set(plan.flatMap((path) => path.references));
  const references = [...plan.keys()].filter((position) => !referred.has(position));
  return {
    name: 'sample-environment',
    references,
    tree: (paths) =>
      directoryOf(
        paths.map((target) => [target.slice(target.lastIndexOf('/') + 1), { kind: 'symlink', target }]),
      ),
  };
}

/** A package may be installed in several places; the same content is one store path. */
function distinct(packages: Package[]): Package[] {
  const first = new Map<string, Package>();
  const key = ({ name, version }: Package): string => `${name}@${version}`;
  for (const each of packages) if (!first.has(key(each))) first.set(key(each), each);
  for (const each of first.values()) {
    each.dependencies = each.dependencies.map((dependency) => first.get(key(dependency)) ?? dependency);
  }
  return [...first.values()];
}
