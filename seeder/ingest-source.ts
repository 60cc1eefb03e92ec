/** What a source of narinfos is to the ingest, and what both kinds of source share. */

import { createHash } from 'node:crypto';
import type { Catalog } from '../catalog/catalog.ts';
import { type ErrorCode, NarswarmError } from '../nar/errors.ts';
import { type PublicKey, printPublicKey, publicKeyOf, type SecretKey } from '../nar/signature.ts';
import type { CatalogBatch } from './catalog-batch.ts';
import type { VerifyPool } from './verify-pool.ts';

/**
 * What became of a narinfo. `unchanged`: it was accepted before, and nothing has changed since. `later`: it changed while it was read, and is
 * read again by the next run.
 */
export type Outcome = 'accepted' | 'unchanged' | 'refused' | 'later';

export interface CacheSource {
  readonly url: string;
  /** The narinfos that there are, by what `take` wants. Only one run at a time. */
  items(signal: AbortSignal): AsyncIterable<string>;
  /** How many items there are, at no cost in memory; `undefined` when that cannot be known. Beside `items`. */
  count(signal: AbortSignal): Promise<number | undefined>;
  /** Reads one, and records what became of it. Throws what is no fault of that narinfo. Several at once. */
  take(item: string, signal: AbortSignal): Promise<Outcome>;
  /** After all items. */
  finish(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** What a source needs for its work. */
export interface SourceParts {
  readonly url: string;
  readonly catalog: Catalog;
  readonly pool: VerifyPool;
  readonly batch: CatalogBatch;
  readonly trustedKeys: readonly PublicKey[];
  readonly secretKey: SecretKey;
  /** Called with the store directory of the cache before the first item; throws when that is not ours. */
  readonly onStoreDir: (storeDir: string) => void;
  /** Called with the size of each NAR file that was verified, in bytes. */
  readonly onVerified: (sizeBytes: number) => void;
}

/** Reasons that are not in the narinfo or its NAR file: tried again by every run, whatever the fingerprint. */
const passing: ReadonlySet<ErrorCode> = new Set(['store-failed', 'upstream-failed', 'verify-crashed']);

/** The fingerprint of what has to be tried again: no scanner makes this one. */
const retryFingerprint = 'retry';

/**
 * Records why a narinfo is refused. Throws `error` on when it is no reason for that: an abort, or something that is wrong with
 * the program or the catalog.
 */
export async function recordRefusal(
  { catalog, batch }: Pick<SourceParts, 'catalog' | 'batch'>,
  key: { source: string; narInfoName: string; fingerprint: string },
  error: unknown,
): Promise<Outcome> {
  if (!(error instanceof NarswarmError) || error.code === 'aborted') throw error;
  // The file is being written; it will be another one next time.
  if (error.code === 'not-held') return 'later';
  const passes = passing.has(error.code);
  // A disk that fails for a moment must not cost what was verified before. Should the NAR file have changed, it is not served.
  if (passes && catalog.known(key.source, key.narInfoName)?.state === 'accepted') return 'later';
  const fingerprint = passes ? retryFingerprint : key.fingerprint;
  const { code, message } = error;
  await batch.run(() => catalog.refuse({ ...key, fingerprint, code, message }));
  return 'refused';
}

/**
 * A short name for what is asked of narinfos and how their torrentinfos are signed: in every fingerprint, so that a
 * change of keys or store directory has all narinfos looked at again.
 */
export function policyTag(parts: Pick<SourceParts, 'trustedKeys' | 'secretKey'>, storeDir: string): string {
  const keys = parts.trustedKeys.map(printPublicKey).sort();
  const all = [storeDir, printPublicKey(publicKeyOf(parts.secretKey)), ...keys];
  return createHash('sha256').update(all.join('\n')).digest('hex').slice(0, 16);
}
