/** A file system of a few MiB that fills up: what is kept yields, and Nix gets every file all the same. */

import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmdirSync } from 'node:fs';
import { appendFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { withoutDiskMaxBytes } from '../../client/race/assembly.ts';
import { isDiskFull } from '../../store/disk-error.ts';
import { fetchNar, get, Lab, statusOf, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

const diskMiB = 24;
const narBytes = 1_000_000;

const disk = mkdtempSync(join(tmpdir(), 'narswarm-disk-'));
const mounted =
  spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${diskMiB}m`, 'tmpfs', disk]).status === 0
    ? false
    : 'no file system can be mounted here';
t.teardown(() => {
  if (mounted === false) spawnSync('umount', ['--lazy', disk]);
  rmdirSync(disk);
});

t.test('on a full disk the files kept longest ago make room', { skip: mounted }, async (t) => {
  const lab = await Lab.open(t);
  const nars = Array.from({ length: 40 }, (_, n) => madeNar({ name: `n${n}`, sizeBytes: narBytes }));
  const upstream = await lab.upstream(nars);
  const dataDir = join(disk, 'kept');
  mkdirSync(dataDir);
  const client = await lab.client([upstream], [], { dataDir });
  // All before, as Nix does: from here on it is the files that find the disk full.
  for (const nar of nars) t.equal((await get(client.url, `${nar.storeHash}.narinfo`)).status, 200);
  for (const nar of nars) {
    const answer = await get(client.url, nar.narInfo.url);
    t.ok(answer.complete && answer.body.equals(nar.bytes));
    await until(() => statusOf(client).transfers.running.length === 0);
  }
  const { cache } = statusOf(client);
  t.ok(cache.evicted > 0, 'kept files went');
  t.ok(cache.files > 0, 'and later ones were kept');
  t.ok(cache.bytes <= diskMiB * 1024 * 1024);
  await client.close();
});

t.test(
  'a disk that others filled costs nothing but what would have been kept',
  { skip: mounted },
  async (t) => {
    const lab = await Lab.open(t);
    const nars = ['a', 'b', 'c'].map((name) => madeNar({ name, sizeBytes: 4 * narBytes }));
    const large = madeNar({ name: 'large', sizeBytes: withoutDiskMaxBytes + 2_000_000, compression: 'none' });
    const upstream = await lab.upstream([...nars, large]);
    const dataDir = join(disk, 'full');
    mkdirSync(dataDir);
    const client = await lab.client([upstream], [], { dataDir });
    await writeFile(join(disk, 'foreign'), '');
    for (let full = false; !full; ) {
      await appendFile(join(disk, 'foreign'), randomBytes(4 * 1024)).catch((error: unknown) => {
        if (!isDiskFull(error)) throw error;
        full = true;
      });
    }
    for (const nar of nars) {
      const answer = await fetchNar(client, nar);
      t.equal(answer.status, 200);
      t.ok(answer.complete && answer.body.equals(nar.bytes));
      const range = await get(client.url, nar.narInfo.url, { headers: { range: 'bytes=10-' } });
      t.equal(range.status, 206);
      t.ok(range.body.equals(nar.bytes.subarray(10)));
    }
    t.match(statusOf(client), { passedThrough: 0, cache: { files: 0 } }, 'what is small needs no disk');
    // What is large breaks off where the disk was full, and goes on from there when Nix asks again.
    const begun = await fetchNar(client, large);
    t.notOk(begun.complete);
    t.ok(begun.body.equals(large.bytes.subarray(0, begun.body.length)));
    const rest = await fetchNar(client, large, { headers: { range: `bytes=${begun.body.length}-` } });
    t.ok(rest.complete && Buffer.concat([begun.body, rest.body]).equals(large.bytes));
    t.match(statusOf(client), { passedThrough: 1, cache: { files: 0 } });
  },
);
