/** NAR files that lie beside each other in a pack, to be fetched as one range over one connection. Pure. */

import type { InfoHash } from '../nar/hash.ts';
import type { Wanted } from './acquire.ts';

export interface PackPart {
  readonly wanted: Wanted;
  /** Of its first byte in the pack. */
  readonly offset: number;
}

export interface PackRun {
  /** Of the pack. */
  readonly infoHash: InfoHash;
  /** By offset; not empty. */
  readonly parts: readonly PackPart[];
}

/** Bytes that are not wanted and are fetched nevertheless for the sake of one range: a piece, which is fetched whole anyway. */
export const runGapBytes = 64 * 1024;
/** Of one range: some seconds of a fast line, so that what is fetched is soon verified and held. */
export const runMaxBytes = 16 * 1024 * 1024;

/** A file alone is had as cheaply by its own torrent. */
const runMinParts = 2;

/** The runs among `wanted`, and what is in none of them. */
export function packRuns(wanted: readonly Wanted[]): { runs: PackRun[]; alone: Wanted[] } {
  const packs = new Map<InfoHash, PackPart[]>();
  const alone: Wanted[] = [];
  for (const each of wanted) {
    const place = each.catalog.followed.packOf(each.fileHash);
    if (place === undefined) {
      alone.push(each);
      continue;
    }
    const parts = packs.get(place.infoHash) ?? [];
    parts.push({ wanted: each, offset: place.offset });
    packs.set(place.infoHash, parts);
  }
  const runs: PackRun[] = [];
  for (const [infoHash, parts] of packs) {
    parts.sort((a, b) => a.offset - b.offset);
    let run: PackPart[] = [];
    const close = (): void => {
      if (run.length >= runMinParts) runs.push({ infoHash, parts: run });
      else alone.push(...run.map((part) => part.wanted));
      run = [];
    };
    for (const part of parts) {
      const [first, last] = [run[0], run.at(-1)];
      if (first !== undefined && last !== undefined) {
        const gap = part.offset - endOf(last);
        if (gap < 0 || gap > runGapBytes || endOf(part) - first.offset > runMaxBytes) close();
      }
      run.push(part);
    }
    close();
  }
  return { runs, alone };
}

export function endOf({ offset, wanted }: PackPart): number {
  return offset + wanted.torrentInfo.fileSize;
}
