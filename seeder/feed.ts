/**
 * `/feed.xml`: RSS 2.0 with a torrent enclosure for each item (BEP 36), for BitTorrent programs that follow feeds. What it lists by default is
 * what makes such a program a mirror: each NAR file once, in a pack or by itself.
 */

import { z } from 'zod';
import type { Catalog, NarFileEntry } from '../catalog/catalog.ts';
import { narFileName } from '../nar/compression.ts';
import type { InfoHash } from '../nar/hash.ts';

/** Feed readers ask every quarter of an hour or so; a page of 200 items is 100 KB. */
const itemsDefault = 200;
/** For a reader that is new or was off for long: a megabyte. */
const itemsMax = 2_000;
/** NAR files that are looked at for those that are in no pack: it bounds what a feed costs in a catalog of any size. */
const amongMax = 10_000;

const feedQuery = z.object({
  /** `mirror`: packs, and NAR files that are in none and will be in none. `nars`: every NAR file by itself. */
  kind: z.enum(['mirror', 'packs', 'nars']).default('mirror'),
  items: z.coerce.number().int().min(1).max(itemsMax).default(itemsDefault),
});

export type FeedQuery = z.infer<typeof feedQuery>;

interface Item {
  infoHash: InfoHash;
  name: string;
  sizeBytes: number;
}

/** `undefined` for what is no query of a feed. */
export function parseFeedQuery(query: unknown): FeedQuery | undefined {
  return feedQuery.safeParse(query).data;
}

/** `packing`: whether NAR files that are in no pack yet will be. */
export function feed(catalog: Catalog, packing: boolean, publicUrl: string, query: FeedQuery): string {
  const items = itemsOf(catalog, packing, query).map((item) => {
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

/** Packs first, and as many NAR files as there is room for behind them. */
function itemsOf(catalog: Catalog, packing: boolean, { kind, items }: FeedQuery): Item[] {
  if (kind === 'nars') return catalog.newest(items).map(narFileItem);
  const packs = catalog.packs.newest(items).map(({ infoHash, length, nars }) => ({
    infoHash,
    // Its own name is in the info dictionary, which has a megabyte.
    name: `pack ${infoHash}, ${nars} NAR files`,
    sizeBytes: length,
  }));
  if (kind === 'packs' || packs.length === items) return packs;
  const room = items - packs.length;
  const alone = packing
    ? catalog.newestAlone(room, amongMax)
    : catalog.newest(room).filter(({ fileHash }) => catalog.packs.packOf(fileHash) === undefined);
  return [...packs, ...alone.map(narFileItem)];
}

function narFileItem({ infoHash, fileHash, compression, fileSize }: NarFileEntry): Item {
  return { infoHash, name: narFileName(fileHash, compression), sizeBytes: fileSize };
}

function escapeXml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
