/**
 * What local service discovery says again, unasked: packets get lost, and who listens may have come later.
 *
 * BEP 14 wants an announce of every torrent each five minutes, and no more than one a minute in all, so that there are five packets for everything. What
 * is fetched comes first, and what was kept last takes the rest.
 */

import type { InfoHash } from '../../nar/hash.ts';

export interface LocalRepeatLimits {
  /** Milliseconds after which a torrent is said again, and from one packet that was not asked for to the next: fixed by the BEP. */
  againMs: number;
  packetMs: number;
  /** Infohashes of one packet. */
  packetInfoHashes: number;
}

/** In what this machine takes part at a moment, the most wanted first. */
export interface LocalShares {
  fetched: readonly InfoHash[];
  kept: readonly InfoHash[];
}

export interface LocalRepeat {
  /** What is fetched is asked for again, and by that announced. */
  word: 'ask' | 'have';
  infoHashes: InfoHash[];
}

export class LocalRepeats {
  readonly #limits: LocalRepeatLimits;
  /** When each of those that are shared was said last. */
  #said = new Map<InfoHash, number>();
  #lookedMs: number;

  constructor(limits: LocalRepeatLimits, nowMs: number) {
    this.#limits = limits;
    this.#lookedMs = nowMs;
  }

  /** It was said, for whatever reason. */
  said(infoHash: InfoHash, nowMs: number): void {
    if (this.#said.has(infoHash)) this.#said.set(infoHash, nowMs);
  }

  /**
   * The packet of this moment, if there is one. `sharesOf` is called no more often than packets may leave, with how many torrents are said again at all;
   * those which came since the last call were said when they came.
   */
  next(sharesOf: (torrentsMax: number) => LocalShares, nowMs: number): LocalRepeat | undefined {
    const { againMs, packetMs, packetInfoHashes } = this.#limits;
    if (nowMs - this.#lookedMs < packetMs) return undefined;
    this.#lookedMs = nowMs;
    const torrentsMax = Math.floor(againMs / packetMs) * packetInfoHashes;
    const { fetched, kept } = sharesOf(torrentsMax);
    const all = [...new Set([...fetched, ...kept])].slice(0, torrentsMax);
    this.#said = new Map(all.map((infoHash) => [infoHash, this.#said.get(infoHash) ?? nowMs]));
    // The one that has waited longest first, or those in front would be said again before the last.
    const due = [...this.#said]
      .filter(([, saidMs]) => nowMs - saidMs >= againMs)
      .sort(([, a], [, b]) => a - b)
      .map(([infoHash]) => infoHash);
    const asks = due.filter((infoHash) => fetched.includes(infoHash));
    const infoHashes = (asks.length > 0 ? asks : due).slice(0, packetInfoHashes);
    // Also when others have just said it, and it is left out: it must not stand before the rest for ever.
    for (const infoHash of infoHashes) this.#said.set(infoHash, nowMs);
    return infoHashes.length > 0 ? { word: asks.length > 0 ? 'ask' : 'have', infoHashes } : undefined;
  }
}
