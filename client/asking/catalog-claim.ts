/**
 * What a catalog said of one NAR file, as it came. Its signature is verified, its torrent parsed and kept, when somebody wants the torrent: most
 * small NAR files are fetched without, as FileHash alone tells whether their bytes are right, and a thousand signatures take a tenth of a second of
 * a processor that has Nix to answer.
 */

import { verifyTorrentInfo } from '../../catalog/torrentinfo.ts';
import type { NarswarmError } from '../../nar/errors.ts';
import { isNarswarmError } from '../../nar/errors.ts';
import type { PublicKey } from '../../nar/signature.ts';
import { checkLine, type ReadLine, type Resolved } from '../../parts/resolved.ts';

export interface ClaimOptions {
  /** Of the catalog. */
  url: string;
  /** Told once when it turns out to be good: after that its text is not needed here. */
  onGood(resolved: Resolved): void;
  /** Told once when it turns out to be none. */
  onRefused(error: NarswarmError): void;
}

export class Claim {
  readonly url: string;
  readonly #options: ClaimOptions;
  /** Until it is looked at. */
  #line: ReadLine | undefined;
  #resolved: Pick<Resolved, 'torrent' | 'torrentInfo'> | undefined;

  constructor(line: ReadLine, options: ClaimOptions) {
    this.url = options.url;
    this.#line = line;
    this.#options = options;
  }

  /** Nobody has looked at it yet. */
  get unread(): boolean {
    return this.#line !== undefined;
  }

  /** The torrent and what was signed, or `undefined` when it is no good. `again`: verified before, perhaps by keys that are not trusted any more. */
  resolved(
    keys: readonly PublicKey[],
    again: boolean,
  ): Pick<Resolved, 'torrent' | 'torrentInfo'> | undefined {
    const line = this.#line;
    if (line !== undefined) {
      this.#line = undefined;
      try {
        const resolved = checkLine(line, keys);
        const { torrent, torrentInfo } = resolved;
        this.#resolved = { torrent, torrentInfo };
        this.#options.onGood(resolved);
      } catch (error) {
        if (!isNarswarmError(error)) throw error;
        this.#options.onRefused(error);
      }
      return this.#resolved;
    }
    if (again && this.#resolved && verifyTorrentInfo(this.#resolved.torrentInfo, keys) === undefined)
      this.#resolved = undefined;
    return this.#resolved;
  }
}
