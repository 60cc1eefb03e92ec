/**
 * webtorrent's side of the benchmark:
 *
 *   webtorrent-peer.mjs seed DIR
 *   webtorrent-peer.mjs get DIR PORT JOBS OUT
 */
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import WebTorrent from 'webtorrent';
import { inputEnd, measureOnDemand } from './peer-process.ts';

const [role, dir = '', port = '', jobs = '1', out = ''] = process.argv.slice(2);
// Without the encrypted handshake, which it insists on by default and which costs 44 ms a connection.
const off = { dht: false, tracker: false, lsd: false, utPex: false, natUpnp: false, natPmp: false, utp: false };
const client = new WebTorrent({ ...off, secure: 0 });
client.on('error', (error) => {
  console.error(error);
  process.exit(1);
});
const names = (await readdir(dir)).filter((name) => name.endsWith('.torrent')).sort();
const torrents = await Promise.all(names.map((name) => readFile(join(dir, name))));

if (role === 'seed') {
  await Promise.all(torrents.map((bytes) => once(client.add(bytes, { path: dir }), 'done')));
  while (!(client.torrentPort > 0)) await new Promise((resolve) => setTimeout(resolve, 10));
  console.log(JSON.stringify({ port: client.torrentPort }));
  await inputEnd();
} else {
  await measureOnDemand(async () => {
    const waiting = [...torrents];
    const work = async () => {
      for (let bytes = waiting.shift(); bytes !== undefined; bytes = waiting.shift()) {
        const torrent = client.add(bytes, { path: out });
        torrent.on('infoHash', () => torrent.addPeer(`127.0.0.1:${port}`));
        await once(torrent, 'done');
        await client.remove(torrent);
      }
    };
    await Promise.all(Array.from({ length: Number(jobs) }, work));
  });
}
process.exit(0);
