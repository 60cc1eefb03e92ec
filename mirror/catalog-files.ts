/** A followed catalog's files, for whoever follows it from here. */

import type { ServedCatalogFiles } from '../web/catalog-route.ts';
import type { MirrorCatalog } from './catalogs.ts';

/** The head is the one that was accepted: the files that it names are there. */
export function servedFilesOf({ followed, files }: MirrorCatalog): ServedCatalogFiles {
  return {
    head: async () => followed.head()?.text,
    openName: (name) => files.openName(name),
  };
}
