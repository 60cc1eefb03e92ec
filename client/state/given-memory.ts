/** Narinfos that were given out and are in memory: the last ones, as many as there is room for. */

import type { StoreHash } from '../../nar/store-path.ts';
import type { GivenNarInfo } from './given.ts';
import type { Place } from './given-journal.ts';

export interface Entry {
  readonly storeHash: StoreHash;
  readonly urlKey: string;
  /** In microseconds since 1970, ascending. */
  readonly used: number;
  /** While it is in memory. */
  given: GivenNarInfo | undefined;
  /** In the journal, once it is there. */
  place: Place | undefined;
}

export class GivenMemory {
  readonly #most: number;
  readonly #mostCharacters: number;
  #entries: Entry[] = [];
  #characters = 0;

  constructor(most: number, mostCharacters: number) {
    this.#most = most;
    this.#mostCharacters = mostCharacters;
  }

  /** The oldest, for which there is no more room. */
  add(entries: readonly Entry[]): Entry[] {
    this.#entries.push(...entries);
    for (const entry of entries) this.#characters += charactersOf(entry);
    let count = 0;
    for (const entry of this.#entries) {
      if (this.#entries.length - count <= this.#most && this.#characters <= this.#mostCharacters) break;
      this.#characters -= charactersOf(entry);
      count++;
    }
    return count === 0 ? [] : this.#entries.splice(0, count);
  }

  clear(): void {
    this.#entries = [];
    this.#characters = 0;
  }
}

function charactersOf({ given }: Entry): number {
  return given?.narInfo.text.length ?? 0;
}
