import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { drawGraph, importsIn, readImports, unusedPackages, wrongImports } from '../../scripts/arrows.ts';

const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
const script = join(root, 'scripts', 'arrows.ts');
const run = promisify(execFile);

/** What the check complains about; '' when all is well. */
async function complaints(dir: string): Promise<string> {
  try {
    await run(process.execPath, [script, dir, '--check']);
    return '';
  } catch (error) {
    return error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error);
  }
}

const write = (dir: string) => run(process.execPath, [script, dir, '--write']);

t.test('no arrow of this project points the wrong way', async (t) => {
  const imports = readImports(root);
  t.same(wrongImports(imports), []);
  t.ok(imports.length > 50, 'the imports were found');
});

t.test('ARCHITECTURE.md shows the graph that the imports make', async (t) => {
  t.match(await readFile(join(root, 'ARCHITECTURE.md'), 'utf8'), drawGraph(readImports(root)));
});

t.test('every spelling of an import is seen', async (t) => {
  const source = `
    import a from './a.ts';
    import { b,
      c } from "../b.ts";
    import type { D } from './d.ts';
    export { e } from './e.ts';
    export * from './f.ts';
    import './g.ts';
    const h = await import('./h.ts');
    new Worker(new URL('./i.ts', import.meta.url));
    type J = import('./j.ts').J;
    const text = 'import from nowhere';
  `;
  const names = importsIn(source).map((name) => name.replace(/^.*\/(.)\.ts$/, '$1'));
  t.equal(names.sort().join(''), 'abdefghij');
});

/** A project with one file in each folder that matters, in which all is well. */
const goodTree = {
  'package.json': JSON.stringify({ dependencies: { express: '1' } }),
  'ARCHITECTURE.md':
    '<!-- begin arrows: written by `node scripts/arrows.ts --write` -->\n<!-- end arrows -->\n',
  nar: { 'hash.ts': "import { createHash } from 'node:crypto';\n" },
  swarm: { 'wire.ts': "import { hash } from '../nar/hash.ts';\n" },
  web: { 'app.ts': "import express from 'express';\nimport { hash } from '../nar/hash.ts';\n" },
  seeder: { 'main.ts': "import { wire } from '../swarm/wire.ts';\n" },
  client: {
    'main.ts': "import { wire } from '../swarm/wire.ts';\nimport { race } from './race/race.ts';\n",
    race: { 'race.ts': "import { limits } from '../config.ts';\n" },
  },
  cli: { 'main.ts': "import { seeder } from '../seeder/main.ts';\n" },
};

t.test('a graph that is out of date fails the check until it is written', async (t) => {
  const dir = t.testdir(goodTree);
  t.match(await complaints(dir), /shows another graph/);
  await write(dir);
  t.equal(await complaints(dir), '');
  t.match(await readFile(join(dir, 'ARCHITECTURE.md'), 'utf8'), /seeder --> swarm/);
});

const wrongTrees: Record<string, { tree: object; message: RegExp }> = {
  'a format that imports an effect': {
    tree: { nar: { 'hash.ts': "import { wire } from '../swarm/wire.ts';\n" } },
    message: /nar\/hash\.ts imports swarm\/wire\.ts.*not below/,
  },
  'a format that touches the disk': {
    tree: { nar: { 'hash.ts': "import { readFileSync } from 'node:fs';\n" } },
    message: /nar\/hash\.ts imports node:fs.*pure/,
  },
  'a format that looks at the clock': {
    tree: { nar: { 'hash.ts': 'export const now = () => Date.now();\n' } },
    message: /nar\/hash\.ts uses Date\.now.*pure/,
  },
  'effects that know each other': {
    tree: { swarm: { 'wire.ts': "import { app } from '../web/app.ts';\n" } },
    message: /swarm\/wire\.ts imports web\/app\.ts.*sibling/,
  },
  'a part of an effect that knows what is built on it': {
    tree: { swarm: { wire: { 'wire.ts': "import { seed } from '../seed/seed-server.ts';\n" } } },
    message: /swarm\/wire\/wire\.ts imports swarm\/seed\/seed-server\.ts.*not below/,
  },
  'parts of an effect that know each other': {
    tree: { swarm: { seed: { 'peer.ts': "import { fetch } from '../fetch/fetcher.ts';\n" } } },
    message: /swarm\/seed\/peer\.ts imports swarm\/fetch\/fetcher\.ts.*not below/,
  },
  'what all parts of an effect use and that knows one of them': {
    tree: { swarm: { 'bucket.ts': "import { wire } from './wire/wire.ts';\n" } },
    message: /swarm\/bucket\.ts imports swarm\/wire\/wire\.ts.*not below/,
  },
  'a part of a program that knows where all of them are joined': {
    tree: { client: { http: { 'http.ts': "import { open } from '../main.ts';\n" } } },
    message: /client\/http\/http\.ts imports client\/main\.ts.*not below/,
  },
  'a part of an effect that nobody named': {
    tree: { swarm: { http: { 'a.ts': "import { wire } from '../wire.ts';\n" } } },
    message: /does not know http/,
  },
  'programs that know each other': {
    tree: { client: { 'main.ts': "const { open } = await import('../seeder/main.ts');\n" } },
    message: /client\/main\.ts imports seeder\/main\.ts.*sibling/,
  },
  'an effect that knows a program, if only its types': {
    tree: {
      web: { 'app.ts': "import express from 'express';\nimport type { Seeder } from '../seeder/main.ts';\n" },
    },
    message: /web\/app\.ts imports seeder\/main\.ts.*not below/,
  },
  'a product that needs its tests': {
    tree: { cli: { 'main.ts': "import { nix } from '../tests/helpers/nix.ts';\n" } },
    message: /cli\/main\.ts imports tests.*no folder of the product/,
  },
  'a package outside its one place': {
    tree: { seeder: { 'main.ts': "import express from 'express';\n" } },
    message: /seeder\/main\.ts imports express; only web may/,
  },
  'a package that nobody allowed': {
    tree: { swarm: { 'wire.ts': "import Client from 'webtorrent/lib/x.js';\n" } },
    message: /swarm\/wire\.ts imports webtorrent; nothing may/,
  },
  'a dependency that nothing imports': {
    tree: { 'package.json': JSON.stringify({ dependencies: { express: '1', 'left-pad': '1' } }) },
    message: /left-pad, which nothing imports/,
  },
};

for (const [name, { tree, message }] of Object.entries(wrongTrees)) {
  t.test(`the check fails for ${name}`, async (t) => {
    const dir = t.testdir({ ...goodTree, ...tree });
    await write(dir);
    t.match(await complaints(dir), message);
  });
}

t.test('every dependency of this project is used', async (t) => {
  t.same(unusedPackages(root, readImports(root)), []);
});
