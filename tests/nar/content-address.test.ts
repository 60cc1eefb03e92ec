import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { storePathFollowsFromCa, storePathForSource } from '../../nar/content-address.ts';
import { type NarInfo, parseNarInfo } from '../../nar/narinfo.ts';
import { storeDirOf, storePathName } from '../../nar/store-path.ts';
import { NixLab, nixMissing } from '../helpers/nix.ts';

t.test(
  'the store paths that Nix computes from contents follow from their CA lines',
  { skip: nixMissing() },
  async (t) => {
    const lab = await NixLab.open();
    const dir = await mkdtemp(join(tmpdir(), 'narswarm-ca-'));
    t.teardown(async () => {
      await lab.close();
      await rm(dir, { recursive: true });
    });
    await writeFile(join(dir, 'file'), 'content');
    const paths = [
      await lab.addPath(dir, 'directory'),
      await lab.addFile(join(dir, 'file')),
      await lab.evaluate('builtins.toFile "b" ("see " + builtins.toFile "a" "hello")'),
    ];
    const cache = join(lab.dir, 'cache');
    for (const path of paths) await lab.copyToCache(path, cache, 'none', false);
    const narInfos: NarInfo[] = [];
    for (const name of await readdir(cache)) {
      if (name.endsWith('.narinfo')) narInfos.push(parseNarInfo(await readFile(join(cache, name))));
    }
    t.same(narInfos.map(({ ca }) => ca?.split(':').slice(0, -1).join(':')).sort(), [
      'fixed:r:sha256',
      'fixed:sha256',
      'text:sha256',
      'text:sha256',
    ]);
    for (const narInfo of narInfos) {
      t.ok(storePathFollowsFromCa(narInfo), narInfo.ca ?? 'none');
      t.notOk(storePathFollowsFromCa({ ...narInfo, ca: `${narInfo.ca?.slice(0, -3)}000` }), 'another hash');
      t.notOk(
        storePathFollowsFromCa({ ...narInfo, references: [storePathName(narInfo.storePath)] }),
        'another reference',
      );
      const { ca, ...without } = narInfo;
      t.notOk(storePathFollowsFromCa(without), 'no CA line');
      for (const odd of ['', 'x', 'fixed:', 'fixed:r:', 'fixed:r:sha256', 'text:r:sha256:0', 'text:md5:0']) {
        t.notOk(storePathFollowsFromCa({ ...narInfo, ca: odd }), JSON.stringify(odd));
      }
    }
    const directory = narInfos.find(({ ca }) => ca?.startsWith('fixed:r:'));
    t.ok(directory);
    if (directory === undefined) return;
    const other = narInfos.find(({ ca }) => ca?.startsWith('fixed:sha256'));
    t.notOk(
      storePathFollowsFromCa({ ...directory, narHash: other?.narHash ?? directory.narHash }),
      'another NarHash',
    );
    const { storePath, narHash } = directory;
    t.equal(
      storePathForSource({ storeDir: storeDirOf(storePath), name: 'directory', narHash, references: [] }),
      storePath,
    );
  },
);
