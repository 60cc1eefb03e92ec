/** Several sources of torrents as one. */

import type { InfoHash } from '../../nar/hash.ts';
import type { SeedSource } from './open-torrents.ts';

/** The first source that may hold a torrent has it. */
export function eitherSource(...sources: readonly SeedSource[]): SeedSource {
  const holder = (infoHash: InfoHash): SeedSource | undefined =>
    sources.find((each) => each.mayHold(infoHash));
  return {
    mayHold: (infoHash) => holder(infoHash) !== undefined,
    async open(infoHash) {
      return holder(infoHash)?.open(infoHash);
    },
  };
}
