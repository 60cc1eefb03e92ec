/**
 * Finds out which folder imports which.
 *
 *     node scripts/arrows.ts           prints the graph
 *     node scripts/arrows.ts --check   fails on a wrong arrow, and when ARCHITECTURE.md shows another graph
 *     node scripts/arrows.ts --write   puts the graph into ARCHITECTURE.md
 */

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, posix, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { impurePattern, innerLayers, layers, packageModules, pureModules } from './arrow-rules.ts';

export interface Import {
  /** Path of the importing file from the root, with `/`. */
  file: string;
  /** Path of the imported file, or the name of a package, or `node:…`. */
  target: string;
}

const folders = layers.flat();
/** Past this, a file probably holds a second idea. */
const fileMaxLines = 400;
const beginMark = '<!-- begin arrows: written by `node scripts/arrows.ts --write` -->';
const endMark = '<!-- end arrows -->';

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = main(process.argv.slice(2));

function main(args: readonly string[]): number {
  const root = args.find((arg) => !arg.startsWith('-')) ?? dirname(dirname(fileURLToPath(import.meta.url)));
  const imports = readImports(root);
  const page = join(root, 'ARCHITECTURE.md');
  if (args.includes('--write')) {
    writeFileSync(page, withGraph(readFileSync(page, 'utf8'), drawGraph(imports)));
  } else if (args.includes('--check')) {
    const wrong = [...wrongImports(imports), ...impureFiles(root), ...unusedPackages(root, imports)];
    if (readFileSync(page, 'utf8') !== withGraph(readFileSync(page, 'utf8'), drawGraph(imports))) {
      wrong.push('ARCHITECTURE.md shows another graph; run `node scripts/arrows.ts --write`');
    }
    for (const line of wrong) console.error(line);
    for (const line of longFiles(root)) console.warn(`note: ${line}`);
    return wrong.length > 0 ? 1 : 0;
  } else {
    console.log(drawGraph(imports));
  }
  return 0;
}

/** All imports of the product's files, in the order of their paths. */
export function readImports(root: string): Import[] {
  return productFiles(root).flatMap((file) => {
    return importsIn(readFileSync(join(root, file), 'utf8')).map((specifier) => {
      const target = specifier.startsWith('.')
        ? posix.normalize(posix.join(posix.dirname(file), specifier))
        : specifier;
      return { file, target };
    });
  });
}

/** The module names in `import … from`, `export … from`, `import '…'`, `import('…')` and `new URL('…', import.meta.url)`. */
export function importsIn(source: string): string[] {
  const pattern =
    /(?:^|[;\n}])\s*(?:import|export)\s[^;'"`]*?\bfrom\s*['"]([^'"]+)['"]|(?:^|[;\n])\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)|\bnew URL\(\s*['"](\.[^'"]+\.ts)['"]\s*,\s*import\.meta\.url/g;
  return [...source.matchAll(pattern)].map(
    (match) => match.slice(1).find((name) => name !== undefined) ?? '',
  );
}

/** A sentence for each import that breaks a rule. */
export function wrongImports(imports: readonly Import[]): string[] {
  return imports.flatMap(({ file, target }) => {
    const from = folderOf(file);
    if (target.startsWith('node:')) {
      if (from !== 'nar' || pureModules.has(target)) return [];
      return [`${file} imports ${target}, but nar/ is pure`];
    }
    if (isPackage(target)) return wrongPackage(file, packageName(target));
    const to = folderOf(target);
    if (from === to) return wrongWithin(file, target);
    if (layerOf(to) < layerOf(from)) return [];
    const why = layerOf(to) === layerOf(from) ? 'which is its sibling' : 'which is not below it';
    return [
      `${file} imports ${target}, of ${to}/, ${folders.includes(to) ? why : 'which is no folder of the product'}`,
    ];
  });
}

/** The same between the folders within one folder. */
function wrongWithin(file: string, target: string): string[] {
  const inner = innerLayers[folderOf(file)];
  if (inner === undefined) return [];
  const named = inner.flat();
  const [from, to] = [innerPlaceOf(file, named), innerPlaceOf(target, named)];
  const layer = (name: string): number => inner.findIndex((names) => names.includes(name));
  const unknown = [from, to].find((name) => name !== '' && layer(name) < 0);
  if (unknown !== undefined) return [`${file}: scripts/arrow-rules.ts does not know ${unknown}/`];
  if (from === to || layer(to) < layer(from)) return [];
  return [`${file} imports ${target}, which is not below it`];
}

/** Files of nar/ that look at a clock, a network or the dice. Comments are not looked at. */
export function impureFiles(root: string): string[] {
  return productFiles(root).flatMap((file) => {
    if (folderOf(file) !== 'nar') return [];
    const code = readFileSync(join(root, file), 'utf8').replaceAll(/\/\*.*?\*\/|\/\/[^\n]*/gs, '');
    const found = impurePattern.exec(code);
    return found === null ? [] : [`${file} uses ${found[0]}, but nar/ is pure`];
  });
}

/** Direct dependencies that no file of the product imports. */
export function unusedPackages(root: string, imports: readonly Import[]): string[] {
  const manifest: { dependencies?: Record<string, string> } = JSON.parse(
    readFileSync(join(root, 'package.json'), 'utf8'),
  );
  const used = new Set(
    imports.filter(({ target }) => isPackage(target)).map(({ target }) => packageName(target)),
  );
  return Object.keys(manifest.dependencies ?? {})
    .filter((name) => !used.has(name))
    .map((name) => `package.json names ${name}, which nothing imports`);
}

/** A note for each file that has grown past its idea. */
export function longFiles(root: string): string[] {
  return productFiles(root).flatMap((file) => {
    const lines = readFileSync(join(root, file), 'utf8').split('\n').length - 1;
    return lines > fileMaxLines ? [`${file} has ${lines} lines; look for the second idea`] : [];
  });
}

/** The graph as Mermaid, without arrows that follow from others, and as a list of all of them. */
export function drawGraph(imports: readonly Import[]): string {
  const arrows = folderArrows(imports);
  const width = Math.max(...folders.map((folder) => folder.length));
  const shown = [...arrows].flatMap(([from, targets]) => {
    const below = new Set([...targets].flatMap((target) => [...reachable(arrows, target)]));
    return [...targets].filter((target) => !below.has(target)).map((target) => `  ${from} --> ${target}`);
  });
  const list = [...arrows].map(
    ([from, targets]) => `${from.padEnd(width)}  ${[...targets].join(', ') || '(nothing of ours)'}`,
  );
  return ['```mermaid', 'graph TD', ...shown, '```', '', '```', ...list, '```'].join('\n');
}

/** Folders that exist, from the top layer down, and what they import. */
function folderArrows(imports: readonly Import[]): Map<string, Set<string>> {
  const arrows = new Map<string, Set<string>>();
  const present = new Set(imports.map(({ file }) => folderOf(file)));
  for (const folder of folders.toReversed()) {
    if (!present.has(folder)) continue;
    const targets = imports
      .filter(
        ({ file, target }) => folderOf(file) === folder && !isPackage(target) && !target.startsWith('node:'),
      )
      .map(({ target }) => folderOf(target))
      .filter((target) => target !== folder);
    arrows.set(folder, new Set(targets.sort((a, b) => folders.indexOf(b) - folders.indexOf(a))));
  }
  return arrows;
}

/** Everything below `folder`, without itself. */
function reachable(
  arrows: ReadonlyMap<string, ReadonlySet<string>>,
  folder: string,
  seen = new Set<string>(),
): Set<string> {
  for (const target of arrows.get(folder) ?? []) {
    if (seen.has(target)) continue;
    seen.add(target);
    reachable(arrows, target, seen);
  }
  return seen;
}

/** The page with the graph between its marks. */
export function withGraph(page: string, graph: string): string {
  const begin = page.indexOf(beginMark);
  const end = page.indexOf(endMark);
  if (begin < 0 || end < begin) throw new Error('ARCHITECTURE.md has no place for the graph');
  return `${page.slice(0, begin + beginMark.length)}\n${graph}\n${page.slice(end)}`;
}

function wrongPackage(file: string, name: string): string[] {
  const allowed = packageModules[name] ?? [];
  if (allowed.some((place) => file === place || file.startsWith(`${place}/`))) return [];
  const places =
    allowed.length === 0
      ? 'nothing may until scripts/arrow-rules.ts says so'
      : `only ${allowed.join(', ')} may`;
  return [`${file} imports ${name}; ${places}`];
}

function productFiles(root: string): string[] {
  return folders
    .filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) => readdirSync(join(root, folder), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).replaceAll(sep, '/'))
    .sort();
}

function folderOf(path: string): string {
  return path.split('/')[0] ?? path;
}

/** The folder within a folder of the product, or the file that lies beside those if it is named; '' for any other. */
function innerPlaceOf(path: string, named: readonly string[]): string {
  const [place = '', ...rest] = path.split('/').slice(1);
  return rest.length > 0 || named.includes(place) ? place : '';
}

function layerOf(folder: string): number {
  const layer = layers.findIndex((names) => names.includes(folder));
  return layer < 0 ? Number.POSITIVE_INFINITY : layer;
}

/** Relative targets were made paths within a folder, which end in `.ts`; packages do not. */
function isPackage(target: string): boolean {
  return !target.startsWith('node:') && !target.endsWith('.ts') && !target.startsWith('..');
}

function packageName(target: string): string {
  const parts = target.split('/');
  return parts.slice(0, target.startsWith('@') ? 2 : 1).join('/');
}
