/** Seeds one torrent on loopback with webtorrent and prints its port: webtorrent-seed.mjs <.torrent> <directory with the file> */
import WebTorrent from 'webtorrent';

const [what = '', directory = ''] = process.argv.slice(2);
const client = new WebTorrent({
  secure: 0,
  dht: false,
  tracker: false,
  lsd: false,
  utPex: false,
  natUpnp: false,
  natPmp: false,
  utp: false,
});
client.on('error', (error) => {
  console.error(error);
  process.exit(1);
});
const torrent = client.add(what, { path: directory });
torrent.on('done', () => {
  const tell = () => (client.torrentPort > 0 ? console.log(client.torrentPort) : setTimeout(tell, 10));
  tell();
});
