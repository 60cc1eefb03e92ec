/**
 * Whether a store path can be had from here with all that it needs: a narinfo is answered only then. Nix asks for the narinfos of a whole
 * closure before it fetches any of it, and one that is missing somewhere below would make it fail when it can no longer turn elsewhere.
 */

import { setImmediate } from 'node:timers/promises';
import type { Sha256 } from '../nar/hash.ts';
import type { MirrorCatalog } from './catalogs.ts';
import type { MirrorState } from './state.ts';

/** NAR files that are remembered as whole, 100 bytes each. */
const rememberedMax = 200_000;
/** NAR files looked at between two turns of others: some milliseconds. */
const turnFiles = 64;

export class Wholeness {
  readonly #catalogs: readonly MirrorCatalog[];
  readonly #state: MirrorState;
  /** Held with everything they need. Emptied whenever something goes or a catalog changes. */
  #whole = new Set<Sha256>();

  constructor(catalogs: readonly MirrorCatalog[], state: MirrorState) {
    this.#catalogs = catalogs;
    this.#state = state;
  }

  /** Something is no longer held, or a catalog says something else. */
  forget(): void {
    this.#whole = new Set();
  }

  async isWhole(fileHash: Sha256): Promise<boolean> {
    const remembered = this.#whole;
    const seen = new Set<Sha256>([fileHash]);
    const waiting = [fileHash];
    let looked = 0;
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      if (remembered.has(next)) continue;
      if (!this.#state.isHeld(next)) return false;
      const needed = this.#neededBy(next);
      if (needed === undefined) return false;
      for (const each of needed) {
        if (seen.has(each)) continue;
        seen.add(each);
        waiting.push(each);
      }
      if (++looked % turnFiles === 0) await setImmediate();
    }
    if (remembered.size + seen.size > rememberedMax) remembered.clear();
    for (const each of seen) remembered.add(each);
    return true;
  }

  /** NAR files of what its paths reference; what no catalog has comes from elsewhere. `undefined` when one of them was revoked. */
  #neededBy(fileHash: Sha256): Sha256[] | undefined {
    const needed: Sha256[] = [];
    for (const catalog of this.#catalogs) {
      for (const storeHash of catalog.referencesOf(fileHash)) {
        let known = false;
        let found: Sha256 | undefined;
        for (const { followed } of this.#catalogs) {
          const narInfo = followed.narInfo(storeHash);
          if (narInfo === undefined) continue;
          known = true;
          if (followed.revoked(narInfo.fileHash) !== undefined) continue;
          // Of two that have it, the one that is held.
          if (found === undefined || this.#state.isHeld(narInfo.fileHash)) found = narInfo.fileHash;
        }
        if (found !== undefined) needed.push(found);
        else if (known) return undefined;
      }
    }
    return needed;
  }
}
