/** Parts of NAR files that are held, and that something has changed on the disk since they were kept. */

import { open, readdir, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { fetchNar, Lab, statusOf, until } from './lab.ts';
import { type MadeNar, madeNar } from './made-nar.ts';

const large = madeNar({ name: 'large', sizeBytes: 3_000_000, compression: 'none' });
const small = madeNar({ name: 'small', sizeBytes: 90_000, compression: 'none' });

async function pathOf(lab: Lab, sizeBytes: number): Promise<string> {
  const entries = await readdir(join(lab.dir, 'data', 'nar-files'), { withFileTypes: true, recursive: true });
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile() && (await stat(path)).size === sizeBytes) return path;
  }
  throw new Error(`no file of ${sizeBytes} bytes`);
}

/** Of one byte; its size stays, and its time if so wanted. */
async function spoil(path: string, at: number, sameTime: boolean): Promise<void> {
  const { atime, mtime } = await stat(path);
  const file = await open(path, 'r+');
  await file.write('!', at);
  await file.close();
  if (sameTime) await utimes(path, atime, mtime);
}

for (const nar of [large, small] as MadeNar[]) {
  const size = nar.bytes.length;
  t.test(`a part of a file of ${size} bytes is given only if all of it is what it was`, async (t) => {
    const lab = await Lab.open(t);
    const upstream = await lab.upstream([nar]);
    const before = await lab.client([upstream]);
    t.ok((await fetchNar(before, nar)).body.equals(nar.bytes));
    await until(() => statusOf(before).cache.files === 1);
    const path = await pathOf(lab, size);
    await before.close();
    const client = await lab.client([upstream]);
    const part = async (from: number, end: number): Promise<void> => {
      const range = { range: `bytes=${from}-${end - 1}` };
      const { status, body } = await fetchNar(client, nar, { headers: range });
      t.equal(status, 206);
      t.ok(body.equals(nar.bytes.subarray(from, end)), `${from} to ${end}`);
    };
    const fromUpstream = upstream.narBytes;
    await part(size - 1_000, size);
    await utimes(path, new Date(), new Date());
    await part(size - 1_000, size);
    await part(0, 1_000);
    t.equal(upstream.narBytes, fromUpstream, 'also after its time was changed and nothing else');
    await spoil(path, size - 500, nar === small);
    await part(size - 1_000, size);
    t.ok(upstream.narBytes > fromUpstream, 'a changed one is fetched again');
    await until(() => statusOf(client).transfers.running.length === 0);
    await spoil(await pathOf(lab, size), 10, nar === small);
    await part(0, 1_000);
  });
}
