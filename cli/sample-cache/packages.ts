/** The packages in a node_modules directory as store paths: each a directory, its dependencies linked into it. */

import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { SeededRandom } from './random.ts';
import { contentBytes, directoryOf, type Tree, treeAt } from './tree.ts';

/** `react@19.2.0` in one place of a node_modules tree. */
export interface Package {
  /** As dependents call it; with its scope. */
  name: string;
  version: string;
  dir: string;
  dependencies: Package[];
}

/** Larger packages (Node itself, for instance) would make a sample cache of hardly anything else. */
export const packageMaxBytes = 64 * 1024 * 1024;

/**
 * All packages below `root`, each after its dependencies, so that the first n of them refer to nothing else. Circles
 * of dependencies are cut where they close. The package with the largest content comes as early as it can; otherwise
 * `random` decides among the packages that nothing depends on. Empty where there is no node_modules.
 */
export async function orderedPackages(root: string, random: SeededRandom): Promise<Package[]> {
  const packages = await findPackages(root);
  const sizes = await Promise.all([...packages.values()].map(sizeOf));
  const small = new Map([...packages].filter((_, index) => (sizes[index] ?? 0) <= packageMaxBytes));
  const largest = [...packages.values()][indexOfLargest(sizes)];
  for (const each of small.values()) {
    const names = await dependencyNames(each.dir);
    each.dependencies = names.flatMap((name) => resolvePackage(small, root, each.dir, name) ?? []);
  }
  const ordered = new Set<Package>();
  const visit = (each: Package, path: ReadonlySet<Package>): void => {
    if (ordered.has(each) || path.has(each)) return;
    const below = new Set(path).add(each);
    for (const dependency of each.dependencies) visit(dependency, below);
    each.dependencies = each.dependencies.filter((dependency) => ordered.has(dependency));
    ordered.add(each);
  };
  const start = [...small.values()];
  for (const each of largest === undefined ? start : [largest, ...random.shuffled(start)])
    visit(each, new Set());
  return [...ordered];

  function indexOfLargest(of: readonly number[]): number {
    const capped = of.map((bytes) => (bytes <= packageMaxBytes ? bytes : -1));
    return capped.indexOf(Math.max(...capped));
  }
}

/** A name that store paths allow. */
export function storeNameOf({ name, version }: Package): string {
  return `${name.replace(/^@/, '').replaceAll('/', '-')}-${version}`
    .replaceAll(/[^A-Za-z0-9+\-._?=]/g, '-')
    .slice(0, 200);
}

/** The package's files, and a node_modules of links to `linked`: from names to store paths. */
export async function packageTree(each: Package, linked: ReadonlyMap<string, string>): Promise<Tree> {
  const tree = await treeAt(each.dir, new Set(['node_modules']));
  if (tree.kind !== 'directory' || linked.size === 0) return tree;
  const links = directoryOf([]);
  for (const [name, target] of linked) {
    const [scope, inner] = name.split('/');
    if (scope === undefined || inner === undefined) {
      links.entries.set(name, { kind: 'symlink', target });
      continue;
    }
    const directory = links.entries.get(scope);
    const scoped = directory?.kind === 'directory' ? directory : directoryOf([]);
    scoped.entries.set(inner, { kind: 'symlink', target });
    links.entries.set(scope, scoped);
  }
  tree.entries.set('node_modules', links);
  return tree;
}

async function sizeOf(each: Package): Promise<number> {
  return contentBytes(await treeAt(each.dir, new Set(['node_modules'])));
}

/** By directory, in the order of their paths, which is the same on every machine with the same packages. */
async function findPackages(root: string): Promise<Map<string, Package>> {
  const found = new Map<string, Package>();
  const look = async (modules: string, prefix: string): Promise<void> => {
    for (const name of await namesIn(modules)) {
      if (name.startsWith('.')) continue;
      const dir = join(modules, name);
      if (name.startsWith('@') && prefix === '') {
        await look(dir, `${name}/`);
        continue;
      }
      const version = (await readManifest(dir)).version;
      if (typeof version === 'string')
        found.set(dir, { name: prefix + name, version, dir, dependencies: [] });
      await look(join(dir, 'node_modules'), '');
    }
  };
  await look(join(root, 'node_modules'), '');
  return found;
}

/** Names in a directory; none where there is no directory. Links are left out: a linked package lives elsewhere. */
async function namesIn(dir: string): Promise<string[]> {
  try {
    const entries = await readdir(dir, { withFileTypes: true });
    return entries
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name)
      .sort();
  } catch {
    return [];
  }
}

async function dependencyNames(dir: string): Promise<string[]> {
  const { dependencies = {}, optionalDependencies = {}, peerDependencies = {} } = await readManifest(dir);
  const lists = [dependencies, optionalDependencies, peerDependencies];
  return [
    ...new Set(lists.flatMap((list) => (typeof list === 'object' && list !== null ? Object.keys(list) : []))),
  ].sort();
}

interface Manifest {
  version?: unknown;
  dependencies?: unknown;
  optionalDependencies?: unknown;
  peerDependencies?: unknown;
}

async function readManifest(dir: string): Promise<Manifest> {
  try {
    const manifest: unknown = JSON.parse(await readFile(join(dir, 'package.json'), 'utf8'));
    return typeof manifest === 'object' && manifest !== null ? manifest : {};
  } catch {
    return {};
  }
}

/** As Node resolves it: from `from` upwards to `root`. */
function resolvePackage(
  packages: Map<string, Package>,
  root: string,
  from: string,
  name: string,
): Package | undefined {
  for (let dir = from; dir.length >= root.length; dir = dirname(dir)) {
    const found = packages.get(join(dir, 'node_modules', name));
    if (found !== undefined) return found;
  }
  return undefined;
}
