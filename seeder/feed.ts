/**
 * `/feed.xml`: RSS 2.0 with a torrent enclosure for each of the newest packs and NAR files (BEP 36), for BitTorrent programs that follow feeds.
 * What is in a pack is named with it, and not by itself.
 */

import type { Catalog } from '../catalog/catalog.ts';
import { narFileName } from '../nar/compression.ts';
import type { InfoHash } from '../nar/hash.ts';

/** Feed readers ask every quarter of an hour or so; a page of 200 items is 100 KB. */
export const feedMaxItems = 200;
/** At one an hour what a feed reader that was off for two days has missed. */
const packsMaxItems = 50;

interface Item {
  infoHash: InfoHash;
  name: string;
  sizeBytes: number;
}

export function feed(catalog: Catalog, publicUrl: string): string {
  const items = [...packItems(catalog), ...narFileItems(catalog)].map((item) => {
    const url = escapeXml(`${publicUrl}/${item.infoHash}.torrent`);
    return [
      '    <item>',
      `      <title>${item.name}</title>`,
      `      <guid isPermaLink="false">${item.infoHash}</guid>`,
      `      <description>${item.sizeBytes} bytes</description>`,
      `      <enclosure url="${url}" type="application/x-bittorrent" length="0"/>`,
      '    </item>',
    ].join('\n');
  });
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    '<rss version="2.0">',
    '  <channel>',
    '    <title>narswarm: newest packs and NAR files</title>',
    `    <link>${escapeXml(publicUrl)}/</link>`,
    '    <description>Torrents of what was verified last</description>',
    ...items,
    '  </channel>',
    '</rss>',
    '',
  ].join('\n');
}

function packItems(catalog: Catalog): Item[] {
  return catalog.packs.newest(packsMaxItems).map(({ infoHash, length, nars }) => ({
    infoHash,
    // Its own name is in the info dictionary, which has a megabyte.
    name: `pack ${infoHash}, ${nars} NAR files`,
    sizeBytes: length,
  }));
}

function narFileItems(catalog: Catalog): Item[] {
  return catalog
    .newest(feedMaxItems)
    .filter(({ fileHash }) => catalog.packs.packOf(fileHash) === undefined)
    .map(({ infoHash, fileHash, compression, fileSize }) => ({
      infoHash,
      name: narFileName(fileHash, compression),
      sizeBytes: fileSize,
    }));
}

function escapeXml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
