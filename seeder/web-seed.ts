/**
 * The seeder as a web seed of its torrents (BEP 19), under the same policy as its uploads to peers.
 *
 * Programs prefer a web seed to every peer. Named to all, each of them would fetch a whole copy from here; so it is named while a
 * torrent is free to leave, counts as a copy, and says no afterwards. Nix asks for the same files without the mark, and is never refused.
 */

import type { NarFileEntry } from '../catalog/catalog.ts';
import type { SeedServer } from '../swarm/seed/seed-server.ts';
import type { Torrent } from '../swarm/torrent/torrent.ts';

/** At the end of the URLs in .torrent files. */
const mark = '?web-seed';

/** Seconds after which a refused program may ask again: torrents that lose their seeds are free again after about as long. */
export const webSeedRetrySeconds = 600;

type Upload = Pick<SeedServer, 'isUploadFree' | 'uploadedElsewhere'>;

export class WebSeed {
  readonly #upload: Upload;

  constructor(upload: Upload) {
    this.#upload = upload;
  }

  /** For the .torrent of a NAR file; none while its upload is held back. */
  urls(publicUrl: string, { infoHash, length, name }: Torrent): string[] {
    return this.#upload.isUploadFree(infoHash, length) ? [`${publicUrl}/nar/${name}${mark}`] : [];
  }

  /** The request target that is meant, and whether a web seed is asked. */
  parse(target: string): { target: string; asWebSeed: boolean } {
    const asWebSeed = target.endsWith(mark);
    return { target: asWebSeed ? target.slice(0, -mark.length) : target, asWebSeed };
  }

  isFree({ infoHash, fileSize }: NarFileEntry): boolean {
    return this.#upload.isUploadFree(infoHash, fileSize);
  }

  sent({ infoHash, fileSize }: NarFileEntry, bytes: number): void {
    this.#upload.uploadedElsewhere(infoHash, fileSize, bytes);
  }
}
