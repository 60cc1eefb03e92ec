/**
 * Looks up what Nix will ask about next, in the views that are held here: the paths that a path references, and what those do, without any
 * network. So the catalogs are asked about a whole closure at once.
 */

import { setImmediate } from 'node:timers/promises';
import { isNarswarmError } from '../../nar/errors.ts';
import type { Sha256 } from '../../nar/hash.ts';
import { parseStoreHash, type StoreHash } from '../../nar/store-path.ts';
import type { Views } from '../narinfo/views.ts';

/** Paths between which others get their turn: 2 ms. */
const turnPaths = 32;

/** Paths remembered as walked. */
const walkedMax = 10_000;

export interface AheadWalkOptions {
  views: Pick<Views, 'narInfo'>;
  /** Paths that one walk looks up at most, the nearest ones: Nix leaves out what it has, and that is not known here. */
  pathsMax: number;
  /** A path of the closure was found. */
  onPath(fileHash: Sha256): void;
}

export class AheadWalk {
  readonly #options: AheadWalkOptions;
  readonly #walked = new Set<StoreHash>();
  #queue: StoreHash[] = [];
  #left: number;
  #running: Promise<void> | undefined;
  #closed = false;

  constructor(options: AheadWalkOptions) {
    this.#options = options;
    this.#left = options.pathsMax;
  }

  /** Nix has asked about a path. Its references cost nothing when they were walked before, and are not asked for when that is all. */
  from(storeHash: StoreHash, references: () => readonly StoreHash[]): void {
    if (this.#left <= 0 || this.#closed) return;
    this.#note(storeHash);
    for (const each of references()) if (!this.#walked.has(each)) this.#queue.push(each);
    if (this.#queue.length > 0) this.#running ??= this.#run();
  }

  /** Nix has done something else for a while: the next walk may be as long as the first. */
  begin(): void {
    this.#left = this.#options.pathsMax;
    this.#walked.clear();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    try {
      // Not while Nix waits for the narinfo that it begins at.
      await setImmediate();
      while (this.#queue.length > 0 && this.#left > 0 && !this.#closed) {
        const level = this.#queue;
        this.#queue = [];
        for (const storeHash of level) {
          if (this.#left <= 0 || this.#closed || this.#walked.has(storeHash)) continue;
          this.#left--;
          this.#note(storeHash);
          this.#queue.push(...this.#look(storeHash));
          if (this.#left % turnPaths === 0) await setImmediate();
        }
      }
    } finally {
      this.#queue = [];
      this.#running = undefined;
    }
  }

  /** What a path references, if a view has it. */
  #look(storeHash: StoreHash): StoreHash[] {
    let found: { text: string; fileHash: Sha256 } | undefined;
    try {
      found = this.#options.views.narInfo(storeHash);
    } catch (error) {
      // Whoever answers Nix meets it again, and says so.
      if (!isNarswarmError(error)) throw error;
    }
    if (found === undefined) return [];
    this.#options.onPath(found.fileHash);
    const names = /^References: (.*)$/m.exec(found.text)?.[1]?.split(' ') ?? [];
    return names.flatMap((name) => storeHashIn(name) ?? []).filter((each) => !this.#walked.has(each));
  }

  #note(storeHash: StoreHash): void {
    this.#walked.add(storeHash);
    const oldest = this.#walked.values().next();
    if (this.#walked.size > walkedMax && !oldest.done) this.#walked.delete(oldest.value);
  }
}

/** A view holds what the catalog took in, but nothing is asked of it here. */
function storeHashIn(name: string): StoreHash | undefined {
  try {
    return parseStoreHash(name.slice(0, 32));
  } catch {
    return undefined;
  }
}
