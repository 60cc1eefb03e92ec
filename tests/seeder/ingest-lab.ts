/** A seeder's ingest on a cache in a temporary directory. */

import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { type Catalog, openCatalog } from '../../catalog/catalog.ts';
import { secretKeyFromSeed } from '../../nar/signature.ts';
import { Ingest, type IngestOptions } from '../../seeder/ingest.ts';
import { openDirectoryStore } from '../../store/directory-store.ts';
import { CacheBuilder } from '../helpers/cache-builder.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

export const catalogKey = secretKeyFromSeed('catalog.test-1', Buffer.alloc(32, 9));

export interface Lab {
  dir: string;
  cache: CacheBuilder;
  catalog: Catalog;
  ingest: Ingest;
  /** Another ingest on the same catalog, as after a restart. */
  open(options?: Partial<IngestOptions>): Promise<Ingest>;
  /** Codes of all refusals, by narinfo name. */
  refusals(): Record<string, string>;
}

export async function openLab(t: Test, options: Partial<IngestOptions> = {}): Promise<Lab> {
  provesNothingStaysOpen(t);
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-ingest-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await mkdir(join(dir, 'cache'));
  const cache = await new CacheBuilder(join(dir, 'cache')).open();
  const catalog = openCatalog(join(dir, 'catalog.sqlite'));
  t.teardown(() => catalog.close());
  const open = async (more: Partial<IngestOptions> = {}): Promise<Ingest> => {
    const store = await openDirectoryStore(join(dir, 'store'));
    const ingest = new Ingest({
      dataDir: dir,
      sources: [cache.url],
      trustedKeys: [cache.publicKey],
      secretKey: catalogKey,
      catalog,
      store,
      workers: 1,
      ...options,
      ...more,
    });
    t.teardown(async () => {
      await ingest.close();
      await store.close();
    });
    return ingest;
  };
  return {
    dir,
    cache,
    catalog,
    open,
    ingest: await open(),
    refusals: () =>
      Object.fromEntries(catalog.refusals(1000).map(({ narInfoName, code }) => [narInfoName, code])),
  };
}
