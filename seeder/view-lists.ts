/** The lists of store paths of which views are made: when each is to be read again, and what came of it. */

import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { isNarswarmError } from '../nar/errors.ts';
import { type StoreHash, storeHashOf } from '../nar/store-path.ts';
import { versionOf } from '../store/file-version.ts';
import { readStorePaths } from '../upstream/store-paths.ts';
import type { ViewJob, ViewOutcome } from './publish-views.ts';

/** `--view NAME=FILE|URL`. */
export interface ViewConfig {
  readonly name: string;
  /** Path or URL of the list, plain or in xz: `store-paths.xz` of a channel. */
  readonly list: string;
}

export interface ViewStatus {
  name: string;
  state: 'waiting' | 'published' | 'incomplete' | 'failed';
  /** Store paths in the closure, as far as it is there. */
  paths: number;
  /** Why it is not published as it should be. */
  reason: string | null;
}

/** How often a list behind HTTP is read again: channels move a few times a day. */
export const listEveryMs = 3_600_000;
/** Ten times the paths of a channel. */
export const listMaxPaths = 1_000_000;

interface Known {
  readonly config: ViewConfig;
  status: ViewStatus;
  /** Of the file when it was read; of a URL the time. */
  version: string;
  readMs: number;
  /** Kept only while the view is incomplete. */
  job: ViewJob | undefined;
  records: number;
  revoked: number;
}

export class ViewLists {
  readonly #views: Known[];

  constructor(configs: readonly ViewConfig[]) {
    this.#views = configs.map((config) => ({
      config,
      status: { name: config.name, state: 'waiting', paths: 0, reason: null },
      ...{ version: '', readMs: Number.NEGATIVE_INFINITY, job: undefined, records: -1, revoked: -1 },
    }));
  }

  get names(): string[] {
    return this.#views.map(({ config }) => config.name);
  }

  status(): ViewStatus[] {
    return this.#views.map(({ status }) => status);
  }

  /** The views that have to be made, or made again: the list is another one, something came that was missing, or something was revoked. */
  async due(now: { ms: number; records: number; revoked: number }, signal: AbortSignal): Promise<ViewJob[]> {
    const jobs: ViewJob[] = [];
    for (const view of this.#views) {
      try {
        const version = await versionOfList(view.config.list, view.readMs, now.ms, view.version);
        const changed = version !== view.version || view.revoked !== now.revoked;
        if (changed) {
          view.job = await readList(view.config, signal);
          Object.assign(view, { version, readMs: now.ms });
        }
        const again = view.job !== undefined && view.records !== now.records;
        if ((changed || again) && view.job !== undefined) jobs.push(view.job);
        Object.assign(view, { records: now.records, revoked: now.revoked });
      } catch (error) {
        if (!isNarswarmError(error) || signal.aborted) throw error;
        view.status = { ...view.status, state: 'failed', reason: error.message };
      }
    }
    return jobs;
  }

  note(outcomes: readonly ViewOutcome[]): void {
    for (const { name, paths, missing, example, failed } of outcomes) {
      const view = this.#views.find(({ config }) => config.name === name);
      if (view === undefined) continue;
      if (failed !== undefined) {
        view.status = { name, paths, state: 'failed', reason: failed };
      } else if (missing > 0) {
        const reason = `${missing} store paths of its closure are not in the catalog, such as ${example}`;
        view.status = { name, paths, state: 'incomplete', reason };
      } else {
        view.status = { name, paths, state: 'published', reason: null };
        view.job = undefined;
      }
    }
  }
}

async function versionOfList(list: string, readMs: number, nowMs: number, before: string): Promise<string> {
  if (/^https?:/i.test(list)) return nowMs - readMs >= listEveryMs ? String(nowMs) : before;
  const version = await versionOf(list.startsWith('file:') ? fileURLToPath(list) : list);
  return version === undefined ? 'none' : `${version.sizeBytes} ${version.mtimeNs} ${version.inode}`;
}

async function readList({ name, list }: ViewConfig, signal: AbortSignal): Promise<ViewJob> {
  const hashes = new Set<StoreHash>();
  for await (const path of readStorePaths(list, { signal })) {
    if (hashes.size < listMaxPaths) hashes.add(storeHashOf(path));
  }
  const sorted = [...hashes].sort();
  return { name, storeHashes: sorted, digest: createHash('sha256').update(sorted.join('\n')).digest('hex') };
}
