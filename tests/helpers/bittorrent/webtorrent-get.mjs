/** Downloads one torrent, goes on seeding it and prints its figures: webtorrent-get.mjs <.torrent or magnet> <directory> */
import WebTorrent from 'webtorrent';

const [what = '', directory = ''] = process.argv.slice(2);
const client = new WebTorrent({
  dht: false,
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
setInterval(() => {
  const { done, downloaded, uploaded } = torrent;
  console.log(JSON.stringify({ done, downloadedBytes: downloaded, uploadedBytes: uploaded }));
}, 50);
process.on('SIGTERM', () => client.destroy(() => process.exit(0)));
