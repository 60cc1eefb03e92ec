import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { makeSampleCache, type SampleCacheOptions } from '../../cli/sample-cache/make.ts';
import { SeededRandom } from '../../cli/sample-cache/random.ts';
import { storePathFollowsFromCa } from '../../nar/content-address.ts';
import { type NarInfo, parseNarInfo } from '../../nar/narinfo.ts';
import { publicKeyOf, secretKeyFromSeed, verifyNarInfo } from '../../nar/signature.ts';
import { storePathName } from '../../nar/store-path.ts';
import { NixLab, nixMissing } from '../helpers/nix.ts';
import { runCommand } from './run-command.ts';

const secretKey = secretKeyFromSeed('test.example-1', Buffer.alloc(32, 7));
/** A project with two packages that need each other and a third, and one in another's own node_modules. */
const project = {
  node_modules: {
    one: {
      'package.json':
        '{"name":"one","version":"1.0.0","dependencies":{"two":"*","@scope/three":"*","four":"*"}}',
      'index.js': 'export const one = 1;\n',
      node_modules: { four: { 'package.json': '{"name":"four","version":"4.1.0"}' } },
    },
    two: { 'package.json': '{"name":"two","version":"2.0.0","dependencies":{"one":"*"}}' },
    '@scope': {
      three: { 'package.json': '{"name":"@scope/three","version":"3.0.0"}', 'data.bin': 'x'.repeat(50_000) },
    },
    four: { 'package.json': '{"name":"four","version":"4.0.0"}' },
  },
};

function options(
  dir: string,
  contentDir: string,
  more: Partial<SampleCacheOptions> = {},
): SampleCacheOptions {
  const signal = new AbortController().signal;
  return { dir, contentDir, paths: 8, compression: 'zstd', secretKey, seed: 1, signal, ...more };
}

async function readNarInfos(dir: string): Promise<Map<string, NarInfo>> {
  const names = (await readdir(dir)).filter((name) => name.endsWith('.narinfo'));
  const narInfos = await Promise.all(
    names.map(async (name) => parseNarInfo(await readFile(join(dir, name), 'utf8'))),
  );
  return new Map(narInfos.map((narInfo) => [storePathName(narInfo.storePath), narInfo]));
}

async function bytesOf(dir: string): Promise<Record<string, string>> {
  const names = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = names.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const contents = files
    .sort()
    .map(async (file) => [file.slice(dir.length), await readFile(file, 'base64')] as const);
  return Object.fromEntries(await Promise.all(contents));
}

t.test('packages become signed content-addressed paths that refer to their dependencies', async (t) => {
  const base = t.testdir({ project });
  const dir = join(base, 'cache');
  const { root } = await makeSampleCache(options(dir, join(base, 'project')));
  const narInfos = await readNarInfos(dir);
  t.equal(narInfos.size, 8);
  for (const narInfo of narInfos.values()) {
    t.equal(verifyNarInfo(narInfo, [publicKeyOf(secretKey)]), 'test.example-1');
    t.ok(storePathFollowsFromCa(narInfo), narInfo.storePath);
  }
  const named = (name: string): NarInfo | undefined => {
    return [...narInfos.values()].find(({ storePath }) => storePath.endsWith(`-${name}`));
  };
  const names = (narInfo: NarInfo | undefined): string[] => {
    return (narInfo?.references ?? []).map((reference) => reference.slice(33)).sort();
  };
  // one and two need each other; the circle is cut at one of its ends.
  const circle = [...names(named('one-1.0.0')), ...names(named('two-2.0.0'))];
  t.equal(circle.filter((name) => name === 'two-2.0.0' || name === 'one-1.0.0').length, 1);
  t.ok(names(named('one-1.0.0')).includes('scope-three-3.0.0'), 'a scope is part of the name');
  t.ok(names(named('one-1.0.0')).includes('four-4.1.0'), 'the nearest of several versions is meant');

  const seen = new Set<string>();
  const visit = (name: string): void => {
    if (seen.has(name)) return;
    seen.add(name);
    for (const reference of narInfos.get(name)?.references ?? []) visit(reference);
  };
  visit(storePathName(root));
  t.equal(seen.size, narInfos.size, 'the root has all others in its closure');
  t.equal(await readFile(join(dir, 'store-paths'), 'utf8'), `${root}\n`);
});

t.test('the same seed gives the same cache to the byte, another seed another', async (t) => {
  const base = t.testdir({ project });
  const make = async (name: string, more: Partial<SampleCacheOptions>) => {
    await makeSampleCache(options(join(base, name), join(base, 'project'), { paths: 30, ...more }));
    return bytesOf(join(base, name));
  };
  const first = await make('a', {});
  t.same(await make('b', {}), first);
  t.notSame(await make('c', { seed: 2 }), first);
});

t.test('made paths have about the median that was asked for, and all are in one closure', async (t) => {
  const base = t.testdir({ project });
  const dir = join(base, 'cache');
  const medianBytes = 20_000;
  const { root } = await makeSampleCache(
    options(dir, join(base, 'project'), { paths: 301, medianBytes, compression: 'none' }),
  );
  const narInfos = await readNarInfos(dir);
  t.equal(narInfos.size, 301);
  const sizes = [...narInfos.values()].map(({ narSize }) => narSize).sort((a, b) => a - b);
  const median = sizes[150] ?? 0;
  t.ok(median > medianBytes * 0.7 && median < medianBytes * 1.4, `median ${median}`);
  t.ok((sizes.at(-1) ?? 0) > medianBytes * 5, 'some are much larger');
  t.ok(narInfos.get(storePathName(root))?.references.length === 8);
});

t.test('a directory with something in it is left alone', async (t) => {
  const base = t.testdir({ project, cache: { mine: 'precious' } });
  await t.rejects(makeSampleCache(options(join(base, 'cache'), join(base, 'project'))), {
    code: 'config-invalid',
  });
  t.same(await readdir(join(base, 'cache')), ['mine']);
});

t.test('half a cache is none: it has no nix-cache-info, and no part files stay', async (t) => {
  const base = t.testdir({ project });
  const dir = join(base, 'cache');
  const controller = new AbortController();
  const onProgress = (): void => controller.abort();
  await t.rejects(
    makeSampleCache(options(dir, join(base, 'project'), { signal: controller.signal, onProgress })),
  );
  const names = await readdir(dir, { recursive: true });
  t.notOk(names.includes('nix-cache-info'));
  t.notOk(names.some((name) => name.includes('.part')));
});

t.test('random numbers follow from the seed and are spread', async (t) => {
  const numbers = (...seed: (string | number)[]) => {
    const random = new SeededRandom(...seed);
    return Array.from({ length: 2000 }, () => random.next());
  };
  t.same(numbers('a', 1), numbers('a', 1));
  t.notSame(numbers('a', 1), numbers('a', 2));
  const mean = numbers('a', 1).reduce((sum, value) => sum + value, 0) / 2000;
  t.ok(Math.abs(mean - 0.5) < 0.03, `mean ${mean}`);
});

for (const compression of ['zstd', 'xz', 'none'] as const) {
  t.test(
    `real Nix takes the whole closure from a cache with ${compression}`,
    { skip: nixMissing() },
    async (t) => {
      const lab = await NixLab.open();
      t.teardown(() => lab.close());
      const dir = join(lab.dir, 'cache');
      const args = ['--paths', '25', '--compression', compression, '--secret-key', lab.secretKeyFile];
      // Real packages once are enough; the largest of them take long with xz.
      if (compression !== 'zstd') args.push('--median', '20KiB');
      const made = await runCommand(['sample-cache', dir, ...args]);
      t.equal(made.status, 0, made.errors);
      const root = /^root (.*)$/m.exec(made.out)?.[1] ?? '';
      t.match(made.out, `public-key ${lab.publicKey}\n`);
      await lab.realise({ store: 'fresh', path: root, substituters: [`file://${dir}`] });
      await lab.verify('fresh');
      t.equal((await lab.closure('fresh', root)).length, 25);
      t.equal((await readNarInfos(dir)).size, 25);
    },
  );
}
