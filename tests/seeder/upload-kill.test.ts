/** What was uploaded is remembered by a seeder that is killed. */
import { join } from 'node:path';
import t from 'tap';
import { parseInfoHash } from '../../nar/hash.ts';
import { printPublicKey } from '../../nar/signature.ts';
import { parsePeer } from '../../swarm/address/peer-address.ts';
import { TorrentFetch } from '../../swarm/fetch/fetcher.ts';
import { parseTorrentFile } from '../../swarm/torrent/torrent-file.ts';
import { CacheBuilder } from '../helpers/cache-builder.ts';
import { type Program, startProgram, until, untilIngested } from '../helpers/program.ts';
import { narOfSize } from '../helpers/sized-nar.ts';

interface Status {
  catalog: { nars: number; uploads: { swarming: number; capped: number } };
}

t.test('a torrent that was capped is capped after a kill -9', async (t) => {
  const dir = t.testdir();
  const cache = await new CacheBuilder(join(dir, 'cache')).open();
  const { compression, nar, narFile } = narOfSize(1024 * 1024);
  const built = await cache.add({ name: 'one', compression, nar, narFile });
  const start = (): Promise<Program> =>
    startProgram([
      'seeder',
      ...[
        '--data',
        join(dir, 'data'),
        '--source',
        cache.url,
        '--trusted-key',
        printPublicKey(cache.publicKey),
      ],
      ...['--http', '127.0.0.1:0', '--peers', '127.0.0.1:0', '--initial-copies', '1'],
    ]);
  const uploads = async (seeder: Program): Promise<Status['catalog']['uploads']> =>
    ((await seeder.status()) as unknown as Status).catalog.uploads;

  const seeder = await start();
  t.teardown(() => seeder.kill());
  await untilIngested(seeder, 1);
  t.same(await uploads(seeder), { swarming: 0, capped: 0 }, 'without uploads there is no row');
  const { fileHash } = built.narInfo;
  const info = await (await fetch(`${seeder.url}/${fileHash?.toString() ?? ''}.torrentinfo`)).text();
  const infoHash = parseInfoHash(/^InfoHash: (.*)$/m.exec(info)?.[1] ?? '');
  const file = Buffer.from(await (await fetch(`${seeder.url}/${infoHash}.torrent`)).arrayBuffer());
  const peer = parsePeer(seeder.peers ?? '');
  if (peer === undefined) throw new Error('the seeder says where it is');
  const download = new TorrentFetch({ torrent: parseTorrentFile(file), stallMs: 20_000 });
  download.addPeers([peer]);
  let bytes = 0;
  for await (const piece of download) bytes += piece.bytes.length;
  t.equal(bytes, narFile.length);
  // Written within seconds, and nothing tells when but the database itself.
  await until(async () => (await uploads(seeder)).capped === 1);
  await seeder.kill();

  const again = await start();
  t.teardown(() => again.stop());
  t.same(await uploads(again), { swarming: 0, capped: 1 });
});
