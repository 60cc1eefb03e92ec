/** A mirror that is stopped while a NAR file comes in. */

import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { until } from '../helpers/program.ts';
import { MirrorLab } from './lab.ts';

t.test('a file that was half fetched when the mirror was stopped is gone on with', async (t) => {
  const lab = await MirrorLab.open(t);
  const [built] = await lab.chain('large', 1, 1_500_000);
  const length = built?.narFile.length ?? 0;
  const seeder = await lab.seeder({ upload: { bytesPerSecond: 400_000 } });
  const before = await lab.mirror('mirror', [seeder.url]);
  await until(async () => before.status().fetching.bytes.swarm > 0);
  await before.close();
  const tmp = join(lab.dir, 'mirror', 'nar-files', 'tmp');
  const [name = ''] = await readdir(tmp);
  const { size: first } = await stat(join(tmp, name));
  t.ok(first > 0 && first < length, `${first} of ${length} bytes`);
  const after = await lab.mirror('mirror', [seeder.url]);
  await until(async () => after.status().held.files === 1);
  t.equal(first + after.status().fetching.bytes.swarm, length, 'each byte once');
  t.match(after.status().quota, { heldBytes: length, reservedBytes: 0 });
});
