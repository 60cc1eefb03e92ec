import t from 'tap';
import { printTorrentInfo, signTorrentInfo } from '../../catalog/torrentinfo.ts';
import { isTorrentInfoOf, parseResolveLine } from '../../parts/resolved.ts';
import { infoDictionary } from '../../swarm/torrent/torrent.ts';
import { catalogKey, madeNar, strangerKey, torrentInfoText } from '../client/made-nar.ts';

const nar = madeNar({ name: 'resolved', sizeBytes: 100_000 });
const other = madeNar({ name: 'other', sizeBytes: 100_000 });
const keys = [catalogKey.publicKey];
const info = infoDictionary(nar.torrent).toString('base64');

function line(change: object = {}): string {
  const { fileHash } = nar;
  return JSON.stringify({
    fileHash,
    torrentinfo: torrentInfoText(nar),
    info,
    peers: ['127.0.0.1:1'],
    ...change,
  });
}

t.test('a signed torrentinfo with its own info dictionary is taken', async (t) => {
  const resolved = parseResolveLine(line(), keys);
  t.equal(resolved.torrent.infoHash, nar.torrent.infoHash);
  t.same(resolved.peers, [{ host: '127.0.0.1', port: 1 }]);
  t.ok(isTorrentInfoOf(resolved.torrentInfo, nar.narInfo));
});

t.test('a place in a pack is taken along, and what cannot be one is left out', async (t) => {
  const { infoHash } = other.torrent;
  const pack = { infoHash, offset: 4_711 };
  t.same(parseResolveLine(line({ pack }), keys).pack, pack);
  const bad = [
    { offset: 1 },
    { infoHash },
    { infoHash: 'x', offset: 1 },
    { infoHash, offset: -1 },
    { infoHash, offset: 0.5 },
    { infoHash, offset: 2 ** 31 + 1 },
    'pack',
    null,
  ];
  for (const each of bad) {
    const resolved = parseResolveLine(line({ pack: each }), keys);
    t.equal(resolved.pack, undefined, JSON.stringify(each));
    t.equal(resolved.peers.length, 1);
  }
});

t.test('a forged or mismatched answer is refused', async (t) => {
  const forged = printTorrentInfo(signTorrentInfo({ ...nar.torrentInfo, sigs: [] }, strangerKey));
  t.throws(() => parseResolveLine(line({ torrentinfo: forged }), keys), { code: 'torrentinfo-untrusted' });
  t.throws(() => parseResolveLine(line(), []), { code: 'torrentinfo-untrusted' });
  const altered = torrentInfoText(nar).replace('NarSize: 300000', 'NarSize: 300001');
  t.throws(() => parseResolveLine(line({ torrentinfo: altered }), keys), { code: 'torrentinfo-untrusted' });
  const otherInfo = infoDictionary(other.torrent).toString('base64');
  t.throws(() => parseResolveLine(line({ info: otherInfo }), keys), { code: 'torrent-invalid' });
  const renamed = infoDictionary({ ...other.torrent, name: nar.torrent.name }).toString('base64');
  t.throws(() => parseResolveLine(line({ info: renamed }), keys), { message: /another infohash/ });
  t.throws(() => parseResolveLine(line({ info: 'AAAA' }), keys), { code: 'torrent-invalid' });
  t.throws(() => parseResolveLine('{', keys), { code: 'torrentinfo-corrupt' });
  t.throws(() => parseResolveLine('{}', keys), { code: 'torrentinfo-corrupt' });
  t.throws(() => parseResolveLine(line({ fileHash: 'x' }), keys), { code: 'torrentinfo-corrupt' });
  const { fileHash: another } = other;
  t.throws(() => parseResolveLine(line({ fileHash: another }), keys), { message: /another torrentinfo/ });
  // Signed by the catalog, but saying of one file what is true of another.
  const { fileHash, fileSize } = other.torrentInfo;
  const mixed = signTorrentInfo({ ...nar.torrentInfo, fileHash, fileSize, sigs: [] }, catalogKey);
  t.throws(() => parseResolveLine(line({ torrentinfo: printTorrentInfo(mixed) }), keys), {
    code: 'torrent-invalid',
  });
});

t.test('a torrentinfo belongs to a narinfo only when all that both say is the same', async (t) => {
  const { torrentInfo, narInfo } = nar;
  t.notOk(isTorrentInfoOf(torrentInfo, other.narInfo));
  t.notOk(isTorrentInfoOf({ ...torrentInfo, narSize: 1 }, narInfo));
  t.notOk(isTorrentInfoOf({ ...torrentInfo, fileSize: 1 }, narInfo));
  t.notOk(isTorrentInfoOf({ ...torrentInfo, compression: 'zstd' }, narInfo));
  t.notOk(isTorrentInfoOf({ ...torrentInfo, narHash: other.torrentInfo.narHash }, narInfo));
  const { fileSize: _, ...sizeless } = narInfo;
  t.ok(isTorrentInfoOf(torrentInfo, sizeless));
});
