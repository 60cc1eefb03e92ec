/** .torrent files and magnet links of canonical torrents, and info dictionaries of either kind. */

import { NarswarmError } from '../../nar/errors.ts';
import { bencode } from '../bencode.ts';
import { isPackInfo, packTorrentFilesMax, parsePackInfo } from './pack-torrent.ts';
import {
  infoDictionary,
  infoDictionaryMaxBytes,
  parseBencodeOfTorrent,
  parseInfoDictionary,
  type Torrent,
} from './torrent.ts';

/** An info dictionary, 1 MiB of which may be trackers and web seeds. */
export const torrentFileMaxBytes = infoDictionaryMaxBytes + 1_048_576;

/** Of each file of a pack: itself, its length, its path and the two names in that; and a megabyte of URLs. */
const valuesMax = packTorrentFilesMax * 5 + 16_384;

/** The torrent of a NAR file or of a pack. Throws torrent-invalid unless `bytes` are canonical to the last one. */
export function parseInfo(bytes: Uint8Array): Torrent {
  return isPackInfo(bytes) ? parsePackInfo(bytes).torrent : parseInfoDictionary(bytes);
}

export interface TorrentFileOptions {
  announce?: string;
  /** Tiers of trackers (BEP 12); those of one tier are alike, and programs ask one of them. Beside `announce`, which is among them. */
  announceList?: readonly (readonly string[])[];
  webSeeds?: readonly string[];
}

/** A .torrent file. Its bytes depend on nothing but the arguments: no date, no program's name. */
export function torrentFile(torrent: Torrent, options: TorrentFileOptions = {}): Buffer {
  const { announce, announceList = [], webSeeds = [] } = options;
  const before = bencode({
    ...(announce === undefined ? {} : { announce }),
    ...(announceList.length === 0 ? {} : { 'announce-list': announceList }),
  });
  const after = bencode(webSeeds.length === 0 ? {} : { 'url-list': webSeeds });
  // The info dictionary as it is, between the other keys, which stand before and after it: `d…e`, without its `d` and `e`.
  return Buffer.concat([
    before.subarray(0, -1),
    Buffer.from('4:info', 'latin1'),
    infoDictionary(torrent),
    after.subarray(1),
  ]);
}

/** The torrent in a .torrent file; what stands beside the info dictionary is ignored. Throws torrent-invalid. */
export function parseTorrentFile(bytes: Uint8Array): Torrent {
  if (bytes.length > torrentFileMaxBytes) {
    throw new NarswarmError('torrent-invalid', `a torrent file of ${bytes.length} bytes`);
  }
  const metainfo = parseBencodeOfTorrent(bytes, { valuesMax });
  const info = metainfo instanceof Map ? metainfo.get('info') : undefined;
  if (info === undefined)
    throw new NarswarmError('torrent-invalid', 'the torrent file has no info dictionary');
  // Only canonical bencode was parsed, so encoding it again gives the bytes that were there.
  return parseInfo(bencode(info));
}

/** A magnet link (BEP 9). Programs that take it fetch the info dictionary from the peers that the trackers name. */
export function magnetLink(torrent: Torrent, options: { trackers?: readonly string[] } = {}): string {
  const trackers = (options.trackers ?? []).map((url) => `&tr=${encodeURIComponent(url)}`);
  return `magnet:?xt=urn:btih:${torrent.infoHash}&dn=${torrent.name}&xl=${torrent.length}${trackers.join('')}`;
}
