/**
 * The NAR files of all catalogs as numbers, for planning: those of the first catalog by their ordinals, behind them those of the next. A NAR
 * file that several catalogs have counts once, in the first that has it and has not revoked it.
 */

import { setImmediate } from 'node:timers/promises';
import { Bitmap } from '../nar/bitmap.ts';
import type { Sha256 } from '../nar/hash.ts';
import type { MirrorCatalog } from './catalogs.ts';
import type { Library } from './plan.ts';

/** Rows read between two turns of others. */
const pageRows = 1_000;

export class CatalogLibrary implements Library {
  readonly items: number;
  readonly #catalogs: readonly { catalog: MirrorCatalog; base: number; end: number }[];
  readonly #sizes: Float64Array;
  readonly #forbidden: Bitmap;

  private constructor(catalogs: readonly { catalog: MirrorCatalog; base: number; end: number }[]) {
    this.#catalogs = catalogs;
    this.items = catalogs.at(-1)?.end ?? 0;
    this.#sizes = new Float64Array(this.items);
    // Ordinals without an entry are none: they are allowed below as they are found.
    this.#forbidden = new Bitmap(this.items);
  }

  /** Takes half a second for 100,000, and lets others have their turn. */
  static async build(catalogs: readonly MirrorCatalog[], signal: AbortSignal): Promise<CatalogLibrary> {
    let base = 0;
    const placed = catalogs.map((catalog) => {
      const end = base + catalog.followed.ordinals;
      const place = { catalog, base, end };
      base = end;
      return place;
    });
    const library = new CatalogLibrary(placed);
    for (const each of placed) await library.#read(each, signal);
    return library;
  }

  sizeOf(item: number): number {
    return this.#sizes[item] ?? 0;
  }

  /** False for what was revoked, and for what counts elsewhere. */
  mayKeep(item: number): boolean {
    return item < this.items && !this.#forbidden.has(item);
  }

  /** Of all that may be kept. */
  totalBytes(): number {
    let bytes = 0;
    for (let item = 0; item < this.items; item++)
      if (!this.#forbidden.has(item)) bytes += this.#sizes[item] ?? 0;
    return bytes;
  }

  referencesOf(item: number): readonly number[] | undefined {
    const fileHash = this.fileHashOf(item);
    if (fileHash === undefined || this.#forbidden.has(item)) return undefined;
    const items = new Set<number>();
    for (const { catalog } of this.#catalogs) {
      for (const storeHash of catalog.referencesOf(fileHash)) {
        const found = this.#catalogs
          .map((each) => each.catalog.followed.narInfo(storeHash)?.fileHash)
          .filter((hash) => hash !== undefined);
        // What no catalog has cannot be kept by anybody who follows them, and comes from elsewhere.
        if (found.length === 0) continue;
        const reference = found.map((hash) => this.itemOf(hash)).find((number) => number !== undefined);
        // Known, and revoked: what needs it is of no use.
        if (reference === undefined) return undefined;
        if (reference !== item) items.add(reference);
      }
    }
    return [...items];
  }

  fileHashOf(item: number): Sha256 | undefined {
    const place = this.placeOf(item);
    return place?.catalog.followed.byOrdinal(place.ordinal);
  }

  /** Which catalog it counts for, and its ordinal there. */
  placeOf(item: number): { catalog: MirrorCatalog; ordinal: number } | undefined {
    const found = this.#catalogs.find(({ base, end }) => item >= base && item < end);
    return found && { catalog: found.catalog, ordinal: item - found.base };
  }

  /** The item of a NAR file; `undefined` for what no catalog has, or all that have it revoked. */
  itemOf(fileHash: Sha256): number | undefined {
    for (const { catalog, base, end } of this.#catalogs) {
      const ordinal = catalog.followed.ordinal(fileHash);
      if (ordinal === undefined || base + ordinal >= end) continue;
      if (catalog.followed.revoked(fileHash) === undefined) return base + ordinal;
    }
    return undefined;
  }

  async #read(
    place: { catalog: MirrorCatalog; base: number; end: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { followed } = place.catalog;
    const several = this.#catalogs.length > 1;
    const found = new Bitmap(place.end - place.base);
    for (let after = -1; ; ) {
      const entries = followed.entries(after, pageRows);
      for (const { ordinal, fileHash, fileSize } of entries) {
        const item = place.base + ordinal;
        if (item >= place.end) continue;
        found.add(ordinal);
        this.#sizes[item] = fileSize;
        if (several && this.itemOf(fileHash) !== item) this.#forbidden.add(item);
      }
      const last = entries.at(-1);
      if (last === undefined || place.base + last.ordinal >= place.end) break;
      after = last.ordinal;
      await setImmediate();
      signal.throwIfAborted();
    }
    for (let ordinal = 0; ordinal < found.length; ordinal++) {
      if (!found.has(ordinal)) this.#forbidden.add(place.base + ordinal);
    }
    for (let after: Sha256 | undefined; ; ) {
      const revocations = followed.revocations(after, pageRows);
      for (const { fileHash } of revocations) {
        const ordinal = followed.ordinal(fileHash);
        if (ordinal !== undefined && place.base + ordinal < place.end)
          this.#forbidden.add(place.base + ordinal);
      }
      const last = revocations.at(-1);
      if (last === undefined) break;
      after = last.fileHash;
    }
  }
}
