/** Takes the records of one file into a followed catalog, all of them or none. Runs in follow-worker.ts. */

import { createReadStream } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { NarswarmError } from '../nar/errors.ts';
import { type Sha256, sha256ToDigest } from '../nar/hash.ts';
import { Chain, firstChain } from './chain.ts';
import { clearRecords, FollowedWriter, readPosition } from './followed-writer.ts';
import { readSegment, segmentLimits, viewLimits } from './segment.ts';

/** A segment on the disk, whose bytes are those that the head names. */
export interface SegmentTask {
  readonly kind: 'segment';
  readonly path: string;
  /** Records of the catalog before it, and the chain after those. */
  readonly first: { readonly records: number; readonly chain: Sha256 };
  /** The same at its end. */
  readonly last: { readonly records: number; readonly chain: Sha256 };
}

/** A view on the disk, which takes the place of all that was there. */
export interface ViewTask {
  readonly kind: 'view';
  readonly path: string;
  readonly sha256: Sha256;
}

export type ApplyTask = SegmentTask | ViewTask;

/**
 * In one transaction. Throws catalog-fork when the records that are there are not those before the new ones, and what
 * reading a segment and its records throws.
 */
export async function applyFile(db: DatabaseSync, nixStoreDir: string, task: ApplyTask): Promise<void> {
  db.exec('BEGIN IMMEDIATE');
  try {
    if (task.kind === 'segment') await takeSegment(db, nixStoreDir, task);
    else await takeView(db, nixStoreDir, task);
    db.exec('COMMIT');
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK');
    throw error;
  }
}

async function takeSegment(db: DatabaseSync, nixStoreDir: string, task: SegmentTask): Promise<void> {
  const { path, first, last } = task;
  const here = readPosition(db, nixStoreDir);
  if (here.records < first.records)
    throw new NarswarmError('catalog-gap', 'a segment begins after the next record');
  const chain = new Chain(sha256ToDigest(first.chain));
  const checkPast = (records: number): void => {
    if (records === here.records && !chain.isAt(here.chain)) {
      throw new NarswarmError(
        'catalog-fork',
        `the first ${records} records are others than were seen before`,
      );
    }
  };
  checkPast(first.records);
  const writer = new FollowedWriter(db, nixStoreDir, here);
  let records = first.records;
  for await (const group of readSegment(createReadStream(path), segmentLimits)) {
    for (const record of group) {
      if (records === last.records) throw wrongCount(first.records, last.records, 'more');
      chain.add(record.framed);
      records++;
      if (records > here.records) writer.take(record);
      else checkPast(records);
    }
  }
  if (records !== last.records) throw wrongCount(first.records, last.records, 'fewer');
  if (!chain.isAt(sha256ToDigest(last.chain))) {
    throw new NarswarmError(
      'segment-corrupt',
      'the chain over the records of a segment is not the one that the head names',
    );
  }
  writer.putPosition(chain);
}

async function takeView(db: DatabaseSync, nixStoreDir: string, { path, sha256 }: ViewTask): Promise<void> {
  clearRecords(db);
  const chain = new Chain(sha256ToDigest(firstChain(nixStoreDir)));
  const writer = new FollowedWriter(db, nixStoreDir, readPosition(db, nixStoreDir));
  for await (const group of readSegment(createReadStream(path), viewLimits)) {
    for (const record of group) {
      chain.add(record.framed);
      writer.take(record);
    }
  }
  writer.putPosition(chain);
  db.prepare(
    "INSERT INTO state VALUES ('view', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
  ).run(sha256);
}

function wrongCount(first: number, last: number, what: string): NarswarmError {
  return new NarswarmError('segment-corrupt', `a segment has ${what} than ${last - first} records`);
}
