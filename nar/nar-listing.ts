/** Lists what is in a NAR, in the form of the `.ls` files that Nix writes beside narinfos (`write-nar-listing`). */

import { NarswarmError } from './errors.ts';
import { NarReader } from './nar-reader.ts';

/** The largest outputs have some 100,000 files; a listing of a million takes about 300 MB. */
export const narListingMaxEntries = 1_000_000;

export type NarNode =
  | { type: 'regular'; size: number; executable?: true; narOffset: number }
  | { type: 'symlink'; target: string }
  | { type: 'directory'; entries: Record<string, NarNode> };

export interface NarListing {
  version: 1;
  root: NarNode;
}

/** A NarReader that keeps what it read of. `write` throws `nar-corrupt` for a NAR with too many entries, too. */
export class NarLister {
  readonly #reader: NarReader;
  readonly #directories = new Map<string, Record<string, NarNode>>();
  #root: NarNode | undefined;
  #entries = 0;

  constructor() {
    this.#reader = new NarReader({
      directory: (path) => {
        // Without a prototype: a file may be called __proto__.
        const entries: Record<string, NarNode> = Object.create(null);
        this.#directories.set(path, entries);
        this.#put(path, { type: 'directory', entries });
      },
      regular: (path, size, executable, narOffset) => {
        this.#put(path, { type: 'regular', size, ...(executable ? { executable } : {}), narOffset });
      },
      symlink: (path, target) => this.#put(path, { type: 'symlink', target }),
    });
  }

  write(chunk: Uint8Array): void {
    this.#reader.write(chunk);
  }

  /** Throws `nar-truncated` unless the NAR is whole. */
  finish(): NarListing {
    this.#reader.end();
    if (this.#root === undefined) throw new NarswarmError('nar-truncated', 'the NAR is empty');
    return { version: 1, root: this.#root };
  }

  #put(path: string, node: NarNode): void {
    if (++this.#entries > narListingMaxEntries) {
      const offset = this.#reader.offset;
      throw new NarswarmError('nar-corrupt', `more than ${narListingMaxEntries} entries`, { offset });
    }
    const slash = path.lastIndexOf('/');
    const parent = path === '' ? undefined : this.#directories.get(slash < 0 ? '' : path.slice(0, slash));
    if (parent === undefined) this.#root = node;
    else parent[path.slice(slash + 1)] = node;
  }
}
