/**
 * Makes views: the closure of a list of store paths, as one file with everything that answers its narinfos. Runs on the thread of
 * publish-worker.ts.
 */

import { setImmediate } from 'node:timers/promises';
import type { CatalogFiles } from '../catalog/files.ts';
import { revocationsView } from '../catalog/head.ts';
import type { CatalogLog } from '../catalog/log.ts';
import type { LogFile } from '../catalog/log-reader.ts';
import { frameRecord } from '../catalog/record.ts';
import { bytesOf, textOf, torrentInfoOf } from '../catalog/rows.ts';
import { writeSegment } from '../catalog/segment.ts';
import { printTorrentInfo } from '../catalog/torrentinfo.ts';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { sha256FromDigest } from '../nar/hash.ts';
import { parseNarInfo } from '../nar/narinfo.ts';
import { nix32Decode } from '../nar/nix32.ts';
import { type StoreHash, storeHashOf } from '../nar/store-path.ts';

/** A list to make a view of. */
export interface ViewJob {
  readonly name: string;
  readonly storeHashes: readonly StoreHash[];
  /** Of the list. */
  readonly digest: string;
}

export interface ViewOutcome {
  readonly name: string;
  /** Of the closure, as far as it is there. */
  readonly paths: number;
  /** Not in the catalog: then no view is published, since whoever holds it takes a missing narinfo for one that does not exist. */
  readonly missing: number;
  /** One of those. */
  readonly example?: string;
  readonly failed?: string;
}

export interface ViewOptions {
  readonly log: CatalogLog;
  readonly files: CatalogFiles;
  readonly nowMs: number;
  /** All that are configured: others go. */
  readonly viewNames: readonly string[];
  readonly viewJobs: readonly ViewJob[];
  readonly durably: <T>(action: () => T) => T;
}

/** Ten times the closure of a channel. */
const closureMaxPaths = 1_000_000;
/** Lookups in one turn. */
const turnPaths = 200;

/** `hashed`: makes the torrent of a file. */
export async function publishViews(
  options: ViewOptions,
  hashed: (file: { sha256: LogFile['sha256']; sizeBytes: number }) => Promise<LogFile>,
): Promise<ViewOutcome[]> {
  const { log, nowMs, viewNames, viewJobs, durably } = options;
  for (const { name } of log.views()) {
    if (name !== revocationsView && !viewNames.includes(name)) durably(() => log.dropView(name, nowMs));
  }
  const outcomes: ViewOutcome[] = [];
  for (const job of viewJobs) {
    try {
      outcomes.push(await publishView(options, job, hashed));
    } catch (error) {
      if (!isNarswarmError(error)) throw error;
      outcomes.push({ name: job.name, paths: 0, missing: 0, failed: error.message });
    }
  }
  return outcomes;
}

async function publishView(
  { log, files, nowMs, durably }: ViewOptions,
  { name, storeHashes, digest }: ViewJob,
  hashed: (file: { sha256: LogFile['sha256']; sizeBytes: number }) => Promise<LogFile>,
): Promise<ViewOutcome> {
  const { paths, missing } = await closureOf(log, storeHashes);
  const madeOf = `${digest} ${log.lastRevocation}`;
  const [example] = missing;
  if (example !== undefined) {
    // One that was made before a revocation may hold what was revoked; one of an earlier list is as good as it was.
    const before = log.views().find((view) => view.name === name);
    const stale = before !== undefined && before.madeOf.split(' ')[1] !== String(log.lastRevocation);
    if (stale) durably(() => log.dropView(name, nowMs));
    return { name, paths: paths.length, missing: missing.size, example };
  }
  const file = await hashed(await files.put(writeSegment(recordsOf(log, paths))));
  durably(() => log.putView({ name, paths: paths.length, madeOf }, file, nowMs));
  return { name, paths: paths.length, missing: 0 };
}

/** What the paths refer to, and what that refers to, as far as it is there; in the order of their hashes. */
async function closureOf(
  log: CatalogLog,
  storeHashes: readonly StoreHash[],
): Promise<{ paths: StoreHash[]; missing: Set<string> }> {
  const seen = new Set<StoreHash>(storeHashes);
  const missing = new Set<string>();
  const paths: StoreHash[] = [];
  const queue = [...storeHashes];
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    const row = log.narInfoByStoreHash(nix32Decode(next));
    if (row === undefined) {
      missing.add(next);
      continue;
    }
    paths.push(next);
    for (const reference of parseNarInfo(textOf(row, 'text')).references) {
      const storeHash = storeHashOf(reference);
      if (seen.has(storeHash) || seen.size >= closureMaxPaths) continue;
      seen.add(storeHash);
      queue.push(storeHash);
    }
    if (paths.length % turnPaths === 0) await setImmediate();
  }
  return { paths: paths.sort(), missing };
}

/** Each NAR file's torrentinfo before its first narinfo. */
async function* recordsOf(log: CatalogLog, paths: readonly StoreHash[]): AsyncGenerator<Buffer> {
  const given = new Set<string>();
  for (const [index, path] of paths.entries()) {
    if (index % turnPaths === 0) await setImmediate();
    const row = log.narInfoByStoreHash(nix32Decode(path));
    const narFile = row && log.narFileByHash(bytesOf(row, 'file_hash'));
    if (row === undefined || narFile === undefined) {
      throw new NarswarmError('not-held', `${path} went away while its view was made`);
    }
    const fileHash = sha256FromDigest(bytesOf(row, 'file_hash'));
    if (!given.has(fileHash)) {
      given.add(fileHash);
      yield frameRecord({ kind: 'torrentinfo', text: printTorrentInfo(torrentInfoOf(narFile)) });
    }
    yield frameRecord({ kind: 'narinfo', fileHash, text: textOf(row, 'text') });
  }
}
