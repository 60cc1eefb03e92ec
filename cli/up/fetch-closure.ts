/**
 * Fetches a closure through a substituter the way Nix does: narinfo by narinfo along the References, several NARs at
 * once, each checked against its FileHash. Nothing is kept: this is for seeing and measuring, not for installing.
 */

import { createHash } from 'node:crypto';
import { NarswarmError } from '../../nar/errors.ts';
import { sha256FromDigest } from '../../nar/hash.ts';
import { type NarInfo, parseNarInfo } from '../../nar/narinfo.ts';
import { type StoreHash, storeHashOf } from '../../nar/store-path.ts';

/** Nix 2.16 and later substitute this many paths at once. */
const parallelFetches = 16;

export interface ClosureProgress {
  /** Paths found by following References so far. */
  found: number;
  fetched: number;
  bytes: number;
}

export interface FetchClosureOptions {
  substituter: string;
  roots: StoreHash[];
  signal: AbortSignal;
  onProgress(progress: ClosureProgress): void;
}

/** Rejects with `upstream-failed` at the first path that the substituter does not give, or gives wrongly. */
export async function fetchClosure(options: FetchClosureOptions): Promise<ClosureProgress> {
  const { substituter, roots, signal, onProgress } = options;
  const progress: ClosureProgress = { found: 0, fetched: 0, bytes: 0 };
  const seen = new Set<StoreHash>();
  const queue: StoreHash[] = [];
  const enqueue = (hash: StoreHash): void => {
    if (seen.has(hash)) return;
    seen.add(hash);
    queue.push(hash);
    progress.found++;
  };
  roots.forEach(enqueue);

  const running = new Set<Promise<void>>();
  while (queue.length > 0 || running.size > 0) {
    signal.throwIfAborted();
    const hash = running.size < parallelFetches ? queue.shift() : undefined;
    if (hash === undefined) {
      await Promise.race(running);
      continue;
    }
    const job = fetchPath(hash).finally(() => running.delete(job));
    running.add(job);
  }
  return progress;

  async function fetchPath(hash: StoreHash): Promise<void> {
    const narInfo = await fetchNarInfo(substituter, hash, signal);
    for (const reference of narInfo.references) enqueue(storeHashOf(reference));
    await fetchNar(substituter, narInfo, signal, (bytes) => {
      progress.bytes += bytes;
      onProgress(progress);
    });
    progress.fetched++;
    onProgress(progress);
  }
}

async function fetchNarInfo(substituter: string, hash: StoreHash, signal: AbortSignal): Promise<NarInfo> {
  const answer = await fetch(`${substituter}/${hash}.narinfo`, { signal });
  if (!answer.ok) throw new NarswarmError('upstream-failed', `${hash}.narinfo: status ${answer.status}`);
  return parseNarInfo(await answer.text());
}

async function fetchNar(
  substituter: string,
  narInfo: NarInfo,
  signal: AbortSignal,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const answer = await fetch(new URL(narInfo.url, `${substituter}/`), {
    signal,
    headers: { 'accept-encoding': 'identity' },
  });
  if (!answer.ok || answer.body === null) {
    throw new NarswarmError('upstream-failed', `${narInfo.url}: status ${answer.status}`);
  }
  const hash = createHash('sha256');
  for await (const chunk of answer.body) {
    hash.update(chunk);
    onBytes(chunk.length);
  }
  const fileHash = sha256FromDigest(hash.digest());
  if (narInfo.fileHash !== undefined && fileHash !== narInfo.fileHash) {
    throw new NarswarmError('file-hash-mismatch', `${narInfo.url} has FileHash ${fileHash}`);
  }
}
