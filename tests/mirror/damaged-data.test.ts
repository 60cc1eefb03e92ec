/** What a mirror makes anew when its file is damaged. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { until } from '../helpers/program.ts';
import { MirrorLab } from './lab.ts';

t.test('a followed catalog that is damaged is followed again, and nothing is fetched again', async (t) => {
  const lab = await MirrorLab.open(t);
  await lab.chain('a', 2, 60_000);
  const seeder = await lab.seeder();
  const before = await lab.mirror('mirror', [seeder.url]);
  await until(async () => before.status().held.files === 2);
  await before.close();
  const path = join(lab.dir, 'mirror', 'catalogs', 'catalog-1', 'followed.sqlite');
  await writeFile(path, Buffer.alloc(20_000, 'no database'));
  const after = await lab.mirror('mirror', [seeder.url]);
  t.same(after.status().held.files, 2, 'what was held is');
  t.equal(after.log.filter(({ event }) => event === 'followed-damaged').length, 1);
  await until(async () => after.status().catalog.nars === 2);
});
