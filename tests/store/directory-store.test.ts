/** What only a directory can get wrong. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openDirectoryStore } from '../../store/directory-store.ts';
import { diskError } from '../../store/disk-error.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

const name = `${'0'.repeat(51)}1.nar.xz`;

async function temporaryDirectory(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'narswarm-store-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

t.test(
  'what a killed process left half-written is gone at the next start, what it finished is there',
  async (t) => {
    provesNothingStaysOpen(t);
    const directory = await temporaryDirectory(t);
    const before = await openDirectoryStore(directory);
    const whole = await before.create(name);
    await whole.write(Buffer.from('whole'));
    await whole.commit();
    const half = await before.create(name);
    await half.write(Buffer.from('half'));
    t.equal((await readdir(join(directory, 'tmp'))).length, 1);

    const after = await openDirectoryStore(directory);
    t.same(await readdir(join(directory, 'tmp')), []);
    t.same(await readdir(join(directory, '00')), [name]);
    const handle = await after.open(name);
    t.equal(handle?.sizeBytes, 5);
    await after.close();
    await before.close();
  },
);

t.test('chunks that come while one is written go together, in their order, however many', async (t) => {
  provesNothingStaysOpen(t);
  const store = await openDirectoryStore(await temporaryDirectory(t));
  const writer = await store.create(name);
  const chunks = Array.from({ length: 3_000 }, (_, n) => Buffer.alloc(n % 7, n % 251));
  await Promise.all(chunks.map((chunk) => writer.write(chunk)));
  const whole = Buffer.concat(chunks);
  t.equal(writer.sizeBytes, whole.length);
  t.ok((await writer.read(0, whole.length)).equals(whole));
  await writer.commit();
  await store.close();
});

t.test('what is left unfinished can be gone on with, if the store keeps it', async (t) => {
  provesNothingStaysOpen(t);
  const directory = await temporaryDirectory(t);
  const other = name.replace('1.nar', '2.nar');
  const keeps = { keepsUnfinished: true };
  const before = await openDirectoryStore(directory, keeps);
  const killed = await before.create(name);
  await killed.write(Buffer.from('killed'));
  const shorter = await before.create(name);
  await shorter.write(Buffer.from('kil'));
  const stopped = await before.create(other);
  await stopped.write(Buffer.from('stopped'));
  await stopped.suspend?.();
  await stopped.suspend?.();
  await t.rejects(stopped.write(Buffer.from('x')), { code: 'store-failed' });
  const again = await before.resume?.(other);
  t.equal(again?.sizeBytes, 7, 'in the same process');
  await again?.suspend?.();
  await writeFile(join(directory, 'tmp', '9-no-nar-file'), 'x');
  await mkdir(join(directory, 'tmp', 'folder'));

  const after = await openDirectoryStore(directory, keeps);
  t.same((await readdir(join(directory, 'tmp'))).sort(), [`left-${name}`, `left-${other}`]);
  t.equal(await after.tidyUnfinished?.(60_000), 13);
  const writer = await after.resume?.(name);
  t.equal(writer?.sizeBytes, 6);
  t.equal(await after.resume?.(name), undefined, 'by one only');
  t.equal((await writer?.read(0, 6))?.toString(), 'killed');
  await writer?.cut(4);
  await writer?.write(Buffer.from('ed'));
  await writer?.commit();
  const handle = await after.open(name);
  t.equal((await handle?.read(0, handle.sizeBytes))?.toString(), 'killed');
  t.equal(await after.tidyUnfinished?.(0), 0);
  t.same(await readdir(join(directory, 'tmp')), []);
  await after.close();
  await before.close();
});

t.test('aborted writers leave nothing in the directory', async (t) => {
  provesNothingStaysOpen(t);
  const directory = await temporaryDirectory(t);
  const store = await openDirectoryStore(directory);
  const writer = await store.create(name);
  const written = writer.write(Buffer.alloc(1 << 20));
  await writer.abort();
  await written;
  t.same(await readdir(directory), ['tmp']);
  t.same(await readdir(join(directory, 'tmp')), []);
  await store.close();
});

t.test('foreign files and links in the directory are neither listed nor opened', async (t) => {
  provesNothingStaysOpen(t);
  const directory = await temporaryDirectory(t);
  const store = await openDirectoryStore(directory);
  await mkdir(join(directory, '00'));
  await mkdir(join(directory, '11'));
  await writeFile(join(directory, '00', 'README'), 'not a NAR file');
  await writeFile(join(directory, '11', name), 'in the wrong place');
  await symlink('/etc/passwd', join(directory, '00', name));
  const found = [];
  for await (const file of store.list()) found.push(file);
  t.same(found, []);
  await t.rejects(store.open(name), { code: 'store-failed' });
  await store.close();
});

t.test('a file that was cut short on disk is not held, instead of giving other bytes', async (t) => {
  provesNothingStaysOpen(t);
  const directory = await temporaryDirectory(t);
  const store = await openDirectoryStore(directory);
  const writer = await store.create(name);
  await writer.write(Buffer.alloc(1000));
  await writer.commit();
  const handle = await store.open(name);
  await truncate(join(directory, '00', name), 10);
  await t.rejects(Promise.resolve(handle?.read(0, 1000)), { code: 'not-held' });
  await store.close();
});

t.test('a store where no directory can be says so', async (t) => {
  const directory = await temporaryDirectory(t);
  await writeFile(join(directory, 'file'), '');
  await t.rejects(openDirectoryStore(join(directory, 'file')), {
    code: 'store-failed',
    message: /a file is where a directory should be/,
  });
});

t.test('disk errors are told in plain words, with the cause', async (t) => {
  for (const [code, words] of [
    ['ENOSPC', /disk is full/],
    ['EROFS', /read-only/],
    ['EIO', /hardware error/],
  ] as const) {
    const cause = Object.assign(new Error(`${code}: low-level words`), { code });
    t.match(diskError('write x', cause), { code: 'store-failed', message: words, cause });
  }
});

t.test('a full disk fails the writer and nothing else', { skip: mountMissing() }, async (t) => {
  provesNothingStaysOpen(t);
  const directory = await temporaryDirectory(t);
  mountSmall(directory);
  t.teardown(() => execFileSync('umount', [directory]));
  const store = await openDirectoryStore(directory);
  t.teardown(() => store.close());
  const small = await store.create(name);
  await small.write(Buffer.from('small'));
  const large = await store.create(name);
  await t.rejects(large.write(Buffer.alloc(1 << 20)), { code: 'store-failed', message: /disk is full/ });
  await t.rejects(large.write(Buffer.alloc(1)), { code: 'store-failed', message: /disk is full/ });
  await t.rejects(large.commit(), { code: 'store-failed', message: /disk is full/ });
  await large.abort();
  t.equal((await readdir(join(directory, 'tmp'))).length, 1, 'the space is given back');
  await small.commit();
  const handle = await store.open(name);
  t.same(await handle?.read(0, 5), Buffer.from('small'));
});

function mountSmall(directory: string): void {
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'none', directory], { stdio: 'ignore' });
}

/** Why a small file system cannot be had here, or `false`. */
function mountMissing(): string | false {
  const directory = mkdtempSync(join(tmpdir(), 'narswarm-mount-'));
  try {
    mountSmall(directory);
    execFileSync('umount', [directory]);
    return false;
  } catch {
    return 'a small file system cannot be mounted here';
  } finally {
    rmdirSync(directory);
  }
}

t.test('of what two processes left of one file, the larger part stays, whichever it is', async (t) => {
  provesNothingStaysOpen(t);
  for (const [older, newer] of [
    ['longer', 'new'],
    ['old', 'longer'],
  ] as const) {
    const directory = await temporaryDirectory(t);
    await mkdir(join(directory, 'tmp'));
    await writeFile(join(directory, 'tmp', `left-${name}`), older);
    await writeFile(join(directory, 'tmp', `1-${name}`), newer);
    const store = await openDirectoryStore(directory, { keepsUnfinished: true });
    t.same(await readdir(join(directory, 'tmp')), [`left-${name}`]);
    const writer = await store.resume?.(name);
    t.equal((await writer?.read(0, 6))?.toString(), 'longer');
    await writer?.abort();
    await store.close();
  }
});
