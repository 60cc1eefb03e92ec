/** What is held, as bits: by the numbers of a plan, and by the ordinals of each catalog for those who are told. */

import { setImmediate } from 'node:timers/promises';
import { Bitmap } from '../nar/bitmap.ts';
import type { Sha256 } from '../nar/hash.ts';
import type { MirrorCatalog } from './catalogs.ts';
import type { CatalogLibrary } from './library.ts';
import type { HeldFile, MirrorState } from './state.ts';

export class HeldIndex {
  /** By item of the library. */
  readonly items: Bitmap;
  /** Held, and in no catalog or revoked in all that have them. */
  readonly strangers = new Map<Sha256, number>();
  readonly #library: CatalogLibrary;
  readonly #ordinals: ReadonlyMap<MirrorCatalog, Bitmap>;

  /** Empty. What changes from now on is to be told by `set`, also while `fill` runs. */
  constructor(catalogs: readonly MirrorCatalog[], library: CatalogLibrary) {
    this.#library = library;
    this.items = new Bitmap(library.items);
    this.#ordinals = new Map(
      catalogs.map((catalog) => [catalog, new Bitmap(catalog.followed.ordinals)] as const),
    );
  }

  /** Puts in what is held now, in turns with others. */
  async fill(state: MirrorState, signal: AbortSignal): Promise<void> {
    for (let after: Sha256 | undefined; ; ) {
      const page: HeldFile[] = state.page(after);
      for (const { fileHash, sizeBytes } of page) this.set(fileHash, sizeBytes);
      const last = page.at(-1);
      if (last === undefined) return;
      after = last.fileHash;
      await setImmediate();
      signal.throwIfAborted();
    }
  }

  /** By ordinal. */
  of(catalog: MirrorCatalog): Bitmap {
    return this.#ordinals.get(catalog) ?? new Bitmap(0);
  }

  /** It is held, with so many bytes, or (`undefined`) not any more. */
  set(fileHash: Sha256, sizeBytes: number | undefined): void {
    const item = this.#library.itemOf(fileHash);
    const isHeld = sizeBytes !== undefined;
    if (item !== undefined) put(this.items, item, isHeld);
    else if (isHeld) this.strangers.set(fileHash, sizeBytes);
    if (!isHeld) this.strangers.delete(fileHash);
    for (const [catalog, bitmap] of this.#ordinals) {
      const ordinal = catalog.followed.ordinal(fileHash);
      if (ordinal !== undefined && ordinal < bitmap.length) {
        put(bitmap, ordinal, isHeld && catalog.followed.revoked(fileHash) === undefined);
      }
    }
  }
}

function put(bitmap: Bitmap, number: number, isIn: boolean): void {
  if (isIn) bitmap.add(number);
  else bitmap.delete(number);
}
