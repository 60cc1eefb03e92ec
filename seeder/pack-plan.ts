/** Chooses what the next pack holds, and puts it in order. */

import { hash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import type { Catalog } from '../catalog/catalog.ts';
import { type PackContent, type PackedNarInfo, packCacheInfo, packFilesMax } from '../catalog/pack.ts';
import { packNarInfo } from '../catalog/pack-narinfo.ts';
import { packOrder } from '../catalog/pack-order.ts';
import type { UnpackedNarFile } from '../catalog/packs.ts';
import { isNarswarmError } from '../nar/errors.ts';
import { sha256FromDigest } from '../nar/hash.ts';
import { parseNarInfo } from '../nar/narinfo.ts';
import { type StoreHash, storeHashOf } from '../nar/store-path.ts';
import type { CatalogBatch } from './catalog-batch.ts';

/** NAR files that are looked up without letting others have their turn: 4 ms. */
const turnNarFiles = 32;
/** Narinfos that are hashed without letting others have their turn: 4 ms. */
const turnNarInfos = 512;
/** Store paths of one NAR file that a pack names: more would be thousands of empty directories. All are in the catalog. */
const narInfosPerNarFile = 256;
/** Narinfos of a pack are held in memory while it is closed; 2 % of 256 MiB is usual. */
const metaMaxBytes = 64 * 1024 * 1024;

export interface PackPlan {
  readonly content: PackContent;
  /** nix-cache-info and narinfos, as they lie in the pack. */
  readonly meta: Buffer;
  /** In the order of the pack. */
  readonly narFiles: readonly UnpackedNarFile[];
  /** Nothing more goes into it, by size or by number. */
  readonly full: boolean;
}

export interface PackPlanOptions {
  catalog: Catalog;
  batch: CatalogBatch;
  nixStoreDir: string;
  /** Bytes from which on it is full. */
  sizeBytes: number;
  /** Whether a NAR file can be read now; one that cannot waits for another pack. */
  isHeld(narFile: UnpackedNarFile): Promise<boolean>;
  signal: AbortSignal;
}

interface Planned {
  narFile: UnpackedNarFile;
  narInfos: { storeHash: StoreHash; text: Buffer; references: StoreHash[] }[];
}

/** Those that have waited longest, as many as fit. `undefined` when nothing waits that a pack can hold. Throws what the signal says. */
export async function planPack(options: PackPlanOptions): Promise<PackPlan | undefined> {
  const { nixStoreDir, signal } = options;
  const { planned, full } = await choose(options);
  if (planned.length === 0) return undefined;
  signal.throwIfAborted();
  const ordered = packOrder(
    planned.map((item) => ({
      item,
      storeHashes: item.narInfos.map(({ storeHash }) => storeHash),
      references: item.narInfos.flatMap(({ references }) => references),
    })),
  );
  await setImmediate();
  const narInfos = ordered.flatMap((item) => item.narInfos);
  const packed: PackedNarInfo[] = [];
  for (const { storeHash, text } of narInfos) {
    const sha256 = sha256FromDigest(hash('sha256', text, 'buffer'));
    packed.push({ storeHash, sha256, sizeBytes: text.length });
    if (packed.length % turnNarInfos === 0) await setImmediate();
  }
  const content: PackContent = {
    storeDir: nixStoreDir,
    narInfos: packed,
    narFiles: ordered.map(({ narFile: { entry } }) => {
      const { fileHash, fileSize, compression } = entry;
      return { fileHash, fileSize, compression };
    }),
  };
  const meta = Buffer.concat([Buffer.from(packCacheInfo(nixStoreDir)), ...narInfos.map(({ text }) => text)]);
  return { content, meta, full, narFiles: ordered.map(({ narFile }) => narFile) };
}

async function choose(options: PackPlanOptions): Promise<{ planned: Planned[]; full: boolean }> {
  const { catalog, batch, sizeBytes, isHeld, signal } = options;
  const planned: Planned[] = [];
  let bytes = 0;
  let metaBytes = 0;
  // nix-cache-info is one.
  let files = 1;
  let last: UnpackedNarFile | undefined;
  // One that is put off comes again at the end.
  const seen = new Set<number>();
  for (;;) {
    const page = catalog.packs.unpacked(last, turnNarFiles);
    for (const narFile of page) {
      if (seen.has(narFile.id)) continue;
      seen.add(narFile.id);
      const narInfos = narInfosFor(catalog, narFile);
      if (narInfos.length === 0) {
        await batch.run(() => catalog.packs.leaveOut(narFile));
        continue;
      }
      const metaSize = narInfos.reduce((sum, { text }) => sum + text.length, 0);
      const fits = files + narInfos.length + 1 <= packFilesMax && metaBytes + metaSize <= metaMaxBytes;
      if (bytes >= sizeBytes || !fits) return { planned, full: true };
      if (!(await isHeld(narFile))) continue;
      planned.push({ narFile, narInfos });
      bytes += narFile.entry.fileSize + metaSize;
      metaBytes += metaSize;
      files += narInfos.length + 1;
    }
    last = page.at(-1);
    if (last === undefined) return { planned, full: bytes >= sizeBytes };
    await setImmediate();
    signal.throwIfAborted();
  }
}

function narInfosFor(catalog: Catalog, narFile: UnpackedNarFile): Planned['narInfos'] {
  return catalog.packs.narInfos(narFile, narInfosPerNarFile).flatMap(({ storeHash, text }) => {
    try {
      const packed = packNarInfo(text, narFile.entry);
      const references = parseNarInfo(packed).references.map(storeHashOf);
      return [{ storeHash, text: Buffer.from(packed), references }];
    } catch (error) {
      // Too long for a pack.
      if (isNarswarmError(error, 'narinfo-corrupt')) return [];
      throw error;
    }
  });
}
