/**
 * Which segments at the end of a log are fused into one: every publication adds a small one, and a head with a line for
 * each minute of a year would be read by nobody.
 */

import type { LogSegment } from './log-reader.ts';
import { segmentLimits } from './segment.ts';

/**
 * Sizes of segments: up to `records` and `bytes`, and how many of that size or smaller there may be at the end. A record
 * is written again once for each of them, and followers that fell behind fetch little more than what they miss.
 */
const tiers = [
  { records: segmentLimits.records / 32, bytes: segmentLimits.bytes / 32, most: 64 },
  { records: segmentLimits.records / 4, bytes: segmentLimits.bytes / 4, most: 80 },
  { records: segmentLimits.records / 2, bytes: segmentLimits.bytes / 2, most: 96 },
] as const;

/** Those to be fused, which are the last ones; none when all is well. */
export function segmentsToFuse(segments: readonly Pick<LogSegment, 'records' | 'plainBytes'>[]): number {
  for (const tier of tiers) {
    let count = 0;
    for (let at = segments.length - 1; at >= 0; at--) {
      const records = (segments[at]?.records ?? 0) - (segments[at - 1]?.records ?? 0);
      if (records > tier.records || (segments[at]?.plainBytes ?? 0) > tier.bytes) break;
      count++;
    }
    if (count > tier.most) return count;
  }
  return 0;
}
