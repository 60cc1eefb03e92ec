/**
 * How generous a seeder is with one torrent: free until its first copies are out, then at a low rate, and free again when its seeds
 * vanish. Pure: no clock, no sockets.
 *
 * The legal moves, and there are no others:
 *
 *   swarming → capped    when `initialCopies` times the size has left since it began to swarm; a little later while those who fetch it
 *                        share it and lack pieces that none of them has: what left twice must not keep back what left never
 *   capped → swarming    when fewer than `minSeeds` others were seen for `lonelyAfterMs`; the copies are counted anew
 *
 * A torrent that is fetched in parts, as packs are, is capped only while it has `minSeeds` others: those who fetch a part of it seed nothing
 * of it, so that no number of copies makes it less needed.
 */

export type UploadState = 'swarming' | 'capped';

export interface UploadRules {
  /** Copies that leave before a torrent is capped; fractions are allowed, 0 caps at once. */
  initialCopies: number;
  /** Other seeds that a torrent should have. */
  minSeeds: number;
  lonelyAfterMs: number;
  /** Smaller torrents are never capped. */
  neverCappedBytes: number;
  /** Copies more that leave at most while pieces are missing. */
  graceCopies: number;
}

/** What is remembered of a torrent that was ever uploaded. */
export interface UploadRecord {
  readonly state: UploadState;
  /** Bytes of blocks, ever. */
  readonly uploadedBytes: number;
  /** Of those, since it last began to swarm. */
  readonly roundBytes: number;
  /** While capped: since when too few seeds are seen, in milliseconds since 1970. */
  readonly lonelySinceMs: number | undefined;
}

export interface UploadFacts {
  sizeBytes: number;
  /** Bytes that left since the last time. */
  sentBytes: number;
  /** Peers share it among each other, and there are pieces that none of them has yet. */
  piecesMissing: boolean;
  /** It is a pack: most who fetch from it want a part, and do not seed it. */
  inParts?: boolean;
  /** Seeds besides ourselves, as the tracker sees them; `undefined` when it cannot know. */
  otherSeeds: number | undefined;
  /** Milliseconds since 1970. */
  nowMs: number;
}

export const neverUploaded: UploadRecord = {
  state: 'swarming',
  uploadedBytes: 0,
  roundBytes: 0,
  lonelySinceMs: undefined,
};

/** The same object when nothing changed. One move at most. */
export function nextUploadRecord(record: UploadRecord, facts: UploadFacts, rules: UploadRules): UploadRecord {
  const { sentBytes } = facts;
  const counted =
    sentBytes === 0
      ? record
      : {
          ...record,
          uploadedBytes: record.uploadedBytes + sentBytes,
          roundBytes: record.roundBytes + sentBytes,
        };
  return counted.state === 'swarming'
    ? fromSwarming(counted, facts, rules)
    : fromCapped(counted, facts, rules);
}

function fromSwarming(record: UploadRecord, facts: UploadFacts, rules: UploadRules): UploadRecord {
  const { sizeBytes, piecesMissing } = facts;
  if (isLonelyPack(facts, rules)) return record;
  const copies = rules.initialCopies + (piecesMissing ? rules.graceCopies : 0);
  if (sizeBytes < rules.neverCappedBytes || record.roundBytes < copies * sizeBytes) return record;
  return { ...record, state: 'capped', lonelySinceMs: undefined };
}

function fromCapped(record: UploadRecord, facts: UploadFacts, rules: UploadRules): UploadRecord {
  const { sizeBytes, otherSeeds, nowMs } = facts;
  // The limit may have been another one when it was capped.
  if (sizeBytes < rules.neverCappedBytes || isLonelyPack(facts, rules)) return swarmingAgain(record);
  if (otherSeeds === undefined) return record;
  if (otherSeeds >= rules.minSeeds) {
    return record.lonelySinceMs === undefined ? record : { ...record, lonelySinceMs: undefined };
  }
  // A clock that was set back begins the wait anew rather than prolonging it.
  const sinceMs = Math.min(record.lonelySinceMs ?? nowMs, nowMs);
  if (nowMs - sinceMs >= rules.lonelyAfterMs) return swarmingAgain(record);
  return sinceMs === record.lonelySinceMs ? record : { ...record, lonelySinceMs: sinceMs };
}

function isLonelyPack({ inParts, otherSeeds }: UploadFacts, { minSeeds }: UploadRules): boolean {
  return inParts === true && (otherSeeds ?? 0) < minSeeds;
}

function swarmingAgain(record: UploadRecord): UploadRecord {
  return { ...record, state: 'swarming', roundBytes: 0, lonelySinceMs: undefined };
}
