/**
 * One publication of the log: what waits becomes segments, small segments become large ones, lists of store paths become
 * views, and a new head says so. Runs on the thread of publish-worker.ts.
 *
 * Every file is on the disk before the database names it, and the database before the head does: a crash in between
 * leaves a file that is written again.
 */

import { createReadStream } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Chain, firstChain } from '../catalog/chain.ts';
import type { CatalogFiles } from '../catalog/files.ts';
import { segmentsToFuse } from '../catalog/fusion.ts';
import { type CatalogHead, type HeadValues, headText, parseHead, signHead } from '../catalog/head.ts';
import type { CatalogLog } from '../catalog/log.ts';
import { LogDraft } from '../catalog/log-draft.ts';
import type { LogFile, LogSegment } from '../catalog/log-reader.ts';
import { readSegment, segmentLimits, segmentName, writeSegment } from '../catalog/segment.ts';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { sha256FromDigest, sha256ToDigest } from '../nar/hash.ts';
import { printPublicKey, type SecretKey } from '../nar/signature.ts';
import { TorrentHasher } from '../swarm/torrent/torrent.ts';
import { publishRevocations } from './publish-revocations.ts';
import { publishViews, type ViewJob, type ViewOutcome } from './publish-views.ts';

export interface PublishOptions {
  readonly log: CatalogLog;
  readonly files: CatalogFiles;
  readonly nixStoreDir: string;
  /** All of them sign the head, and may sign the next one. */
  readonly secretKeys: readonly SecretKey[];
  /** How long a head holds; it is renewed after a third of that. */
  readonly lifetimeMs: number;
  readonly nowMs: number;
  /** Views that are configured, and those of them that are to be made now. */
  readonly viewNames?: readonly string[];
  readonly viewJobs?: readonly ViewJob[];
  /** Whether somebody else writes to the database meanwhile, and is to be left most of the time. */
  readonly isGentle: () => boolean;
  /** Before a transaction whose loss in a power cut would have the head name what the database forgot. */
  readonly durably: <T>(action: () => T) => T;
}

export interface Published {
  /** Missing when nothing was to be said. */
  sequence?: number;
  newRecords: number;
  fusedSegments: number;
  /** Rows that no reader could take. */
  unreadable: number;
  /** Why small segments could not be fused: they stay as they are. */
  fusionFault?: string;
  views: ViewOutcome[];
}

/** How long a file stays after the last head that named it: whoever took that head is long done then. */
export const retiredKeepMs = 24 * 3600 * 1000;
/**
 * Pause after a transaction, in times that it took. Whoever finds the database locked sleeps, in steps that grow, and stands still meanwhile: what
 * many rows change must leave it free most of the time.
 */
const pauseTimes = 4;
const pauseMinMs = 4;
const pauseMaxMs = 25;
/** What is said of the records of a segment stays in memory until it is written: of 65,536 that would be 100 MiB. Small ones are fused. */
const draftLimits = { ...segmentLimits, records: 8_192 };
const sequenceKey = 'log/sequence';
const headKey = 'log/head';

/** Throws catalog-rollback when the directory has a later head than the database: one of them is from a backup. */
export async function publish(options: PublishOptions): Promise<Published> {
  const { log } = options;
  await checkHead(options);
  await inTurns(log.tidy(), options);
  const result: Published = { newRecords: 0, fusedSegments: 0, unreadable: 0, views: [] };
  while (log.hasPending()) {
    const { records, unreadable } = await addSegment(options);
    result.newRecords += records;
    result.unreadable += unreadable;
  }
  try {
    result.fusedSegments = await fuse(options);
  } catch (error) {
    if (!isNarswarmError(error)) throw error;
    result.fusionFault = error.message;
  }
  const { viewNames = [], viewJobs = [], files } = options;
  const torrentOf = (file: Awaited<ReturnType<CatalogFiles['put']>>) => hashed(files, file);
  await publishRevocations(options, torrentOf);
  result.views = await publishViews({ ...options, viewNames, viewJobs }, torrentOf);
  const sequence = await putHead(options);
  if (sequence !== undefined) result.sequence = sequence;
  await removeRetired(options);
  return result;
}

async function checkHead({ log, files }: PublishOptions): Promise<void> {
  const text = await files.head();
  const shown = text === undefined ? undefined : parseHead(text);
  if (shown === undefined) return;
  if (shown.sequence <= lastSequence(log) && shown.records <= log.records) return;
  throw new NarswarmError(
    'catalog-rollback',
    `head ${shown.sequence} with ${shown.records} records was published, but the database knows only head ${lastSequence(log)} with ${log.records}: it is an old copy. Whoever follows would refuse what it says next; put the later one back, or begin anew under another key`,
  );
}

async function addSegment(options: PublishOptions) {
  const { log, files, nixStoreDir, durably } = options;
  const draft = new LogDraft(log, nixStoreDir, draftLimits);
  const before = draft.records;
  const first = draft.framed();
  const { value, done } = first.next();
  if (done === true) {
    // Rows that went away, or say nothing new: they leave the queue with the next segment.
    log.skip(draft.queueSeq);
    await inTurns(log.tidy(), options);
    return { records: 0, unreadable: draft.unreadable };
  }
  const file = await hashed(files, await files.put(writeSegment(after(value, first))));
  await inTurns(log.putOrdinals(draft.newOrdinals), options);
  const { records, chain, ordinals, queueSeq, plainBytes } = draft;
  durably(() => log.addSegment({ ...file, records, chain, ordinals, plainBytes }, file, queueSeq));
  await inTurns(log.putDigests(draft.changed, draft.narInfoDigests), options);
  await inTurns(log.tidy(), options);
  return { records: records - before, unreadable: draft.unreadable };
}

async function fuse(options: PublishOptions): Promise<number> {
  const { log, files, nixStoreDir, durably, nowMs } = options;
  const segments = log.segments();
  const count = segmentsToFuse(segments);
  if (count === 0) return 0;
  const replaced = segments.slice(-count);
  const before = segments.at(-count - 1);
  const source = new FusedRecords(files, replaced, before, nixStoreDir);
  const fused: { segment: LogSegment; file: LogFile }[] = [];
  while (!source.done) {
    const file = await hashed(files, await files.put(writeSegment(source.framed())));
    fused.push({ segment: { ...file, ...source.position() }, file });
  }
  durably(() => log.replaceSegments(replaced, fused, nowMs));
  return count;
}

/** The records of several segments again, checked against the chain, in parts of at most one segment's size. */
class FusedRecords {
  readonly #last: LogSegment;
  readonly #chain: Chain;
  readonly #source: AsyncGenerator<Buffer>;
  #records: number;
  #plainBytes = 0;
  #held: Buffer | undefined;
  done = false;

  constructor(
    files: CatalogFiles,
    replaced: readonly LogSegment[],
    before: LogSegment | undefined,
    nixStoreDir: string,
  ) {
    const last = replaced.at(-1);
    if (last === undefined) throw new Error('nothing to fuse');
    this.#last = last;
    this.#records = before?.records ?? 0;
    this.#chain = new Chain(sha256ToDigest(before?.chain ?? firstChain(nixStoreDir)));
    this.#source = readAll(files, replaced);
  }

  async *framed(): AsyncGenerator<Buffer> {
    const most = this.#records + segmentLimits.records;
    this.#plainBytes = 0;
    for (;;) {
      const record = this.#held ?? (await this.#source.next()).value;
      this.#held = undefined;
      if (record === undefined) break;
      if (
        this.#records === most ||
        (this.#plainBytes > 0 && this.#plainBytes + record.length > segmentLimits.bytes)
      ) {
        this.#held = record;
        return;
      }
      this.#chain.add(record);
      this.#records++;
      this.#plainBytes += record.length;
      yield record;
    }
    this.done = true;
    if (this.#records !== this.#last.records || !this.#chain.isAt(sha256ToDigest(this.#last.chain))) {
      throw new NarswarmError(
        'catalog-corrupt',
        'the segments on the disk are not those that were published',
      );
    }
  }

  /** After a part. Only the last one's is looked at again, for where to go on. */
  position() {
    const { ordinals } = this.#last;
    const chain = sha256FromDigest(this.#chain.digest());
    return { records: this.#records, chain, ordinals, plainBytes: this.#plainBytes };
  }
}

async function* readAll(files: CatalogFiles, segments: readonly LogSegment[]): AsyncGenerator<Buffer> {
  for (const { sha256 } of segments) {
    for await (const group of readSegment(createReadStream(files.path(sha256)))) {
      for (const { framed } of group) yield framed;
    }
  }
}

/** Gives the number of the new head; `undefined` when the last one still says it all. */
async function putHead(options: PublishOptions): Promise<number | undefined> {
  const { log, files, nixStoreDir, secretKeys, lifetimeMs, nowMs, durably } = options;
  const time = Math.floor(nowMs / 1000);
  const sequence = lastSequence(log) + 1;
  const values: HeadValues = {
    nixStoreDir,
    sequence,
    time,
    expires: time + Math.floor(lifetimeMs / 1000),
    segments: log.segments(),
    views: log.views(),
    keys: secretKeys.map(({ publicKey }) => printPublicKey(publicKey)),
  };
  const text = log.getMeta(headKey);
  const last = text === undefined ? undefined : parseHead(text);
  if (last !== undefined && (await files.head()) === text && saysTheSame(last, values)) {
    const age = nowMs - last.time * 1000;
    if (age >= 0 && age < lifetimeMs / 3 && last.expires - last.time === values.expires - time)
      return undefined;
  }
  const next = signHead(values, secretKeys);
  // First in the database: a number that was shown must never be given to another head.
  durably(() => {
    log.setMeta(sequenceKey, String(sequence));
    log.setMeta(headKey, next);
  });
  await files.putHead(next);
  return sequence;
}

function saysTheSame(last: CatalogHead, values: HeadValues): boolean {
  const { sequence, time, expires } = last;
  return (
    headText({ ...values, sequence, time, expires }) === last.signedText &&
    last.sigs.length === values.keys.length
  );
}

function lastSequence(log: CatalogLog): number {
  return Number(log.getMeta(sequenceKey) ?? 0);
}

async function removeRetired({ log, files, nowMs }: PublishOptions): Promise<void> {
  for (const sha256 of log.retiredBefore(nowMs - retiredKeepMs)) {
    log.dropFile(sha256);
    await files.remove(sha256);
  }
}

/** The file as a torrent. */
async function hashed(files: CatalogFiles, file: Awaited<ReturnType<CatalogFiles['put']>>): Promise<LogFile> {
  const hasher = new TorrentHasher(file.sizeBytes);
  for await (const chunk of createReadStream(files.path(file.sha256), { highWaterMark: 1 << 20 })) {
    hasher.write(chunk as Buffer);
  }
  const { infoHash, pieces } = hasher.finish(segmentName(file.sha256));
  return { ...file, infoHash, pieces };
}

function* after<T>(first: T, rest: Generator<T>): Generator<T> {
  yield first;
  yield* rest;
}

async function inTurns(steps: Generator<void>, { isGentle }: PublishOptions): Promise<void> {
  let beganMs = performance.now();
  for (const _ of steps) {
    if (isGentle()) {
      const tookMs = performance.now() - beganMs;
      await sleep(Math.min(pauseMaxMs, Math.max(pauseMinMs, pauseTimes * tookMs)));
    }
    beganMs = performance.now();
  }
}
