import { execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { NarLister } from '../../nar/nar-listing.ts';
import { dumpNar } from '../../store/nar-dump.ts';
import { NixLab, nixMissing } from '../helpers/nix.ts';

/** One of everything that a NAR can hold. */
async function makeTree(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-dump-'));
  for (let size = 0; size <= 17; size++) await writeFile(join(dir, `size-${size}`), 'x'.repeat(size));
  await writeFile(join(dir, 'large'), Buffer.alloc(1_000_003, 'large'));
  await writeFile(join(dir, 'run'), '#!/bin/sh\n');
  await chmod(join(dir, 'run'), 0o755);
  for (const name of ['Z', 'a', 'a b', 'ä', '.hidden', '__proto__', '-', 'a.b', 'a-b', 'a/b', '\u{1f600}']) {
    await mkdir(join(dir, name), { recursive: true });
  }
  await symlink('../nowhere', join(dir, 'a', 'link'));
  await symlink('size-3', join(dir, 'link-to-file'));
  return dir;
}

async function dump(path: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of dumpNar(path)) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

t.test('a dump is what nix-store --dump writes', { skip: nixMissing() }, async (t) => {
  const dir = await makeTree();
  t.teardown(() => rm(dir, { recursive: true }));
  for (const path of [
    dir,
    join(dir, 'run'),
    join(dir, 'link-to-file'),
    join(dir, 'size-0'),
    join(dir, '-'),
  ]) {
    const expected = execFileSync('nix-store', ['--dump', path], {
      env: { ...process.env, HOME: dir },
      maxBuffer: 1 << 30,
    });
    t.ok((await dump(path)).equals(expected), path.slice(dir.length) || 'a directory');
  }
});

t.test('a listing is what Nix writes beside a narinfo', { skip: nixMissing() }, async (t) => {
  const dir = await makeTree();
  const lab = await NixLab.open();
  t.teardown(async () => {
    await lab.close();
    await rm(dir, { recursive: true });
  });
  const path = await lab.addPath(dir, 'tree');
  const cache = join(lab.dir, 'cache');
  await lab.copyToCache(path, cache, 'none');
  const lister = new NarLister();
  for await (const chunk of dumpNar(dir)) lister.write(chunk);
  const listed = await readFile(join(cache, `${path.slice('/nix/store/'.length).slice(0, 32)}.ls`), 'utf8');
  t.same(JSON.parse(JSON.stringify(lister.finish())), JSON.parse(listed));
});

t.test('what a NAR cannot hold is refused', async (t) => {
  await t.rejects(dump('/dev/null'), { code: 'store-failed' });
  await t.rejects(dump(join(tmpdir(), 'there is no such file')), { code: 'ENOENT' });
});
