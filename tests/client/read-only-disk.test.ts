/** A disk that cannot be written: told in one line at the start; and once the client runs, Nix gets its files all the same. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { fetchNar, Lab, statusOf, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

const disk = mkdtempSync(join(tmpdir(), 'narswarm-read-only-'));
const mountOver = (dir: string): boolean =>
  spawnSync('mount', ['-t', 'tmpfs', '-o', 'ro,size=1m', 'tmpfs', dir]).status === 0;
const unmount = (dir: string): void => void spawnSync('umount', ['--lazy', dir]);
const skip = mountOver(disk) ? false : 'no file system can be mounted here';
t.teardown(() => {
  if (skip === false) unmount(disk);
  rmdirSync(disk);
});

t.test('a data directory that cannot be written is told at the start', { skip }, async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream();
  await t.rejects(lab.client([upstream], [], { dataDir: disk }), { code: 'store-failed' });
});

t.test('a disk that becomes read-only costs nothing but what would have been kept', { skip }, async (t) => {
  const lab = await Lab.open(t);
  const nars = ['a', 'b', 'c'].map((name) => madeNar({ name, sizeBytes: 500_000 }));
  const [kept, other, last] = nars;
  if (kept === undefined || other === undefined || last === undefined) return;
  const upstream = await lab.upstream(nars);
  const dataDir = join(lab.dir, 'data');
  const narFiles = join(dataDir, 'nar-files');
  await mkdir(narFiles, { recursive: true });
  const client = await lab.client([upstream], [], { dataDir });
  const gets = async (nar: typeof kept): Promise<void> => {
    const answer = await fetchNar(client, nar);
    t.equal(answer.status, 200);
    t.ok(answer.complete && answer.body.equals(nar.bytes));
    const range = await fetchNar(client, nar, { headers: { range: 'bytes=1000-' } });
    t.ok(range.complete && range.body.equals(nar.bytes.subarray(1000)));
    await until(() => statusOf(client).transfers.running.length === 0);
  };
  await gets(kept);
  t.match(statusOf(client), { cache: { files: 1 } });
  // As if its file system had been mounted again read-only; what was held is out of reach as well.
  mountOver(narFiles);
  try {
    for (const nar of [kept, other]) await gets(nar);
    t.match(statusOf(client), { cache: { files: 0 } });
  } finally {
    unmount(narFiles);
  }
  await gets(last);
  t.match(statusOf(client), { cache: { files: 1 } }, 'kept again once it can be written');
});
