/** A mirror that is stopped while a NAR file comes in. */

import t from 'tap';
import { until } from '../helpers/program.ts';
import { MirrorLab } from './lab.ts';

t.test('a file that was half fetched when the mirror was stopped is gone on with', async (t) => {
  const lab = await MirrorLab.open(t);
  const [built] = await lab.chain('large', 1, 1_500_000);
  const length = built?.narFile.length ?? 0;
  const seeder = await lab.seeder({ upload: { bytesPerSecond: 400_000 } });
  const before = await lab.mirror('mirror', [seeder.url]);
  const fetched = (): number => before.status().fetching.bytes.swarm;
  await until(async () => fetched() > 0);
  await before.close();
  const first = fetched();
  t.ok(first < length, `${first} of ${length} bytes`);
  const after = await lab.mirror('mirror', [seeder.url]);
  await until(async () => after.status().held.files === 1);
  t.equal(first + after.status().fetching.bytes.swarm, length, 'each byte once');
  t.match(after.status().quota, { heldBytes: length, reservedBytes: 0 });
});
