import t from 'tap';
import type { InfoHash } from '../../nar/hash.ts';
import { demandedSource } from '../../seeder/dht.ts';
import { FileSource } from '../swarm/seed-fixture.ts';

t.test('what peers open and read is demand, what is not held is none', async (t) => {
  const { source, held } = await FileSource.make([1_000, 2_000]);
  t.teardown(() => source.remove());
  const [first] = held;
  if (first === undefined) throw new Error('there is a file');
  const { torrent, bytes } = first;
  const noted: InfoHash[] = [];
  const demanded = demandedSource(source, (infoHash) => noted.push(infoHash));
  const handle = await demanded.open(torrent.infoHash);
  t.strictSame(noted, [torrent.infoHash]);
  t.equal(handle?.torrent, torrent);
  t.ok((await handle?.read(10, 20))?.equals(bytes.subarray(10, 30)));
  t.strictSame(noted, [torrent.infoHash, torrent.infoHash]);
  await handle?.close();
  t.equal(source.openHandles, 0);
  t.equal(await demanded.open('ab'.repeat(20) as InfoHash), undefined);
  t.equal(noted.length, 2);
});
