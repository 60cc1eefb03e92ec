/** `/feed.xml`: RSS 2.0 with a torrent enclosure for each of the newest NAR files (BEP 36), for BitTorrent programs that follow feeds. */

import type { NarFileEntry } from '../catalog/catalog.ts';
import { narFileName } from '../nar/compression.ts';

/** Feed readers ask every quarter of an hour or so; a page of 200 items is 100 KB. */
export const feedMaxItems = 200;

export function feed(entries: readonly NarFileEntry[], publicUrl: string): string {
  const items = entries.map((entry) => {
    const name = narFileName(entry.fileHash, entry.compression);
    const url = escapeXml(`${publicUrl}/${entry.infoHash}.torrent`);
    return [
      '    <item>',
      `      <title>${name}</title>`,
      `      <guid isPermaLink="false">${entry.infoHash}</guid>`,
      `      <description>${entry.fileSize} bytes</description>`,
      `      <enclosure url="${url}" type="application/x-bittorrent" length="0"/>`,
      '    </item>',
    ].join('\n');
  });
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    '<rss version="2.0">',
    '  <channel>',
    '    <title>narswarm: newest NAR files</title>',
    `    <link>${escapeXml(publicUrl)}/</link>`,
    '    <description>Torrents of the NAR files that were verified last</description>',
    ...items,
    '  </channel>',
    '</rss>',
    '',
  ].join('\n');
}

function escapeXml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
