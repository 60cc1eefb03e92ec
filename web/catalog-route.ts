/** `/catalog/head` and `/catalog/<file>`: a catalog's files over HTTP, for whoever follows it. The seeder's and a mirror's are alike. */

import { hash } from 'node:crypto';
import type { Router } from 'express';
import { sendFile, sourceOf } from './send.ts';

/** Segments and views are named after their bytes. */
const foreverCacheControl = 'public, max-age=31536000, immutable, no-transform';
/** Asked for again each time, which costs an answer without a body. */
const headCacheControl = 'no-cache, no-transform';

/** The files, from wherever they lie. */
export interface ServedCatalogFiles {
  /** The text of the head; `undefined` before the first. */
  head(): Promise<string | undefined>;
  /** `undefined` for a name of nothing. */
  openName(name: string): Promise<ServedCatalogFile | undefined>;
}

export interface ServedCatalogFile {
  readonly sizeBytes: number;
  /** Exactly so many bytes. */
  read(position: number, lengthBytes: number): Promise<Buffer>;
  close(): Promise<void>;
}

export function addCatalogRoutes(router: Router, files: ServedCatalogFiles): void {
  router.get('/catalog/head', async (request, response, next) => {
    const text = await files.head();
    if (text === undefined) {
      next();
      return;
    }
    const bytes = Buffer.from(text, 'latin1');
    await sendFile(request, response, {
      ...sourceOf(bytes, { etag: hash('sha256', bytes), cacheControl: headCacheControl }),
      contentType: 'text/x-narswarm-catalog',
    });
  });

  router.get('/catalog/:name', async (request, response, next) => {
    const { name } = request.params;
    const file = await files.openName(name);
    if (file === undefined) {
      next();
      return;
    }
    try {
      await sendFile(request, response, {
        sizeBytes: file.sizeBytes,
        read: (position, lengthBytes) => file.read(position, lengthBytes),
        etag: name,
        contentType: 'application/zstd',
        cacheControl: foreverCacheControl,
      });
    } finally {
      await file.close();
    }
  });
}
