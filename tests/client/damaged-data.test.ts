/** A data directory in which each file in turn is something else: the client starts, or says what to do. */

import { appendFile, cp, mkdir, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import t from 'tap';
import { isNarswarmError } from '../../nar/errors.ts';
import { fetchNar, Lab } from './lab.ts';
import { madeNar } from './made-nar.ts';

const nars = [1, 2, 3].map((number) => madeNar({ name: `nar-${number}`, sizeBytes: 30_000 }));

const damages: Record<string, (path: string) => Promise<void>> = {
  'something else': (path) => writeFile(path, Buffer.alloc(20_000, 'something else')),
  nothing: (path) => truncate(path),
  'its first bytes': (path) => truncate(path, 5_000).catch(() => appendFile(path, 'x')),
  'a directory': async (path) => {
    await rm(path);
    await mkdir(path);
  },
};

async function filesIn(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { withFileTypes: true, recursive: true });
  return entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
}

t.test('whatever is in a file of the data directory', async (t) => {
  const lab = await Lab.open(t);
  const [upstream, catalog] = [await lab.upstream(nars), await lab.catalog(nars)];
  const first = await lab.client([upstream], [catalog]);
  for (const nar of nars.slice(1)) await fetchNar(first, nar);
  await first.close();
  const data = join(lab.dir, 'data');
  const files = (await filesIn(data)).map((path) => relative(data, path));
  t.ok(files.length >= 6, files.join(', '));
  for (const file of files) {
    for (const [what, damage] of Object.entries(damages)) {
      const dataDir = join(lab.dir, 'damaged');
      await rm(dataDir, { recursive: true, force: true });
      await cp(data, dataDir, { recursive: true });
      await damage(join(dataDir, file));
      try {
        const client = await lab.client([upstream], [catalog], { dataDir });
        for (const nar of nars)
          t.ok((await fetchNar(client, nar)).body.equals(nar.bytes), `${file}: ${what}`);
        await client.close();
      } catch (error) {
        if (!isNarswarmError(error)) throw error;
        t.match(error.message, join(dataDir, file), `${file}: ${what}: ${error.message}`);
        t.match(error.message, /is a directory: move it away/);
        t.equal(what, 'a directory');
      }
    }
  }
});
