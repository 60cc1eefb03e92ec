/** Packs for the seed server: put together from held NAR files when a peer asks for one. */

import { open } from 'node:fs/promises';
import { NarswarmError } from '../nar/errors.ts';
import type { InfoHash } from '../nar/hash.ts';
import { diskError } from '../store/disk-error.ts';
import { heldPieces, type JoinedFiles, type JoinedPart, joinedHandle } from '../swarm/seed/joined-files.ts';
import type { OpenFiles, ReadableFile } from '../swarm/seed/open-files.ts';
import type { SeedHandle, SeedSource } from '../swarm/seed/seed-server.ts';
import { packTorrentOf } from '../swarm/torrent/pack-torrent.ts';
import type { Torrent } from '../swarm/torrent/torrent.ts';
import type { Holdings } from './holdings.ts';
import { narFilesOf, type Packs } from './packs.ts';
import type { MirrorState } from './state.ts';

/** NAR files that are given at once. */
const pageParts = 128;

export interface MirrorPackSourceOptions {
  packs: Packs;
  state: MirrorState;
  holdings: Holdings;
  /** Shared by all packs. */
  openFiles: OpenFiles;
}

export class MirrorPackSource implements SeedSource {
  readonly #options: MirrorPackSourceOptions;
  #handles = 0;

  constructor(options: MirrorPackSourceOptions) {
    this.#options = options;
  }

  mayHold(infoHash: InfoHash): boolean {
    return this.#options.packs.has(infoHash);
  }

  async torrent(infoHash: InfoHash): Promise<Torrent | undefined> {
    const { packs } = this.#options;
    const kept = packs.get(infoHash);
    if (kept === undefined) return undefined;
    const info = await packs.info(infoHash);
    const last = narFilesOf(kept.pack).at(-1);
    const length = (last?.offset ?? 0) + (last?.sizeBytes ?? 0);
    return packTorrentOf({ infoHash, length, info: { lengthBytes: info.length, read: () => info } });
  }

  async open(infoHash: InfoHash): Promise<SeedHandle | undefined> {
    const { packs, openFiles } = this.#options;
    const kept = packs.get(infoHash);
    const torrent = await this.torrent(infoHash);
    if (kept === undefined || torrent === undefined) return undefined;
    const parts = this.#partsOf(infoHash, narFilesOf(kept.pack));
    const files: JoinedFiles = { torrent, parts: (from, to) => partsWithin(parts, from, to) };
    const pieces = await heldPieces(files);
    this.#handles++;
    return joinedHandle(files, pieces, openFiles, async () => {
      if (--this.#handles === 0) await openFiles.closeIdle();
    });
  }

  #partsOf(infoHash: InfoHash, narFiles: ReturnType<typeof narFilesOf>): JoinedPart[] {
    const { packs, state, holdings } = this.#options;
    const metaBytes = narFiles[0]?.offset ?? 0;
    const meta: JoinedPart = {
      offset: 0,
      sizeBytes: metaBytes,
      key: infoHash,
      open: () => openWhole(packs.metaPath(infoHash), metaBytes),
    };
    const others = narFiles.map(({ fileHash, offset, sizeBytes }): JoinedPart => {
      const openHeld = async (): Promise<ReadableFile> => {
        const row = state.held(fileHash);
        const handle = row && (await holdings.open(row));
        if (handle === undefined)
          throw new NarswarmError('not-held', `NAR file ${fileHash} is not held any more`);
        return handle;
      };
      return { offset, sizeBytes, key: fileHash, open: openHeld };
    });
    return [meta, ...others];
  }
}

/** From the part that holds byte `from` on; none that begins at `to` or after it. */
function partsWithin(parts: readonly JoinedPart[], from: number, to: number): readonly JoinedPart[] {
  let [low, high] = [0, parts.length - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if ((parts[middle]?.offset ?? 0) <= from) low = middle;
    else high = middle - 1;
  }
  return parts.slice(low, low + pageParts).filter(({ offset }) => offset < to);
}

async function openWhole(path: string, sizeBytes: number): Promise<ReadableFile> {
  try {
    const file = await open(path, 'r');
    return {
      async read(position, lengthBytes) {
        const { buffer, bytesRead } = await file.read(
          Buffer.allocUnsafe(lengthBytes),
          0,
          lengthBytes,
          position,
        );
        if (bytesRead !== lengthBytes || position + lengthBytes > sizeBytes)
          throw new NarswarmError('not-held', 'the narinfos of a pack became shorter');
        return buffer;
      },
      close: () => file.close(),
    };
  } catch (cause) {
    throw diskError(`open ${path}`, cause);
  }
}
