/** A mirror that is nothing but qBittorrent with the seeder's feed: it keeps alive alone what it downloaded, and Nix is served from it. */

import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { z } from 'zod';
import { parseInfoHash } from '../../nar/hash.ts';
import { TorrentFetch } from '../../swarm/fetch/fetcher.ts';
import { fetchMetadata } from '../../swarm/fetch/metadata-fetch.ts';
import { packInfoMaxBytes } from '../../swarm/torrent/pack-torrent.ts';
import { parseInfo } from '../../swarm/torrent/torrent-file.ts';
import { qbittorrent, startQbittorrent } from '../helpers/bittorrent/qbittorrent.ts';
import { NixLab, nixMissing } from '../helpers/nix.ts';
import { startProgram, until } from '../helpers/program.ts';

const host = '127.0.0.1';
const paths = 5;
/** Not compressed it is in no pack. */
const largeBytes = 1_500_000;

const torrents = z.array(
  z.object({ hash: z.string(), name: z.string(), progress: z.number(), state: z.string() }),
);

const skip = qbittorrent.missing(host) ?? nixMissing();

t.test('qBittorrent with a feed is a mirror', { skip }, async (t) => {
  const lab = await NixLab.open();
  t.teardown(() => lab.close());
  const cacheDir = join(lab.dir, 'cache');
  await mkdir(cacheDir);
  const closure = await lab.buildChain(paths, largeBytes);
  const target = closure.at(-1) ?? '';
  await lab.copyToCache(target, cacheDir, 'none');
  const seeder = await startProgram([
    ...['seeder', '--data', join(lab.dir, 'seeder')],
    ...['--source', `file://${cacheDir}`, '--trusted-key', lab.publicKey],
    ...['--http', `${host}:0`, '--peers', `${host}:0`, '--pack-age', '0s'],
  ]);
  t.teardown(() => seeder.stop());
  const packed = async (): Promise<boolean> => {
    const { catalog, packs } = (await seeder.status()) as {
      catalog: { nars: number };
      packs: { nars: number; unpacked: { nars: number } };
    };
    return catalog.nars === paths && packs.nars > 0 && packs.unpacked.nars === 0;
  };
  await until(packed);

  const home = join(lab.dir, 'qbittorrent');
  const dir = join(lab.dir, 'out');
  await mkdir(home);
  const { child, ask, port } = await startQbittorrent({ dir, home, address: host });
  t.teardown(() => child.end());
  const post = (path: string, fields: Record<string, string>) => {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.set(name, value);
    return ask(path, form);
  };
  const url = `${seeder.url}/feed.xml`;
  await post('app/setPreferences', {
    json: JSON.stringify({ rss_processing_enabled: true, rss_auto_downloading_enabled: true }),
  });
  const rule = { enabled: true, mustContain: '', affectedFeeds: [url] };
  await post('rss/setRule', { ruleName: 'narswarm', ruleDef: JSON.stringify(rule) });
  await post('rss/addFeed', { url, path: 'narswarm' });
  const held = async () => torrents.parse(JSON.parse(await ask('torrents/info')));
  const inFeed = [...(await (await fetch(url)).text()).matchAll(/<guid[^>]*>([0-9a-f]{40})</g)].map(
    ([, hash]) => hash,
  );
  t.ok(inFeed.length >= 2, 'a pack and what is in none');
  await until(async () => {
    const all = await held();
    return all.length === inFeed.length && all.every(({ progress }) => progress === 1);
  });
  t.strictSame(new Set((await held()).map(({ hash }) => hash)), new Set(inFeed));
  await seeder.stop();

  const alone = [{ host, port }];
  for (const { hash, name } of await held()) {
    const infoHash = parseInfoHash(hash);
    const torrent = parseInfo(await fetchMetadata({ infoHash, peers: alone, maxBytes: packInfoMaxBytes }));
    const fetching = new TorrentFetch({ torrent, stallMs: 20_000 });
    t.teardown(() => fetching.close());
    fetching.addPeers(alone);
    fetching.noMorePeers();
    const chunks: Buffer[] = [];
    for await (const { bytes } of fetching) chunks.push(bytes);
    const all = Buffer.concat(chunks);
    t.equal(all.length, torrent.length, `${name} from qBittorrent alone`);
    if (!name.endsWith('.pack')) {
      t.ok((await readFile(join(dir, name))).equals(all));
      continue;
    }
    const small = closure[0] ?? '';
    await lab.realise({ store: 'from-pack', path: small, substituters: [`file://${join(dir, name)}`] });
    await lab.verify('from-pack');
  }
});
