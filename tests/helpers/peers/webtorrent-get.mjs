/** Downloads one torrent from one peer with webtorrent: webtorrent-get.mjs <.torrent or magnet> <directory> <host:port> */
import WebTorrent from 'webtorrent';

const [what = '', directory = '', peer = ''] = process.argv.slice(2);
// By default webtorrent insists on an encrypted handshake, which the seed server does not speak.
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
torrent.on('infoHash', () => torrent.addPeer(peer));
torrent.on('done', () => client.destroy(() => process.exit(0)));
