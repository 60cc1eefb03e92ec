/**
 * Whether others really have what they are said to have, before it goes here: of the NAR files of an eviction some are tried. Whoever says
 * that it holds everything may have lost it, or may never have had it.
 */

import { isNarswarmError } from '../nar/errors.ts';
import type { Sha256 } from '../nar/hash.ts';
import { TorrentFetch } from '../swarm/fetch/fetcher.ts';
import { pieceCount } from '../swarm/torrent/torrent.ts';
import type { MirrorCatalog } from './catalogs.ts';
import type { Found, Resolver } from './resolver.ts';

/** Of one eviction: who lies about half of it is found out by five with 31 in 32. */
const samplesMax = 5;
/** Milliseconds for a piece of one of them from anybody. */
const trialMs = 20_000;

export interface ClaimedCopy {
  readonly catalog: MirrorCatalog;
  readonly fileHash: Sha256;
}

export interface CopyCheckOptions {
  resolver: Pick<Resolver, 'resolve'>;
  /** Our own, as the servers name us, too: whoever shows it is no other. */
  peerId: Buffer;
  /** Between 0 and 1. */
  random(): number;
}

export class CopyCheck {
  readonly #options: CopyCheckOptions;

  constructor(options: CopyCheckOptions) {
    this.#options = options;
  }

  /** One of some random ones of which nobody gave a piece; `undefined` when each of those could be had. */
  async findFalse(claims: readonly ClaimedCopy[], signal: AbortSignal): Promise<ClaimedCopy | undefined> {
    const left = [...claims];
    for (let count = 0; count < samplesMax && left.length > 0; count++) {
      const [claim] = left.splice(Math.floor(this.#options.random() * left.length), 1);
      if (claim !== undefined && !(await this.#canBeHad(claim, signal))) return claim;
    }
    return undefined;
  }

  async #canBeHad({ catalog, fileHash }: ClaimedCopy, signal: AbortSignal): Promise<boolean> {
    const { resolver, random, peerId } = this.#options;
    try {
      const found: Found | undefined = (await resolver.resolve(catalog, [fileHash], signal)).get(fileHash);
      if (found === undefined) return false;
      const { torrent, peers } = found;
      const fetch = new TorrentFetch({
        torrent,
        peerId,
        fromByte: Math.floor(random() * pieceCount(torrent)) * torrent.pieceLength,
        stallMs: trialMs,
        signal: AbortSignal.any([signal, AbortSignal.timeout(trialMs)]),
        limits: { aheadBytes: 0, leastBytesPerSecond: 0 },
      });
      fetch.addPeers(peers);
      fetch.noMorePeers();
      for await (const _ of fetch) return true;
      return false;
    } catch (error) {
      if (signal.aborted || !isNarswarmError(error)) throw error;
      return false;
    }
  }
}
