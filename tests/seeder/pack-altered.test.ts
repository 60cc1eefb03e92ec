/** A NAR file that was changed unseen is in no pack. */

import { execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import t from 'tap';
import { sha256 } from '../helpers/cache-builder.ts';
import { addChain, openPackLab, resolvePacks } from './pack-lab.ts';

t.test('a NAR file with other bytes of the same size and time does not get into a pack', async (t) => {
  const { cache, start } = await openPackLab(t);
  const built = await addChain(cache, 'chain', [100, 200, 300]);
  await (await start({ sizeBytes: 0 })).close();
  const [first] = built;
  if (first === undefined) throw new Error('nothing was built');
  const path = cache.path(first.narInfo.url);
  // To the nanosecond, as `utimes` could not.
  execFileSync('cp', ['-p', path, `${path}.before`]);
  await writeFile(path, Buffer.from(first.narFile.map((byte) => byte ^ 1)));
  execFileSync('touch', ['-r', `${path}.before`, path]);
  const seeder = await start({ ageMs: 0 });
  await seeder.closePacks();
  t.match(seeder.status().packs, { closed: 1, nars: 2, failed: null });
  const places = await resolvePacks(
    seeder,
    built.map(({ narFile }) => sha256(narFile)),
  );
  t.equal(places[0], undefined);
  t.ok(places[1] && places[2]);
});
